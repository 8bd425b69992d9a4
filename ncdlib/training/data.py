"""Labelled images to train on: CIFAR-10 and CIFAR-100, a folder of images, and scikit-learn's digits."""

from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Int, UInt8
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.datasets import ImageFolder

from ncdlib import benchmarks
from ncdlib.images import Tensors, archived, opened, read_cifar

NAMES = ("digits", "cifar10", "cifar100")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Opened:
    """Image files that are opened when they are asked for, each at its own size."""

    paths: tuple[str, ...]

    def __getitem__(self, index: int) -> UInt8[Tensor, "3 _ _"]:
        return opened(Path(self.paths[index]))


@dataclass(frozen=True)
class Files:
    """Images in files, and their classes."""

    images: Opened
    labels: Int[Tensor, " n"]


@dataclass(frozen=True)
class Data:
    """Images to train and to validate on; `mean` and `std` of each channel, of pixels from 0 to 1."""

    name: str
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train: Tensors | Files
    valid: Tensors | Files

    def __post_init__(self) -> None:
        for part, split in {"training": self.train, "validation": self.valid}.items():
            if not len(split.labels):
                raise ValueError(f"{self.name} has no {part} images")
            if split.labels.min() < 0 or split.labels.max() >= self.classes:
                raise ValueError(f"{self.name}: the {part} labels must lie from 0 to {self.classes - 1}")


def get(name: str | Path) -> Data:
    """The data of a name, digits, cifar10 or cifar100, or else the image folder of this path."""
    if name in NAMES:
        return {"digits": digits, "cifar10": cifar10, "cifar100": cifar100}[name]()
    return image_folder(name)


def digits(train: int | None = None, valid: int | None = None) -> Data:
    """scikit-learn's 1,797 handwritten digits, enlarged from 8x8 to 32x32, the same in every channel: a small stand-in.

    A fifth of them, drawn once and for all, is for validation; `train` and `valid` take the first so many of each part.
    """
    from sklearn.datasets import load_digits  # slow to import, seldom needed

    source = load_digits()
    pixels = torch.from_numpy(source.images * (255 / 16)).float().unsqueeze(1)
    large = interpolate(pixels, size=(32, 32), mode="bilinear").round().to(torch.uint8).expand(-1, 3, -1, -1)
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(large)))
    first = len(large) - len(large) // 5
    parts = []
    for name, there, wanted in (("train", order[:first], train), ("valid", order[first:], valid)):
        if wanted is not None and not 1 <= wanted <= len(there):
            raise ValueError(f"{name} must lie from 1 to {len(there)}, the digits there are: got {wanted!r}")
        chosen = there[:wanted]
        parts.append(Tensors(large[chosen].contiguous(), torch.from_numpy(source.target)[chosen].to(torch.int64)))
    share = large[order[:first]][:, 0] / 255
    mean, std = (float(share.mean()),) * 3, (float(share.std()),) * 3
    return Data("digits", 10, mean, std, *parts)


def cifar10() -> Data:
    """CIFAR-10 (Krizhevsky 2009): 50,000 and 10,000 images of 32x32, downloaded on first use."""
    train, valid = _archive("cifar-10-binary.tar.gz", ("/data_batch_", "/test_batch"), 1)
    mean, std = (0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768)  # of DARTS's code
    return Data("cifar10", 10, mean, std, train, valid)


def cifar100() -> Data:
    """CIFAR-100 (Krizhevsky 2009) with its 100 fine classes, otherwise as CIFAR-10."""
    train, valid = _archive("cifar-100-binary.tar.gz", ("/train.bin", "/test.bin"), 2)
    mean, std = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)  # of RobustDARTS's code
    return Data("cifar100", 100, mean, std, train, valid)


def _archive(name: str, parts: tuple[str, str], label_bytes: int) -> list[Tensors]:
    """The training and the validation images of a binary archive without pickle."""
    path = benchmarks.fetch(name, progress=True)
    return [read_cifar(archived(path, part), label_bytes, f"{part} of {path}") for part in parts]


def image_folder(path: str | Path) -> Data:
    """Images in PATH/train/CLASS and PATH/val/CLASS, as ImageNet is unpacked; standardised by ImageNet's mean and std.

    Classes are numbered by the sorted names of the folders. Raises ValueError where a folder is not there or the classes
    differ, FileNotFoundError where a class has no image.
    """
    path = Path(path)
    for part in ("train", "val"):
        if not (path / part).is_dir():
            raise ValueError(
                f"{path} is neither one of {', '.join(NAMES)} nor a folder with train/CLASS and val/CLASS: "
                f"{path / part} is no folder"
            )
    folders = train, valid = ImageFolder(path / "train"), ImageFolder(path / "val")
    if only := sorted({*train.classes} ^ {*valid.classes}):
        has, lacks = ("train", "val") if only[0] in train.classes else ("val", "train")
        raise ValueError(f"{path / has} has the class {only[0]!r}, which {path / lacks} has not: both need the same classes")
    parts = [Files(Opened(tuple(name for name, _ in folder.samples)), torch.tensor(folder.targets)) for folder in folders]
    return Data(f"folder {path.resolve().name}", len(train.classes), IMAGENET_MEAN, IMAGENET_STD, *parts)
