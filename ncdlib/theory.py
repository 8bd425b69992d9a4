"""Theorems 4.1 and 4.2 and Eq. 8-9 as code: what a normalisation's mean weighs each activation by, and what SAM spares.

Beside them, what the paper does not print: the most that NWOT can be, and a masked convolution that takes less time.

They speak of a convolution, y[o, a, b] = bias[o] + sum over c, d, e of w[o, c, d, e] x[c, s a + d - p, s b + e - p],
where x = sigma(x^input) are the activations that it reads, zero outside the image, s the stride, p the padding, (d, e) an
offset in the kernel and (a, b) one of H W output positions, all counted from 0. Its mean over positions is a weighted sum
of activations: by each offset, x[c, j, k] is read at one position or at none (`reach`). The printed sums leave out
borders, stride and bias and have slips (`SLIPS`); these are whole. Grouped and dilated convolutions are not covered.
"""

from collections.abc import Callable
import math
from typing import NamedTuple

from jaxtyping import Bool, Float, Int, Shaped
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from ncdlib import masking

Activations = Float[Tensor, "n c_in h w"]
Weight = Float[Tensor, "c_out c_in kh kw"]
Bias = Float[Tensor, " c_out"] | None
Shape = tuple[int, ...]  # of a weight: (c_out, c_in, kh, kw)

# The dimensions of (n, c_in, h, w) that share one draw of SAM's mask, see masking.masked.
SHARED = {"sample": (), "shared": (0,), "channel": (2, 3), "channel_shared": (0, 2, 3)}


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
    right = torch.einsum("ncde,gcde->ng", offset_means(x, weight.shape, padding, stride), _mean(weight, groups))
    if bias is not None:
        right = right + _mean(bias, groups)
    return Sides(conv2d(x, weight, bias, stride, padding).unflatten(1, (groups, -1)).mean((2, 3, 4)), right)


def reach(size: int, kernel: int, padding: int = 0, stride: int = 1) -> Bool[Tensor, "kernel size"]:
    """Along one axis: at how many output positions does kernel offset d read input j? One or none, as s a + d - p = j.

    For both axes it is the product, reach[d, j] reach[e, k].
    """
    end = stride * _outputs(size, kernel, padding, stride)
    start = torch.arange(size) + padding - torch.arange(kernel)[:, None]  # s a, were there such a position
    return (start >= 0) & (start < end) & (start % stride == 0)


def offset_means(x: Activations, weight_shape: Shape, padding: int = 0, stride: int = 1) -> Float[Tensor, "n c_in kh kw"]:
    """1/(H W) sum over a, b of x[i, c, s a + d - p, s b + e - p]: the mean of what each offset reads, padding too."""
    rows, columns, positions = _geometry(x.shape, weight_shape, padding, stride)
    return torch.einsum("nchw,dh,ew->ncde", x, rows.to(x), columns.to(x)) / positions


def activation_weights(
    weight: Weight, size: tuple[int, int], padding: int = 0, stride: int = 1, *, groups: int
) -> Float[Tensor, "groups c_in h w"]:
    """What activation (c, j, k) has for weight in mu[i, g]: 1/(H W) sum of E_g[w][c, d, e] over the offsets that read it.

    For activations of `size` (h, w). All weigh alike inside, at stride 1; at the borders fewer offsets read them.
    """
    rows, columns, positions = _geometry((1, weight.shape[1], *size), weight.shape, padding, stride)
    return torch.einsum("gcde,dh,ew->gchw", _mean(weight, groups), rows.to(weight), columns.to(weight)) / positions


def predicted_spread(
    x: Activations, weight_shape: Shape, padding: int = 0, stride: int = 1, *, groups: int, variance: float | None = None
) -> Float[Tensor, " n"]:
    """Standard deviation of mu[i, g] over the draw of the weights, for given activations and any one group.

    Var(mu[i, g]) = Var(w)/m sum over c, d, e of offset_means[i, c, d, e]^2: exact for independent weights of mean zero
    and equal variance, no bias. `variance`: None for PyTorch's U(-b, b), b = 1/sqrt(fan_in), hence 1/(3 fan_in). For
    BatchNorm's mean: x.mean(0, keepdim=True) with groups = C.

    App. F.4 has E[w] = 0 at initialisation. E[w] is a mean of m weights, so zero up to sqrt(Var(w)/m). Whatever the
    activations, LN's mean has 1/sqrt(C) of the spread of IN's: a quarter for C = 16, an eighth for C = 64.
    """
    variance = 1 / (3 * math.prod(weight_shape[1:])) if variance is None else variance
    sums = offset_means(x, weight_shape, padding, stride).square().sum((1, 2, 3))
    return (variance * sums / _members(weight_shape[0], groups)).sqrt()


def measured_spread(
    x: Activations, draw: Callable[[], Tensor], draws: int, padding: int = 0, stride: int = 1, *, groups: int
) -> Float[Tensor, " n"]:
    """Root mean square of mu[i, g] over `draws` convolutions of x and their groups: draws * groups independent values.

    `draw` gives new weights: `lambda: nn.Conv2d(16, 16, 3).weight.detach()`. Their mean is not estimated: it is zero.
    """
    means = [conv2d(x, draw(), None, stride, padding).unflatten(1, (groups, -1)).mean((2, 3, 4)) for _ in range(draws)]
    return torch.stack(means).square().mean((0, 2)).sqrt()


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
    convolution of k c_out K^2 multiplications a position; with a row an image, n small ones, as groups of one.
    """
    if len(kept) == 1:
        return conv2d(x[:, kept[0]], weight[:, kept[0]], None, stride, padding)
    (n, k), c_out = kept.shape, len(weight)
    if n != len(x):
        raise ValueError(f"kept must have one row, or one for each of the {len(x)} images: got {n}")
    images = x[torch.arange(n, device=x.device)[:, None], kept].reshape(1, n * k, *x.shape[2:])
    weights = weight[:, kept].transpose(0, 1).reshape(n * c_out, k, *weight.shape[2:])
    return conv2d(images, weights, None, stride, padding, groups=n)[0].unflatten(0, (n, c_out))


def largest_distance(images: int) -> float:
    """The largest mean Hamming distance that codes of so many images can have, as a share of the units.

    A unit that fires for k of n images tells k (n - k) pairs apart, floor(n^2 / 4) at most: a little over one half.
    """
    return (images**2 // 4) / math.comb(images, 2)


def nwot_maximum(units: int, images: int, distance: float | None = None) -> float:
    """The most that NWOT can be for codes whose mean distance is `distance`, as a share of the units; None for any codes.

    All pairs equally far apart, K = N ((1 - h) J + h I), so log|K| = n log N + (n - 1) log h + log(n - (n - 1) h). No
    other codes of mean distance h score more: log-det is concave, and the mean of K over all orders of the images is this
    one. It rises with h up to h = 1, which no codes of more than two images reach.
    """
    h = largest_distance(images) if distance is None else distance
    if h == 0:
        return -math.inf
    return images * math.log(units) + (images - 1) * math.log(h) + math.log(images - (images - 1) * h)


def _mean(over: Tensor, groups: int) -> Tensor:
    """E_g, the mean over the output channels of each group."""
    return over.unflatten(0, (groups, _members(len(over), groups))).mean(1)


def _members(channels: int, groups: int) -> int:
    if groups < 1 or channels % groups:
        raise ValueError(f"{channels} output channels cannot be divided into {groups} groups: use a divisor")
    return channels // groups


def _outputs(size: int, kernel: int, padding: int, stride: int) -> int:
    if padding < 0 or stride < 1 or kernel > size + 2 * padding:
        raise ValueError(
            f"no output for kernel {kernel}, padding {padding}, stride {stride} on {size} inputs: the padding must be "
            "at least 0, the stride 1, and the padded input as large as the kernel"
        )
    return (size + 2 * padding - kernel) // stride + 1


def _geometry(shape: Shape, weight_shape: Shape, padding: int, stride: int) -> tuple[Tensor, Tensor, int]:
    """Reach along rows and columns, (kh, h) and (kw, w), and the number of output positions H W."""
    if shape[1] != weight_shape[1]:
        raise ValueError(f"the input has {shape[1]} channels, ungrouped weights must read as many: got {weight_shape[1]}")
    axes = [(size, kernel, padding, stride) for size, kernel in zip(shape[2:], weight_shape[2:], strict=True)]
    return reach(*axes[0]), reach(*axes[1]), _outputs(*axes[0]) * _outputs(*axes[1])


def _readers(x: Tensor, weight_shape: Shape, padding: int, stride: int) -> tuple[Tensor, int]:
    """How many multiplications read the input at each place, (h, w), and H W."""
    rows, columns, positions = _geometry(x.shape, weight_shape, padding, stride)
    return (weight_shape[0] * torch.outer(rows.sum(0), columns.sum(0))).to(x.device), positions


class Slip(NamedTuple):
    """A place in the supplementary material that does not say what it means. Markdown, formulas in dollars."""

    place: str
    printed: str
    right: str
    why: str


SLIPS = tuple(Slip(*slip) for slip in [
    ("Algorithm 1, line 9", r"$Score_{best} \geq Score_j$", r"$Score_{best} \leq Score_j$",
     "It keeps the lowest score, and where all are positive never leaves its start, $F_{best} = 0$."),
    ("Eq. 1, 6, 7", r"$\mathbf{E}[w]$", r"$\mathbf{E}[w]_{(c,d,e)} = \frac{1}{C} \sum_{\hat{c}} \omega_{(c,d,e)}^{\hat{c}}$",
     "A mean over output channels: one number for each $(c, d, e)$, not one for the kernel."),
    ("Eq. 1, 3, 4, 5, 7",
     r"$\sum_{d=\lfloor -\frac{K}{2} \rfloor}^K$", r"$\sum_{d=-\lfloor \frac{K}{2} \rfloor}^{\lfloor \frac{K}{2} \rfloor}$",
     r"$K + \lceil K/2 \rceil + 1$ terms, six for $K = 3$: the kernel's index then leaves $1 \ldots K$."),
    ("Eq. 1", r"$x_{(i, c, j+c, p+d)}^{input}$", r"$x_{(i,c,a+d,b+e)}^{input}$",
     "$j$ and $p$ are not summed over, the channel $c$ is added to a row, the offset $e$ is missing."),
    ("Eq. 3", "stride 1, padding and no bias are not said", r"$x_{(i,c,sa+d-p,sb+e-p)}$ or 0, $+$ bias",
     "$a + d$ leaves $1 \\ldots H$ at the borders, so an activation there is summed less often than one inside."),
    ("Eq. 3-6", r"$\omega_{(c,\hat{d}-\lfloor -\frac{K}{2} \rfloor, e-\lfloor -\frac{K}{2} \rfloor)}$",
     r"$\omega_{(c,d-\lfloor -\frac{K}{2} \rfloor, e-\lfloor -\frac{K}{2} \rfloor)}^{\hat{c}}$",
     r"$\hat{d}$ is defined nowhere; Eq. 3 leaves out the output channel $\hat{c}$, too."),
    ("Eq. 7", r"$\frac{\ldots \hat{x}_{(i,c,a+d,b+e)}^{\sum}}{H \cdot W}$", r"$\frac{\ldots}{C \cdot H \cdot W}$",
     r"By Eq. 5 and 6 $\hat{x}^{\sum}$ is $C \cdot \mathbf{E}[w] \cdot \sigma$: the mean comes out $C$ times too large."),
    ("Eq. 7", r"$x_{(i,c,j+p+d)}^{input}$", r"$x_{(i,c,a+d,b+e)}^{input}$", "Three indices for a tensor of four."),
    ("Below Eq. 2", r"$x_{(a, j, k, p)}^{output}$", r"$x_{(i,\hat{c},a,b)}^{output}$",
     "Twice: $a$ is a row in Eq. 2 and stands here for the image $i$."),
    ("Below Eq. 3", "same number of channel", r"any two numbers of channels, $C_{in}$ and $C_{out}$",
     r"Nothing needs it: $C$ is $C_{in}$ in the sum over $c$, $C_{out}$ in that over $\hat{c}$ and in the divisor."),
    ("A.3", r"only requires  $1 - \alpha$  times", "in expectation, in code that skips zeros", "Dense code skips none."),
    ("F.4", "which is zero since the architecture is initialized", r"of mean zero and size $\sqrt{\mathrm{Var}(w)/C}$",
     r"LN's mean is $1/\sqrt{C}$ of IN's in size: a quarter for $C = 16$."),
    ("F.4", "reduce the number of activation values involved", r"reduce the size of their weights, by $\sqrt{C}$ against IN",
     r"IN, GN and LN sum the same $C \cdot H \cdot W$ activations of an image, BN those of all images."),
    ("F.5", "App. A.2", "App. A.3", "A.3 analyses the cost of SAM."),
])  # fmt: skip
