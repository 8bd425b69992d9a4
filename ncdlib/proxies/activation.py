"""Proxies that read activation codes: which units fire for which images.

Each is a function of the codes of all units, shape (n images, d units). The `REDUCTIONS` say how to get the same number
layer by layer, so that the codes never have to be kept: `summarise` one layer's codes, then `combine` the summaries, each
with the number of activation modules that read that layer's tensor.
"""

from collections.abc import Callable, Sequence
import math
from typing import Any, NamedTuple

from jaxtyping import Int, Int8
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

Codes = Int8[Tensor, "n d"]
SHIFTS = torch.arange(8, device="cpu").view(1, 8, 1)
ROWS = 8
BYTE_PRODUCTS = torch.cpu.get_capabilities().get("avx512_vnni", False)  # without it, byte products are slow


def nwot(codes: Int8[Tensor, "n d"]) -> float:
    """log|K| with K_ij = number of activations on which images i and j agree.

    Mellor et al. 2021 (arXiv:2006.04647), Eq. 2. nan where K is singular, as when two images share a code.
    """
    return log_determinant(agreement([(co_firing(codes), 1)]))


def swap(codes: Int8[Tensor, "n d"]) -> float:
    """Number of distinct rows of the (activations x images) binary matrix.

    Peng et al. 2024 (arXiv:2403.04161), Definition 3.3. At most the number of units, and at most 2^n.
    """
    return float(count_distinct(patterns(codes)))


def units(codes: Int8[Tensor, "n d"]) -> float:
    """Number of activations that an image has: a control, to see what the other proxies know beyond it."""
    return float(codes.shape[1])


def hamming(codes: Int8[Tensor, "n d"]) -> float:
    """Mean share of units on which two different images differ: the Hamming distance of their codes over d.

    Not a proxy of the literature but the quantity behind both: 1/2 for independent fair codes, 0 for equal ones.
    """
    return mean_distance(agreement([(co_firing(codes), 1)]))


def linear_regions(codes: Int8[Tensor, "n d"]) -> float:
    """Number of distinct codes among the images: how many linear regions of the network they fall into.

    Chen et al. 2021 (TE-NAS, arXiv:2102.11535), Sec. 3.1.2. At most n, which wide networks reach at once: the authors
    score networks of one channel on a thousand images of 3 x 3 pixels.
    """
    return float(count_regions(agreement([(co_firing(codes), 1)])))


def regularised_swap(swap: float, params: float, mu: float = 1000.0, sigma: float = 1e6) -> float:
    """swap * exp(-(P - mu)^2 / sigma), P in thousands of parameters: prefers networks of about mu thousand.

    Peng et al. 2024 (arXiv:2403.04161), Definition 3.4. Authors tune mu and sigma to the size that is wanted; the defaults
    here centre on a million parameters. To use others, call this function on the scores `swap` and `params`.
    """
    return swap * math.exp(-((params / 1e3 - mu) ** 2) / sigma)


def co_firing(codes: Int8[Tensor, "n d"]) -> tuple[Int[Tensor, "n n"], int]:
    """Number of units that fire for both of two images, codes @ codes.T, exactly; and the number of units."""
    if codes.device.type != "cpu":
        return float_product(codes), codes.shape[1]
    multiply = byte_product if BYTE_PRODUCTS and codes.shape[1] > 1 else popcount_product
    return multiply(codes), codes.shape[1]


def byte_product(codes: Int8[Tensor, "n d"]) -> Int[Tensor, "n n"]:
    """codes @ codes.T in integers, by the processor's instruction for products of bytes. d > 1: at d = 1 torch is wrong."""
    return torch._int_mm(codes, codes.T)


def popcount_product(codes: Int8[Tensor, "n d"]) -> Int[Tensor, "n n"]:
    """codes @ codes.T by counting the bits of 64 units at a time: half as fast as `byte_product`, but on any processor."""
    n = len(codes)
    bits = np.packbits(codes.numpy().view(np.bool_), axis=1)
    if bits.shape[1] % 8:
        bits = np.pad(bits, ((0, 0), (0, -bits.shape[1] % 8)))
    words = bits.view(np.uint64)
    both = np.empty((n, n), np.int64)
    for end in range(ROWS, n + ROWS, ROWS):  # so few images at a time that the words stay in cache; one triangle is enough
        rows = slice(end - ROWS, end)
        both[rows, :end] = np.bitwise_count(words[rows, None] & words[:end]).sum(-1, dtype=np.uint32)
        both[:end, rows] = both[rows, :end].T
    return torch.from_numpy(both)


def float_product(codes: Int8[Tensor, "n d"]) -> Int[Tensor, "n n"]:
    """codes @ codes.T in float32, which counts exactly up to 2^24: so many units at a time."""
    return sum((part.float() @ part.float().T).to(torch.int32) for part in codes.split(1 << 24, dim=1))


def log_determinant(kernel: Int[Tensor, "n n"]) -> float:
    """log|kernel| of a Gram matrix by Cholesky factors in float64; nan where it is singular to working precision."""
    kernel = kernel.to("cpu", torch.float64)  # small: a GPU would take longer
    factor, failed = torch.linalg.cholesky_ex(kernel)
    pivots = factor.diagonal().square()
    smallest = len(kernel) * torch.finfo(torch.float64).eps * kernel.trace()  # the rounding error of a pivot
    if failed or not (pivots > smallest).all():
        return math.nan
    return float(pivots.log().sum())


def agreement(layers: Sequence[tuple[tuple[Int[Tensor, "n n"], int], int]]) -> Int[Tensor, "n n"]:
    """The kernel K of NWOT from the layers' counts of co-firing, each counted as often as modules read the layer.

    Of d units, on_i fire for image i and both_ij for i and j: they agree on d - on_i - on_j + 2 both_ij.
    """
    both = sum(product.to(torch.int64) * times for (product, _), times in layers)
    on = both.diagonal()
    return sum(d * times for (_, d), times in layers) - on[:, None] - on[None, :] + 2 * both


def mean_distance(kernel: Int[Tensor, "n n"]) -> float:
    """Mean over pairs of images of 1 - K_ij / K_ii; the diagonal holds the number of units."""
    n, d = len(kernel), float(kernel[0, 0])
    return 1 - (float(kernel.sum()) - n * d) / (n * (n - 1) * d)


def count_regions(kernel: Int[Tensor, "n n"]) -> int:
    """Number of distinct images: one is new unless it agrees with an earlier one on all units, the kernel's diagonal."""
    same_as_earlier = (kernel == kernel[0, 0]).tril(-1).any(1)
    return int((~same_as_earlier).sum())


def patterns(codes: Int8[Tensor, "n d"]) -> Int[Tensor, "d words"]:
    """The bits of the batch at each unit, packed with 32 images to a word, in a fixed order."""
    n, d = codes.shape
    if n % 32 or d % 8:
        codes = nn.functional.pad(codes, (0, -d % 8, 0, -n % 32))
    eight_units = codes.contiguous().view(torch.int64).view(-1, 8, codes.shape[1] // 8)  # a byte a unit; 8 images a group
    groups = (eight_units << SHIFTS.to(codes.device)).sum(1).view(torch.uint8)  # (groups of 8, units): no bits overlap
    return torch.stack(list(groups), dim=1)[:d].view(torch.int32)


def count_distinct(words: Int[Tensor, "d words"]) -> int:
    """Number of distinct rows. A row of many words is renumbered word by word, so that any batch size counts exactly."""
    rank = words[:, 0].to(torch.int64) if words.shape[1] > 1 else words[:, 0]
    for word in words[:, 1:].unbind(1):
        rank = torch.unique((rank << 32) | (word.to(torch.int64) & 0xFFFFFFFF), return_inverse=True)[1]
    if rank.device.type == "cpu":
        return len(pd.unique(rank.numpy()))  # a hash table: torch and numpy sort, which takes four times as long
    return len(torch.unique(rank))


class Reduction(NamedTuple):
    """How to compute a proxy from layers: summarise each one's codes, combine [(summary, times it counts)]."""

    summarise: Callable[[Codes], Any]
    combine: Callable[[Sequence[tuple[Any, int]]], float]


REDUCTIONS: dict[str, Reduction] = {
    "nwot": Reduction(co_firing, lambda layers: log_determinant(agreement(layers))),
    "hamming": Reduction(co_firing, lambda layers: mean_distance(agreement(layers))),
    "linear_regions": Reduction(co_firing, lambda layers: float(count_regions(agreement(layers)))),
    "swap": Reduction(patterns, lambda layers: float(count_distinct(torch.cat([rows for rows, _ in layers])))),
    "units": Reduction(lambda codes: codes.shape[1], lambda layers: float(sum(d * times for d, times in layers))),
}
