"""What holds for every test."""

import os
from pathlib import Path

from beartype import BeartypeConf, beartype
from hypothesis import settings
from jaxtyping import install_import_hook

# Ground truth kept beside the checkout spares the downloads. Set before ncdlib is imported.
TABLES = Path(__file__).resolve().parents[2] / "shared" / "benchmarks" / "raw"
if TABLES.is_dir():
    os.environ.setdefault("NCDLIB_DATA_DIR", str(TABLES))

# The types and shapes in signatures are checked while the tests run; a whole number is a float too (PEP 484).
checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
install_import_hook("ncdlib", "conftest.checked")

import torch  # noqa: E402

torch.set_num_threads(1)

settings.register_profile("ncdlib", deadline=None, max_examples=30)
settings.load_profile("ncdlib")
