"""Theorems 4.1 and 4.2 as code: the weight that each activation has in a normalisation's mean.

They are about a convolution, y[o, a, b] = bias[o] + sum over c, d, e of w[o, c, d, e] x[c, s a + d - p, s b + e - p],
where x = sigma(x^input) are the activations that it reads, zero outside the image, s the stride, p the padding, (d, e) an
offset in the kernel and (a, b) one of H W output positions, all counted from 0. Its mean over positions is a weighted sum
of activations: by each offset, x[c, j, k] is read at one position or at none (`windows`). The printed sums leave out
borders, stride and bias and have slips (`errata`); these are complete. Grouped and dilated convolutions are not covered.
"""

from collections.abc import Callable
import math
from typing import NamedTuple

from jaxtyping import Float
import torch
from torch import Tensor
from torch.nn.functional import conv2d, unfold

Activations = Float[Tensor, "n c_in h w"]
Weight = Float[Tensor, "c_out c_in kh kw"]
Bias = Float[Tensor, " c_out"] | None
Shape = tuple[int, ...]  # of a weight: (c_out, c_in, kh, kw)


class Sides(NamedTuple):
    """The two sides of an identity, of equal shape."""

    output: Tensor  # left: the mean of what the convolution gives
    activations: Tensor  # right: the weighted sum of what it reads


def channel_means(x: Activations, weight: Weight, padding: int = 0, stride: int = 1, bias: Bias = None) -> Sides:
    """Both sides of Theorem 4.1, (c_out,): BatchNorm's mean of a channel is a weighted sum of the activations.

    mu[o] = 1/(n H W) sum over i, c, d, e, a, b of w[o, c, d, e] x[i, c, s a + d - p, s b + e - p] + bias[o], which is
    InstanceNorm's mean averaged over the batch.
    """
    output, activations = group_means(x, weight, padding, stride, bias, groups=len(weight))
    return Sides(output.mean(0), activations.mean(0))


def image_means(x: Activations, weight: Weight, padding: int = 0, stride: int = 1, bias: Bias = None) -> Sides:
    """Both sides of Theorem 4.2 (A.2 in the supplementary), (n,): LayerNorm's mean weighs activations by E[w].

    mu[i] = 1/(H W) sum over c, d, e, a, b of E[w][c, d, e] x[i, c, s a + d - p, s b + e - p] + E[bias], with E the mean
    over the output channels: a number for each (c, d, e), where the paper writes one E[w]. It holds for any weights,
    trained ones too, and needs no equal numbers of input and output channels, which the proof assumes.
    """
    output, activations = group_means(x, weight, padding, stride, bias, groups=1)
    return Sides(output[:, 0], activations[:, 0])


def group_means(
    x: Activations, weight: Weight, padding: int = 0, stride: int = 1, bias: Bias = None, *, groups: int
) -> Sides:
    """Both sides of GroupNorm's form, (n, groups), which App. F.4 announces and does not print.

    mu[i, g] = 1/(H W) sum over c, d, e, a, b of E_g[w][c, d, e] x[i, c, s a + d - p, s b + e - p] + E_g[bias], with E_g
    the mean over the m = C/G output channels of group g. G = C is InstanceNorm, by the weight itself; G = 1 is LayerNorm.
    """
    right = torch.einsum("ncde,gcde->ng", windows(x, weight.shape, padding, stride).mean(-1), _mean(weight, groups))
    if bias is not None:
        right = right + _mean(bias, groups)
    return Sides(conv2d(x, weight, bias, stride, padding).unflatten(1, (groups, -1)).mean((2, 3, 4)), right)


def windows(x: Activations, weight_shape: Shape, padding: int, stride: int) -> Float[Tensor, "n c_in kh kw positions"]:
    """x[i, c, s a + d - p, s b + e - p], what each offset (d, e) reads at each of the H W output positions, padding too."""
    if x.shape[1] != weight_shape[1]:
        raise ValueError(f"the input has {x.shape[1]} channels, ungrouped weights must read as many: got {weight_shape[1]}")
    for size, kernel in zip(x.shape[2:], weight_shape[2:], strict=True):
        if padding < 0 or stride < 1 or kernel > size + 2 * padding:
            raise ValueError(
                f"no output for kernel {kernel}, padding {padding}, stride {stride} on {size} inputs: the padding must be "
                "at least 0, the stride 1, and the padded input as large as the kernel"
            )
    return unfold(x, weight_shape[2:], padding=padding, stride=stride).unflatten(1, weight_shape[1:])


def predicted_spread(
    x: Activations, weight_shape: Shape, padding: int = 0, stride: int = 1, *, groups: int, variance: float | None = None
) -> Float[Tensor, " n"]:
    """Standard deviation of mu[i, g] over the draw of the weights, for given activations and any one group.

    Var(mu[i, g]) = Var(w)/m sum over c, d, e of (the mean of `windows` over positions)^2: exact for independent weights of
    mean zero and equal variance, no bias. `variance`: None for PyTorch's U(-b, b), b = 1/sqrt(fan_in), hence
    1/(3 fan_in). For BatchNorm's mean: x.mean(0, keepdim=True) with groups = C.

    App. F.4 has E[w] = 0 at initialisation. E[w] is a mean of m weights, so zero up to sqrt(Var(w)/m). Whatever the
    activations, LN's mean has 1/sqrt(C) of the spread of IN's: a quarter for C = 16, an eighth for C = 64.
    """
    variance = 1 / (3 * math.prod(weight_shape[1:])) if variance is None else variance
    sums = windows(x, weight_shape, padding, stride).mean(-1).square().sum((1, 2, 3))
    return (variance * sums / _members(weight_shape[0], groups)).sqrt()


def measured_spread(
    x: Activations, draw: Callable[[], Tensor], draws: int, padding: int = 0, stride: int = 1, *, groups: int
) -> Float[Tensor, " n"]:
    """Root mean square of mu[i, g] over `draws` convolutions of x and their groups: draws * groups independent values.

    `draw` gives new weights: `lambda: nn.Conv2d(16, 16, 3).weight.detach()`. Their mean is not estimated: it is zero.
    """
    means = [conv2d(x, draw(), None, stride, padding).unflatten(1, (groups, -1)).mean((2, 3, 4)) for _ in range(draws)]
    return torch.stack(means).square().mean((0, 2)).sqrt()


def _mean(over: Tensor, groups: int) -> Tensor:
    """E_g, the mean over the output channels of each group."""
    return over.unflatten(0, (groups, _members(len(over), groups))).mean(1)


def _members(channels: int, groups: int) -> int:
    if groups < 1 or channels % groups:
        raise ValueError(f"{channels} output channels cannot be divided into {groups} groups: use a divisor")
    return channels // groups
