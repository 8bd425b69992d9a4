"""A folder of images, for the tests of data and of the command."""

import numpy as np
from PIL import Image
import pytest


@pytest.fixture
def pictures(tmp_path):
    """An image folder of two classes, in colour and in grey."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 6), ("val", 3)):
        for c, name in enumerate(("cat", "dog")):
            (tmp_path / "pictures" / part / name).mkdir(parents=True)
            for i in range(count):
                shape = (32, 32, 3) if i % 2 else (32, 32)
                image = Image.fromarray((rng.integers(100, size=shape) + 150 * c).astype(np.uint8))
                image.save(tmp_path / "pictures" / part / name / f"{i}.png")
    return tmp_path / "pictures"
