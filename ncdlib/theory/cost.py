"""The multiplications of a convolution, and how many of them SAM makes unnecessary (Eq. 8 and 9, App. A.3)."""

import math
from typing import NamedTuple

from jaxtyping import Float, Int, Shaped
import torch
from torch import Tensor
from torch.nn.functional import conv2d, fold

from ncdlib import masking
from ncdlib.theory.means import Activations, Shape, Weight, windows

# The dimensions of (n, c_in, h, w) that share one draw of SAM's mask, see masking.masked.
SHARED = {"sample": (), "shared": (0,), "channel": (2, 3), "channel_shared": (0, 2, 3)}


def cost(kernel: int, channels: int, alpha: float = 0.0) -> float:
    """Multiplications for one output value: R = d_k^2 c_in (Eq. 8), and (1 - alpha) R under SAM (Eq. 9), an expectation.

    It is saved only by code that skips zeros, which a dense convolution does not.
    """
    masking.check(alpha, "sample")
    return (1 - alpha) * kernel**2 * channels


class Multiplications(NamedTuple):
    """Multiplications of a convolution for a whole batch."""

    nonzero: int  # by an input that is not zero
    inside: int  # by an input, zero or not, but no padding
    total: int  # Eq. 8 times the number of output values


def nonzero_multiplications(
    masked_input: Shaped[Tensor, "n c_in h w"], weight_shape: Shape, padding: int = 0, stride: int = 1
) -> Multiplications:
    """Count, exactly, the multiplications whose input is not zero.

    An input is zero because SAM masked it, because a ReLU did or because it is padding. Given the mask itself, `nonzero`
    is what the mask keeps, of `inside`; given masked activations, what is kept and not zero, of the `nonzero` of the
    activations before masking. Eq. 9's share, 1 - alpha, is expected of both; of `total` only without padding and zeros.
    """
    readers, positions = _readers(masked_input, weight_shape, padding, stride)
    everywhere = int(readers.sum()) * len(masked_input) * weight_shape[1]
    total = len(masked_input) * positions * math.prod(weight_shape)
    return Multiplications(int(((masked_input != 0) * readers).sum()), everywhere, total)


def expected_multiplications(
    x: Activations, weight_shape: Shape, alpha: float, padding: int = 0, stride: int = 1, mask: str = "sample"
) -> tuple[float, float]:
    """Mean and standard deviation of `nonzero` after SAM masks x: Eq. 9 with its sampling error.

    A draw M ~ Bernoulli(1 - alpha) decides all r multiplications that read what it masks. The number of draws kept is
    binomial; the number of multiplications, sum of r M, has mean (1 - alpha) sum of r and variance alpha (1 - alpha) sum of
    r^2. Multiplications taken for independent would have sum of r there, too small by the order of C K^2 / s^2.
    """
    masking.check(alpha, mask)
    readers, _ = _readers(x, weight_shape, padding, stride)
    r = ((x != 0) * readers).double()
    r = r.sum(SHARED[mask]) if SHARED[mask] else r  # no dimensions would mean all
    return (1 - alpha) * r.sum().item(), math.sqrt(alpha * (1 - alpha) * r.square().sum().item())


def kept_channels_conv2d(
    x: Float[Tensor, "n c_in h w"],
    weight: Weight,
    kept: Int[Tensor, "rows k"],
    padding: int = 0,
    stride: int = 1,
) -> Float[Tensor, "n c_out h_out w_out"]:
    """The convolution of x with every channel masked but the `kept`, in code that does skip the zeros of Eq. 9.

    `kept` has one row for the batch, or one for each image: the indices of k different channels. It is a smaller dense
    convolution of k c_out K^2 multiplications per position; with one row per image, one convolution of n groups.
    """
    if len(kept) == 1:
        return conv2d(x[:, kept[0]], weight[:, kept[0]], None, stride, padding)
    (n, k), c_out = kept.shape, len(weight)
    if n != len(x):
        raise ValueError(f"kept must have one row, or one for each of the {len(x)} images: got {n}")
    images = x[torch.arange(n, device=x.device)[:, None], kept].reshape(1, n * k, *x.shape[2:])
    weights = weight[:, kept].transpose(0, 1).reshape(n * c_out, k, *weight.shape[2:])
    return conv2d(images, weights, None, stride, padding, groups=n)[0].unflatten(0, (n, c_out))


def _readers(x: Tensor, weight_shape: Shape, padding: int, stride: int) -> tuple[Tensor, int]:
    """How many multiplications read the input at each place, (h, w), and H W."""
    read = windows(torch.ones(1, *x.shape[1:], device=x.device), weight_shape, padding, stride)[:, 0]
    counts = fold(read.flatten(1, 2), x.shape[2:], weight_shape[2:], padding=padding, stride=stride)
    return (weight_shape[0] * counts[0, 0]).long(), read.shape[-1]
