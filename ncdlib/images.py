"""Input batches: what a network looks at while it is scored."""

from functools import cache

from jaxtyping import Float, Int
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ncdlib import benchmarks, data

KINDS = ("gaussian", "patches", "digits", "cifar10")


def batch(
    kind: str = "gaussian", n: int = 32, seed: int = 0, resolution: int = 32, channels: int = 3
) -> Float[Tensor, "n channels resolution resolution"]:
    """A batch of images, each channel with mean 0 and variance 1 over the source, decided by `seed`.

    - `gaussian`: N(0, 1), independent pixels; no data at all.
    - `patches`: random square crops of the two photographs that scikit-learn ships (427 x 640 pixels).
    - `digits`: scikit-learn's 8 x 8 handwritten digits, enlarged, the same in every channel.
    - `cifar10`: training images of CIFAR-10 (Krizhevsky 2009), downloaded on first use.

    No image is drawn twice in a batch of digits or CIFAR-10.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown input {kind!r}: use one of {', '.join(KINDS)}")
    for name, value in {"n": n, "resolution": resolution, "channels": channels}.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
    rng = np.random.default_rng(seed)
    if kind == "gaussian":
        return torch.from_numpy(rng.standard_normal((n, channels, resolution, resolution), dtype=np.float32))
    if kind == "patches":
        return _crops(_photographs(), n, resolution, channels, rng)
    source, _ = _labelled(kind)
    images = source[_drawn(kind, len(source), n, rng)]
    if channels != images.shape[1]:
        if images.shape[1] != 1:
            raise ValueError(f"{kind} has {images.shape[1]} channels, not {channels}")
        images = images.expand(-1, channels, -1, -1)
    if resolution != images.shape[-1]:
        images = interpolate(images, size=(resolution, resolution), mode="bilinear", antialias=True)
    return images.contiguous()


def labels(kind: str = "gaussian", n: int = 32, seed: int = 0, classes: int = 10) -> Int[Tensor, " n"]:
    """The classes of the images that `batch` gives for the same kind, n and seed.

    Digits and CIFAR-10 have their true ones; ValueError where a network has fewer classes. Gaussian images and patches
    have none: theirs are drawn, uniform over `classes`.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown input {kind!r}: use one of {', '.join(KINDS)}")
    if kind not in ("digits", "cifar10"):
        return torch.from_numpy(np.random.default_rng((seed, 1)).integers(classes, size=n))  # not the pixels' own draws
    if classes < 10:
        raise ValueError(f"{kind} has 10 classes, the network {classes}: build it with 10, or use gaussian images")
    _, source = _labelled(kind)
    return source[_drawn(kind, len(source), n, np.random.default_rng(seed))]


def _drawn(kind: str, there: int, n: int, rng: np.random.Generator) -> Int[Tensor, " n"]:
    if n > there:
        raise ValueError(f"{kind} has {there} images, fewer than a batch of {n}")
    return torch.from_numpy(rng.choice(there, n, replace=False))


def _crops(photographs: Tensor, n: int, size: int, channels: int, rng: np.random.Generator) -> Tensor:
    count, depth, height, width = photographs.shape
    if size > height:
        raise ValueError(f"the photographs are {height} pixels high: a crop of {size} does not fit")
    if channels != depth:
        raise ValueError(f"the photographs have {depth} channels, not {channels}")
    which, top, left = (rng.integers(limit, size=n) for limit in (count, height - size + 1, width - size + 1))
    corners = zip(which, top, left, strict=True)
    return torch.stack([photographs[p, :, y : y + size, x : x + size] for p, y, x in corners])


@cache
def _photographs() -> Float[Tensor, "2 3 427 640"]:
    from sklearn.datasets import load_sample_images  # slow to import, seldom needed

    return _standardised(torch.from_numpy(np.stack(load_sample_images().images)).permute(0, 3, 1, 2))


@cache
def _labelled(kind: str) -> tuple[Float[Tensor, "n c h w"], Int[Tensor, " n"]]:
    if kind == "digits":
        from sklearn.datasets import load_digits

        source = load_digits()
        return _standardised(torch.from_numpy(source.images).unsqueeze(1)), torch.from_numpy(source.target).to(torch.int64)
    training = data.read_cifar(benchmarks.fetch("cifar-10-binary.tar.gz"), "/data_batch_", label_bytes=1)
    return _standardised(training.images), training.labels


def _standardised(images: Tensor) -> Tensor:
    images = images.to(torch.float32)
    mean = images.mean((0, 2, 3), keepdim=True)
    return (images - mean) / images.std((0, 2, 3), keepdim=True)
