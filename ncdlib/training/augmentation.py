"""Augmentation of image batches as plain tensor functions; all randomness comes from the generator that is handed in."""

from collections.abc import Sequence
import math

from jaxtyping import Float, Int, UInt8
import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn.functional import interpolate, one_hot, pad

from ncdlib.training.recipes import Recipe

PADDING = 4
GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in PIL
ENLARGED = 256 / 224  # ImageNet's validation images are resized to 256 and cropped to 224

Images = Float[Tensor, "n 3 h w"]


def training(
    images: Sequence[UInt8[Tensor, "3 _ _"]], recipe: Recipe, mean: Sequence[float], std: Sequence[float], draw: Generator
) -> Float[Tensor, "n 3 r r"]:
    """Images of bytes as the recipe trains on them: cropped, flipped, jittered, standardised, cut out, erased."""
    if recipe.augmentation == "crop":
        x = shifted(_stacked(images, recipe.resolution), PADDING, draw)
    else:
        x = torch.cat([resized_part(image, recipe.resolution, draw) for image in images])
    x = flipped(x, draw)
    if any(recipe.jitter):
        x = jittered(x, recipe.jitter, draw)
    x = cut_out(standardised(x, mean, std), recipe.cutout, draw)
    return erased(x, recipe.erase, draw) if recipe.erase else x


def validation(
    images: Sequence[UInt8[Tensor, "3 _ _"]], recipe: Recipe, mean: Sequence[float], std: Sequence[float]
) -> Float[Tensor, "n 3 r r"]:
    """Images of bytes as the recipe validates on them: the centre of a slightly larger image, or the image as it is."""
    if recipe.augmentation == "crop":
        return standardised(_stacked(images, recipe.resolution), mean, std)
    return standardised(torch.cat([centre(image, recipe.resolution) for image in images]), mean, std)


def _stacked(images: Sequence[Tensor], side: int) -> Images:
    for image in images:
        if image.shape != (3, side, side):
            raise ValueError(f"the recipe reads images of (3, {side}, {side}), got {tuple(image.shape)}")
    return torch.stack(list(images)) / 255


def standardised(x: Images, mean: Sequence[float], std: Sequence[float]) -> Images:
    """(x - mean) / std, channel by channel."""
    return (x - x.new_tensor(mean).view(3, 1, 1)) / x.new_tensor(std).view(3, 1, 1)


def _uniform(n: int, low: float, high: float, draw: Generator) -> Float[Tensor, "n 1 1 1"]:
    return low + (high - low) * torch.rand(n, 1, 1, 1, generator=draw)


def shifted(x: Images, padding: int, draw: Generator) -> Images:
    """A crop of the same size out of each image, padded with black on all sides, all offsets equally likely."""
    n, _, h, w = x.shape
    top, left = (torch.randint(2 * padding + 1, (n, 1), generator=draw) for _ in range(2))
    rows, columns = top + torch.arange(h), left + torch.arange(w)  # (n, h), (n, w)
    image = torch.arange(n).view(n, 1, 1)
    taken = pad(x, (padding,) * 4)[image, :, rows[:, :, None], columns[:, None, :]]  # (n, h, w, 3)
    return taken.permute(0, 3, 1, 2).contiguous()


def flipped(x: Images, draw: Generator) -> Images:
    """Each image mirrored left to right with probability 1/2."""
    return torch.where(torch.rand(len(x), 1, 1, 1, generator=draw) < 0.5, x.flip(3), x)


def cut_out(x: Images, side: int, draw: Generator) -> Images:
    """Zeros in a square around a random pixel of each image, clipped at the border (DeVries & Taylor 2017, 1708.04552)."""
    n, _, h, w = x.shape
    inside = []
    for size in (h, w):
        at = torch.randint(size, (n, 1), generator=draw)
        pixel = torch.arange(size)
        inside.append((pixel >= at - side // 2) & (pixel < at + side // 2))  # (n, size)
    return x.masked_fill((inside[0][:, :, None] & inside[1][:, None, :])[:, None], 0.0)


def erased(x: Images, probability: float, draw: Generator) -> Images:
    """Normal noise in a random rectangle of some images (Zhong et al. 2020, arXiv:1708.04896), in place.

    The rectangle takes 2% to 33% of the area and is 3:10 to 10:3 in shape; ten tries, then the image stays whole.
    """
    _, channels, height, width = x.shape
    for image in x:
        if torch.rand(1, generator=draw) >= probability:
            continue
        for _ in range(10):
            share, shape, down, right = torch.rand(4, generator=draw).tolist()
            area, ratio = height * width * (0.02 + (1 / 3 - 0.02) * share), math.exp((2 * shape - 1) * math.log(10 / 3))
            h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if h < height and w < width:
                top, left = int(down * (height - h + 1)), int(right * (width - w + 1))
                image[:, top : top + h, left : left + w] = torch.randn(channels, h, w, generator=draw)
                break
    return x


def mixed(
    x: Images, labels: Int[Tensor, " n"], recipe: Recipe, classes: int, draw: Generator
) -> tuple[Images, Int[Tensor, " n"] | Float[Tensor, "n classes"]]:
    """A batch with its own reverse mixed in, and the shares of the classes; as it is where the recipe mixes nothing.

    The share lam that stays is drawn from Beta(a, a), once a batch. Mixup blends (Zhang et al. 2018, arXiv:1710.09412),
    CutMix puts a rectangle of the other image in, centred anywhere and clipped (Yun et al. 2019, arXiv:1905.04899), and lam
    is then what is left of the area. A recipe with both takes either with probability 1/2.
    """
    if not recipe.mixup and not recipe.cutmix:
        return x, labels
    rng = np.random.default_rng(torch.randint(2**62, (1,), generator=draw).item())
    cut = recipe.cutmix > 0 and (recipe.mixup == 0 or rng.random() < 0.5)
    stays = rng.beta(*[recipe.cutmix if cut else recipe.mixup] * 2)
    if cut:
        height, width = x.shape[2:]
        sides = [round(size * math.sqrt(1 - stays)) for size in (height, width)]
        starts = [int(rng.integers(size)) - side // 2 for size, side in zip((height, width), sides, strict=True)]
        rows, columns = (slice(max(start, 0), max(start + side, 0)) for start, side in zip(starts, sides, strict=True))
        other, x = x.flip(0), x.clone()
        x[:, :, rows, columns] = other[:, :, rows, columns]
        stays = 1 - x[0, 0, rows, columns].numel() / (height * width)
    else:
        x = stays * x + (1 - stays) * x.flip(0)
    shares = one_hot(labels, classes).to(x.dtype)
    return x, stays * shares + (1 - stays) * shares.flip(0)


def _resized(image: Tensor, height: int, width: int) -> Float[Tensor, "1 3 h w"]:
    return interpolate(image[None] / 255, size=(height, width), mode="bilinear", antialias=True)


def resized_part(image: UInt8[Tensor, "3 _ _"], side: int, draw: Generator) -> Float[Tensor, "1 3 r r"]:
    """A random part, 8% to 100% of the area and 3:4 to 4:3 in shape, resized to a square (Szegedy et al. 2015, 1409.4842).

    Ten tries, then the whole image, or its centre where the image itself is longer than 4:3.
    """
    _, height, width = image.shape
    for _ in range(10):
        share, shape, y, x = torch.rand(4, generator=draw).tolist()
        area, ratio = height * width * (0.08 + 0.92 * share), math.exp((2 * shape - 1) * math.log(4 / 3))
        h, w = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 0 < h <= height and 0 < w <= width:
            top, left = int(y * (height - h + 1)), int(x * (width - w + 1))
            return _resized(image[:, top : top + h, left : left + w], side, side)
    h, w = min(height, round(width * 4 / 3)), min(width, round(height * 4 / 3))
    top, left = (height - h) // 2, (width - w) // 2
    return _resized(image[:, top : top + h, left : left + w], side, side)


def centre(image: UInt8[Tensor, "3 _ _"], side: int) -> Float[Tensor, "1 3 r r"]:
    """The middle of the image once its shorter side is resized to 256 / 224 of `side`."""
    _, height, width = image.shape
    scale = round(side * ENLARGED) / min(height, width)
    h, w = (max(round(size * scale), side) for size in (height, width))
    top, left = (h - side) // 2, (w - side) // 2
    return _resized(image, h, w)[:, :, top : top + side, left : left + side]


def jittered(x: Images, strengths: tuple[float, float, float, float], draw: Generator) -> Images:
    """Brightness, contrast and saturation times a factor from 1 - s to 1 + s, hue turned by -s to s of a circle.

    Each image has its own factors; the order of the four is drawn anew for every batch.
    """
    changes = (brightness, contrast, saturation, hue)
    for i in torch.randperm(4, generator=draw).tolist():
        if strengths[i]:
            around = 0 if changes[i] is hue else 1
            x = changes[i](x, _uniform(len(x), around - strengths[i], around + strengths[i], draw))
    return x


def grey(x: Images) -> Float[Tensor, "n 1 h w"]:
    """The brightness that the eye sees, a weighted mean of the channels."""
    return (x * x.new_tensor(GREY).view(3, 1, 1)).sum(1, keepdim=True)


def brightness(x: Images, factor: Float[Tensor, "n 1 1 1"]) -> Images:
    """Images blended with black: factor 0 is black, 1 leaves them."""
    return (factor * x).clamp(0, 1)


def contrast(x: Images, factor: Float[Tensor, "n 1 1 1"]) -> Images:
    """Images blended with their mean grey."""
    middle = grey(x).mean((1, 2, 3), keepdim=True)
    return (middle + factor * (x - middle)).clamp(0, 1)


def saturation(x: Images, factor: Float[Tensor, "n 1 1 1"]) -> Images:
    """Images blended with their grey version."""
    return (grey(x) + factor * (x - grey(x))).clamp(0, 1)


def hue(x: Images, turn: Float[Tensor, "n 1 1 1"]) -> Images:
    """The hue of HSV turned by a share of the circle; saturation and value stay."""
    value, low = x.amax(1), x.amin(1)  # (n, h, w)
    chroma = value - low
    r, g, b = x.unbind(1)
    safe = torch.where(chroma > 0, chroma, 1.0)
    sector = torch.where(value == r, (g - b) / safe, torch.where(value == g, 2 + (b - r) / safe, 4 + (r - g) / safe))
    sector = sector + 6 * turn[:, 0]
    k = torch.stack([(sector + n) % 6 for n in (5, 3, 1)], dim=1)  # (n, 3, h, w): the distance of each channel's peak
    return value[:, None] - chroma[:, None] * torch.minimum(k, 4 - k).clamp(0, 1)
