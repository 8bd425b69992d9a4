"""Augmentation of image batches as plain tensor functions; all randomness comes from the generator that is handed in."""

from collections.abc import Sequence
import math

from jaxtyping import Float, UInt8
import torch
from torch import Generator, Tensor
from torch.nn.functional import interpolate, pad

from ncdlib.recipes import Recipe

PADDING = 4
GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in PIL
ENLARGED = 256 / 224  # ImageNet's validation images are resized to 256 and cropped to 224

Images = Float[Tensor, "n 3 h w"]


def training(
    images: Sequence[UInt8[Tensor, "3 _ _"]], recipe: Recipe, mean: Sequence[float], std: Sequence[float], draw: Generator
) -> Float[Tensor, "n 3 r r"]:
    """Images of bytes as the recipe trains on them: cropped, flipped, jittered, standardised, cut out."""
    if recipe.augmentation == "crop":
        x = shifted(_stacked(images, recipe.resolution), PADDING, draw)
    else:
        x = torch.cat([resized_part(image, recipe.resolution, draw) for image in images])
    x = flipped(x, draw)
    if any(recipe.jitter):
        x = jittered(x, recipe.jitter, draw)
    return cut_out(standardised(x, mean, std), recipe.cutout, draw)


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
