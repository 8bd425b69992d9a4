"""Input batches: the images on which a network is scored.

Algorithm 1 of the paper draws images of the data set, so comparisons with the paper use `cifar10` and `imagenet`. A kind
whose files cannot be read is an error. It is never replaced by another kind.
"""

from dataclasses import dataclass
from functools import cache
import math
from pathlib import Path
import tarfile

from jaxtyping import Float, Int, UInt8
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ncdlib import benchmarks

Whole = int | np.integer  # a whole number, which may come from a table
KINDS = ("gaussian", "patches", "digits", "cifar10", "imagenet")
SIZES = {"digits": 1797, "cifar10": 1000, "imagenet": 128}  # images that a batch is drawn from; the other kinds are endless
PHOTOGRAPHS = "imagenet-sample/"  # the folder of `imagenet` in the data folder
FORMATS = ("JPEG", "PNG", "PPM", "BMP", "WEBP", "TIFF")  # no EPS, which would run an interpreter


@dataclass(frozen=True)
class Tensors:
    """Images of one size in memory, and their classes."""

    images: UInt8[Tensor, "n 3 h w"]
    labels: Int[Tensor, " n"]


def batch(
    kind: str = "gaussian", n: Whole = 32, seed: Whole = 0, resolution: Whole = 32
) -> Float[Tensor, "n 3 resolution resolution"]:
    """A batch of images, each channel with mean 0 and variance 1 over the source, decided by `seed`.

    - `gaussian`: N(0, 1), independent pixels; no data at all.
    - `patches`: random square crops of the two photographs that scikit-learn ships (427 x 640 pixels).
    - `digits`: scikit-learn's 8 x 8 handwritten digits, enlarged, the same in every channel.
    - `cifar10`: the first 1,000 training images of CIFAR-10 (Krizhevsky 2009).
    - `imagenet`: 128 photographs, one each of 128 classes of ImageNet (github.com/EliSchwartz/imagenet-sample-images):
      shorter side resized, centre cropped, with a box filter up to 16 pixels, as ImageNet16-120 was made, and an
      antialiased bilinear one above.

    No image is drawn twice in a batch, patches aside. Files are fetched on first use. Raises ValueError for arguments that
    are out of range and for a file that is not as published, `benchmarks.MissingData` for an absent file that cannot be
    downloaded.
    """
    _check(kind, seed=seed, n=n, resolution=resolution)
    rng = np.random.default_rng(seed)
    if kind == "gaussian":
        return torch.from_numpy(rng.standard_normal((n, 3, resolution, resolution), dtype=np.float32))
    if kind == "patches":
        return _crops(_patches(), n, resolution, rng)
    source = _photographs(resolution) if kind == "imagenet" else _labelled(kind)[0]
    images = source[rng.choice(len(source), n, replace=False)].expand(-1, 3, -1, -1)
    if resolution != images.shape[-1]:
        images = interpolate(images, size=(resolution, resolution), mode="bilinear", antialias=True)
    return images.contiguous()


def labels(kind: str = "gaussian", n: Whole = 32, seed: Whole = 0, classes: Whole = 10) -> Int[Tensor, " n"]:
    """The classes of the images that `batch` gives for the same kind, n and seed.

    Digits and CIFAR-10 have their true classes; ValueError where a network has fewer. The labels of other images are drawn,
    uniform over `classes`.
    """
    _check(kind, seed=seed, n=n, classes=classes)
    if kind not in ("digits", "cifar10"):
        return torch.from_numpy(np.random.default_rng((seed, 1)).integers(classes, size=n))  # not the pixels' own draws
    if classes < 10:
        raise ValueError(f"{kind} has 10 classes, the network {classes}: build it with 10, or use gaussian images")
    _, source = _labelled(kind)
    return source[np.random.default_rng(seed).choice(len(source), n, replace=False)]  # as in `batch`


def read_cifar(raw: bytes, label_bytes: int, name: str) -> Tensors:
    """Records of CIFAR's binary form: label bytes, the last of them the class, and 3,072 pixels. ValueError names `name`."""
    length = label_bytes + 3072
    if not raw or len(raw) % length:
        raise ValueError(f"{name} holds no whole records of {length} bytes: it is not as published")
    records = torch.from_numpy(np.frombuffer(raw, np.uint8).reshape(-1, length).copy())
    return Tensors(records[:, label_bytes:].reshape(-1, 3, 32, 32), records[:, label_bytes - 1].to(torch.int64))


def archived(path: str | Path, part: str) -> bytes:
    """The files of a tar archive whose names hold `part`, one after another."""
    try:
        with tarfile.open(path) as archive:
            names = sorted(name for name in archive.getnames() if part in name)
            return b"".join(archive.extractfile(name).read() for name in names)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"{path} cannot be read as an archive ({error}): remove it and fetch it again") from error


def opened(path: Path, resolution: Whole | None = None) -> UInt8[Tensor, "3 _ _"]:
    """An image file as bytes, in colour; with `resolution`, its shorter side resized to it and its centre cropped."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path, formats=FORMATS) as image:
            image = image.convert("RGB")
            if resolution is not None:
                resampling = Image.Resampling.BOX if resolution <= 16 else Image.Resampling.BILINEAR
                image = ImageOps.fit(image, (resolution, resolution), resampling)
            pixels = np.array(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # cut short, no image, or too large
        raise ValueError(f"{path} cannot be read as an image: {error}") from error
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _check(kind: object, **numbers: object) -> None:
    if kind not in KINDS:
        raise ValueError(f"unknown input {kind!r}: use one of {', '.join(KINDS)}")
    for name, value in numbers.items():
        least = 0 if name == "seed" else 1
        if isinstance(value, bool) or not isinstance(value, Whole) or value < least:
            raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    if numbers["n"] > SIZES.get(kind, math.inf):
        raise ValueError(f"{kind} has {SIZES[kind]} images, fewer than a batch of {numbers['n']}")
    gigabytes = 12e-9 * numbers["n"] * int(numbers.get("resolution", 1)) ** 2
    if gigabytes > 1000:
        raise ValueError(f"{numbers['n']} such images take {gigabytes:,.0f} GB: choose fewer or smaller ones")


def _crops(photographs: Tensor, n: int, size: Whole, rng: np.random.Generator) -> Tensor:
    count, _, height, width = photographs.shape
    if size > height:
        raise ValueError(f"the photographs are {height} pixels high: a crop of {size} does not fit")
    which, top, left = (rng.integers(limit, size=n) for limit in (count, height - size + 1, width - size + 1))
    corners = zip(which, top, left, strict=True)
    return torch.stack([photographs[p, :, y : y + size, x : x + size] for p, y, x in corners])


@cache
def _patches() -> Float[Tensor, "2 3 427 640"]:
    from sklearn.datasets import load_sample_images  # slow to import, seldom needed

    return _standardised(torch.from_numpy(np.stack(load_sample_images().images)).permute(0, 3, 1, 2))


@cache
def _photographs(resolution: Whole) -> Float[Tensor, "128 3 r r"]:
    paths = [benchmarks.fetch(name) for name in benchmarks.files.names() if name.startswith(PHOTOGRAPHS)]
    return _standardised(torch.stack([opened(path, resolution) for path in paths]))


@cache
def _labelled(kind: str) -> tuple[Float[Tensor, "n c h w"], Int[Tensor, " n"]]:
    if kind == "digits":
        from sklearn.datasets import load_digits

        source = load_digits()
        return _standardised(torch.from_numpy(source.images).unsqueeze(1)), torch.from_numpy(source.target).to(torch.int64)
    name = "cifar10_first_1000.bin"
    if (benchmarks.folder() / name).exists():
        raw = benchmarks.fetch(name).read_bytes()
    else:
        raw = archived(benchmarks.fetch("cifar-10-binary.tar.gz"), "/data_batch_1.bin")[: SIZES[kind] * 3073]
    training = read_cifar(raw, 1, name)
    return _standardised(training.images), training.labels


def _standardised(images: Tensor) -> Tensor:
    images = images.to(torch.float32)
    mean = images.mean((0, 2, 3), keepdim=True)
    return (images - mean) / images.std((0, 2, 3), keepdim=True)
