"""How the covariance of two images' activations changes from layer to layer, and the Hamming distance that it predicts.

A convolution with independent random weights and many inputs gives a Gaussian vector over images and positions, one draw
per output channel. Its covariance is all that a layer needs to know of the layers before (mean field: Poole et al. 2016,
arXiv:1606.05340; Schoenholz et al. 2017, arXiv:1611.01232; Daniely et al. 2016, arXiv:1602.05897; with convolutions: Xiao et
al. 2018, arXiv:1806.05393; Novak et al. 2019, arXiv:1810.05148). Two units of correlation rho have different signs with
probability arccos(rho) / pi, which is the expected share of units on which two codes differ.

Images are taken as exchangeable: one covariance of an image with itself, one of two different images, each over all pairs
of positions, because a mean over positions needs them all, and because an image's border is unlike its inside.
"""

import math
from typing import NamedTuple

from jaxtyping import Float
import torch
from torch import Tensor
from torch.nn import functional as F

from ncdlib import rescaling

Pairs = Float[Tensor, "h w h w"]  # a value for each position p of one image and each position q of the same or another
Places = Float[Tensor, "h w"]

BORDERS = ("zeros", "circular")


class Covariance(NamedTuple):
    """Mean over channels of the product of two activations: at p and q of one image, and at p of one, q of another."""

    same: Pairs
    cross: Pairs

    @property
    def variance(self) -> Places:
        """The mean square at each position."""
        return torch.einsum("hwhw->hw", self.same)

    @property
    def cosine(self) -> Places:
        """Of two images' activations at each position; 1 where all activations are zero."""
        variance = self.variance
        cosine = torch.einsum("hwhw->hw", self.cross) / variance.clamp(min=torch.finfo(variance.dtype).tiny)
        return torch.where(variance > 0, cosine.clamp(-1, 1), 1.0)


def white_noise(size: int) -> Covariance:
    """Of `size` x `size` images whose pixels are independent, with mean 0 and variance 1."""
    same = torch.eye(size**2, dtype=torch.float64).reshape([size] * 4)
    return Covariance(same, torch.zeros_like(same))


def added(*terms: Covariance) -> Covariance:
    """Of the sum of independent activations, e.g. of convolutions with weights of their own."""
    return Covariance(sum(t.same for t in terms), sum(t.cross for t in terms))


def hamming_of_cosine(cosine: Tensor) -> Tensor:
    """arccos(cosine) / pi: the probability that two Gaussian units of mean zero have different signs."""
    return cosine.clamp(-1, 1).arccos() / math.pi


def relu_cosine(cosine: Tensor) -> Tensor:
    """Cosine of two Gaussian units after a ReLU: (sin t + (pi - t) cos t) / pi, t = arccos(cosine).

    Cho & Saul 2009, the arc-cosine kernel of order 1. It is 1/pi at 0, because a ReLU's output has a positive mean, and
    above `cosine` below 1: without a normalisation that removes a mean, each layer makes images more alike.
    """
    cosine = cosine.clamp(-1, 1)
    return ((1 - cosine.square()).sqrt() + (math.pi - cosine.arccos()) * cosine) / math.pi


def relu(x: Covariance) -> Covariance:
    """After a ReLU: the mean square is halved, the cosines follow `relu_cosine`."""
    deviation = x.variance.sqrt()
    scale = deviation[:, :, None, None] * deviation
    safe = scale.clamp(min=torch.finfo(scale.dtype).tiny)
    return Covariance(*(relu_cosine(part / safe) * scale / 2 for part in x))


def masked(x: Covariance, alpha: float) -> Covariance:
    """After SAM with a mask per entry (Eq. 4): (1 - alpha)^2 x, and (1 - alpha) x where an entry meets itself.

    Different entries, and those of different images, have masks of their own: a mask is noise of its own at each.
    """
    noise = torch.diag((alpha * (1 - alpha) * x.variance).flatten()).reshape(x.same.shape)
    return Covariance(x.same * (1 - alpha) ** 2 + noise, x.cross * (1 - alpha) ** 2)


def convolved(x: Covariance, kernel: int, stride: int = 1, border: str = "zeros") -> Covariance:
    """After a convolution of padding kernel // 2: the mean of x over the kernel's k^2 offsets, p and q moved together.

    So each output knows the mean of its inputs' covariances, whatever k is: where these are the same everywhere, k changes
    nothing. It does at the border, where the padding is zero in every image (`border="zeros"`). The factor 1/3 is
    fan-in times the variance of a weight in PyTorch's initialisation.
    """
    if border not in BORDERS:
        raise ValueError(f"unknown border {border!r}: use one of {', '.join(BORDERS)}")
    window = (kernel, stride, border)
    return Covariance(*(_window_sum(_window_sum(part, 0, *window), 1, *window) / (3 * kernel**2) for part in x))


def pooled(x: Covariance) -> Covariance:
    """After an average over squares of 2 x 2 positions."""
    corners = [(a, b) for a in (0, 1) for b in (0, 1)]
    return Covariance(*(sum(part[a::2, b::2, c::2, d::2] for a, b in corners for c, d in corners) / 16 for part in x))


def subtracted(y: Covariance, norm: str, channels: int, n: int) -> tuple[Places, Places]:
    """Covariance of an activation with the mean that `norm` subtracts: of its own image, and of another image.

    Their means over positions are the variance of an image's mean and the covariance of two images' means. BatchNorm
    subtracts one mean from all of a batch of `n` images: their common part is gone. A group of m channels (InstanceNorm:
    m = 1, LayerNorm: all) has a mean per image, in which each channel has the weight 1/m, so that LayerNorm subtracts next
    to nothing of a channel's own mean: see `means.predicted_spread`.
    """
    own, other = y.same.mean((2, 3)), y.cross.mean((2, 3))
    if norm == "none":
        return torch.zeros_like(own), torch.zeros_like(other)
    if norm == "bn":
        common = (own + (n - 1) * other) / n
        return common, common
    layer = rescaling.make(norm, channels)
    if not isinstance(layer, rescaling.GroupNorm):
        raise ValueError(f"no prediction for norm {norm!r}: use bn, in, ln, none or gn and a number of groups")
    members = channels // layer.num_groups  # that share a mean
    return own / members, other / members


def normalised(y: Covariance, norm: str, channels: int, n: int) -> Covariance:
    """After a normalisation: the mean subtracted, the mean square set to 1 ("none" changes nothing).

    Dividing changes no sign. The variance that is divided by is taken as its expectation, which it is near where an image
    has many independent positions.
    """
    if norm == "none":
        return y
    means = subtracted(y, norm, channels, n)
    same, cross = (part - mean[:, :, None, None] - mean + mean.mean() for part, mean in zip(y, means, strict=True))
    scale = torch.einsum("hwhw->hw", same).mean()
    return Covariance(same / scale, cross / scale)


def dry_share(alpha: float, inputs: int | Tensor, firing: float = 0.5) -> Tensor:
    """Probability that SAM leaves an output no non-zero input: (1 - (1 - alpha) firing)^inputs.

    `inputs`: k^2 c inside the image; `firing`: the share of them that is not zero before the mask, 1/2 after a ReLU.
    """
    return torch.as_tensor(1 - (1 - alpha) * firing, dtype=torch.float64) ** inputs


def padded(x: Tensor, kernel: int, border: str) -> Tensor:
    """Maps of at least four dimensions with kernel // 2 places added on each side of the last two."""
    return F.pad(x, [kernel // 2] * 4, mode="constant" if border == "zeros" else "circular")


def _window_sum(
    pairs: Float[Tensor, "_ _ _ _"], axis: int, kernel: int, stride: int, border: str
) -> Float[Tensor, "_ _ _ _"]:
    """Sum over offsets d of pairs at s a + d - p along both positions' rows (axis 0) or columns (axis 1)."""
    pairs = padded(pairs.movedim((axis, axis + 2), (-2, -1)), kernel, border)
    last = pairs.shape[-1] - kernel + 1
    moved = sum(pairs[..., d : d + last : stride, d : d + last : stride] for d in range(kernel))
    return moved.movedim((-2, -1), (axis, axis + 2))
