"""MobileNet-like spaces: NAS-Bench-Macro (Su et al. 2021, arXiv:2103.11922), and MobileNetV2 with free expansion ratios.

Both chain inverted residual blocks (Sandler et al. 2018, arXiv:1801.04381). NAS-Bench-Macro chooses the kind of each of
eight blocks and comes with CIFAR-10 accuracies; the other chooses the expansion ratio of each of MobileNetV2's
seventeen blocks for ImageNet and has no ground truth.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor, nn

from ncdlib import activations, rescaling
from ncdlib.spaces.base import Space
from ncdlib.spaces.blocks import Conv2d, Linear, check_sizes, initialise

if TYPE_CHECKING:
    import matplotlib.axes

KINDS = ("identity", "3x3, ratio 3", "5x5, ratio 6")  # what the digits 0, 1, 2 of NAS-Bench-Macro stand for
KERNEL_RATIO = {1: (3, 3), 2: (5, 6)}
MACRO_STAGES = (2, 3, 3)  # blocks a stage; the first doubles channels and halves resolution
MACRO_STRIDES = tuple(2 if block == 0 else 1 for blocks in MACRO_STAGES for block in range(blocks))

RATIOS = (1, 2, 4, 6)
V2_STAGES = (
    (16, 1, 1),
    (24, 2, 2),
    (32, 3, 2),
    (64, 4, 2),
    (96, 3, 1),
    (160, 3, 2),
    (320, 1, 1),
)  # channels, blocks, stride
V2_BLOCKS = tuple((c, stride if i == 0 else 1) for c, blocks, stride in V2_STAGES for i in range(blocks))
PUBLISHED = "1" + "6" * 16  # MobileNetV2 itself


@dataclass(frozen=True)
class MacroCode:
    """Eight blocks in order: 0 identity, 1 inverted residual 3x3 with ratio 3, 2 inverted residual 5x5 with ratio 6."""

    kinds: tuple[int, ...]

    def __post_init__(self) -> None:
        _check(self.kinds, len(MACRO_STRIDES), range(len(KINDS)), "NAS-Bench-Macro code", "02012100")

    def __str__(self) -> str:
        return "".join(map(str, self.kinds))

    @property
    def convolutions(self) -> int:
        return sum(3 if kind else int(stride == 2) for kind, stride in zip(self.kinds, MACRO_STRIDES, strict=True))


@dataclass(frozen=True)
class ExpansionRatios:
    """The expansion ratio of each of MobileNetV2's 17 blocks, in order; the native string is one digit a block."""

    ratios: tuple[int, ...]

    def __post_init__(self) -> None:
        _check(self.ratios, len(V2_BLOCKS), RATIOS, "MobileNetV2 string of expansion ratios", PUBLISHED)

    def __str__(self) -> str:
        return "".join(map(str, self.ratios))

    @property
    def convolutions(self) -> int:
        return sum(2 if ratio == 1 else 3 for ratio in self.ratios)


def _check(digits: tuple[int, ...], length: int, allowed: range | tuple[int, ...], what: str, example: str) -> None:
    if len(digits) != length:
        raise ValueError(f"a {what} has {length} digits, got {len(digits)}: {digits}; a good one is {example}")
    for position, digit in enumerate(digits):
        if digit not in allowed:
            choices = ", ".join(map(str, allowed))
            raise ValueError(
                f"digit {position} of a {what} must be one of {choices}, got {digit!r}; a good one is {example}"
            )


def _digits(text: object, what: str, example: str) -> tuple[int, ...]:
    if not isinstance(text, str):
        raise ValueError(
            f"expected a string such as {example!r}, got {text!r}: a table read without dtype=str loses its leading zeros"
        )
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text!r} is not a {what}, which is digits alone: a good one is {example}")
    return tuple(map(int, text))


class MobileNet(Space[MacroCode]):
    """NAS-Bench-Macro: 3^8 = 6,561 networks; sampling is uniform over them."""

    name = "mobilenet"

    def sample(self, rng: np.random.Generator) -> MacroCode:
        return MacroCode(tuple(rng.integers(len(KINDS), size=len(MACRO_STRIDES)).tolist()))

    def enumerate(self) -> Iterator[MacroCode]:
        """All networks, the last block turning fastest."""
        return (MacroCode(kinds) for kinds in product(range(len(KINDS)), repeat=len(MACRO_STRIDES)))

    def parse(self, text: str) -> MacroCode:
        return MacroCode(_digits(text, "NAS-Bench-Macro code", "02012100"))

    def convolutions(self, arch: MacroCode) -> int:
        """Three for an inverted residual block, one for an identity that changes shape, else none."""
        return arch.convolutions

    def build(
        self,
        arch: MacroCode | str,
        norm: str = "bn",
        activation: str = "relu",
        *,
        init: str = "default",
        complete: bool = True,
        channels: int = 32,
        features: int = 1280,
        classes: int = 10,
    ) -> nn.Module:
        """The published network: a stem of `channels` = 32, stages at 2, 4 and 8 times that, `features` before the head.

        Takes images of any size; the published one is 32x32. `complete` changes nothing: all work reaches the output.
        The benchmark's `flops` are multiply-adds of convolutions and the linear layer at 32x32; neither normalisation nor
        the linear layer's bias is counted.
        """
        arch = self.parse(arch) if isinstance(arch, str) else arch
        check_sizes(channels=channels, features=features, classes=classes)
        c = channels
        layers: list[nn.Module] = [conv_norm(3, c, 3, 1, norm), activations.make(activation)]
        for kind, stride in zip(arch.kinds, MACRO_STRIDES, strict=True):
            c_out = c * stride
            if kind:
                layers.append(InvertedResidual(c, c_out, *KERNEL_RATIO[kind], stride, norm, activation))
            elif stride == 2:
                layers.append(conv_norm(c, c_out, 1, stride, norm))
            c = c_out
        network = nn.Sequential(*layers, *head(c, features, classes, norm, activation))
        initialise(network, init)
        return network

    def draw(self, arch: MacroCode, ax: "matplotlib.axes.Axes") -> None:
        from ncdlib.spaces import drawing  # here, because it loads matplotlib

        blocks, c = [("stem 3x3", 32.0)], 32
        for kind, stride in zip(arch.kinds, MACRO_STRIDES, strict=True):
            c *= stride
            blocks.append((KINDS[kind] + (", stride 2" if stride == 2 else ""), float(c)))
        drawing.stack(ax, [*blocks, ("1x1", 1280.0)], title=str(arch))


class MobileNetV2(Space[ExpansionRatios]):
    """MobileNetV2 for ImageNet with the expansion ratio of each block free in {1, 2, 4, 6}; sampling is uniform over 4^17.

    The paper names the set of ratios and no more. Here all 17 blocks are free, the first included, which MobileNetV2
    fixes at 1; `PUBLISHED` is MobileNetV2 itself. There is no ground truth.
    """

    name = "mobilenet_v2"

    def sample(self, rng: np.random.Generator) -> ExpansionRatios:
        return ExpansionRatios(tuple(RATIOS[i] for i in rng.integers(len(RATIOS), size=len(V2_BLOCKS))))

    def parse(self, text: str) -> ExpansionRatios:
        return ExpansionRatios(_digits(text, "MobileNetV2 string of expansion ratios", PUBLISHED))

    def convolutions(self, arch: ExpansionRatios) -> int:
        """Two for a block of ratio 1, which has no expansion, else three."""
        return arch.convolutions

    def build(
        self,
        arch: ExpansionRatios | str,
        norm: str = "bn",
        activation: str = "relu6",
        *,
        init: str = "default",
        complete: bool = True,
        classes: int = 1000,
    ) -> nn.Module:
        """MobileNetV2 at width 1 with these ratios, without the dropout before its head.

        Takes images of any size; the published one is 224x224. Features are 32 times smaller than the image, so that
        a proxy may run at 64x64. `complete` changes nothing: all work reaches the output.
        """
        arch = self.parse(arch) if isinstance(arch, str) else arch
        check_sizes(classes=classes)
        c = 32
        layers: list[nn.Module] = [conv_norm(3, c, 3, 2, norm), activations.make(activation)]
        for ratio, (c_out, stride) in zip(arch.ratios, V2_BLOCKS, strict=True):
            layers.append(InvertedResidual(c, c_out, 3, ratio, stride, norm, activation))
            c = c_out
        network = nn.Sequential(*layers, *head(c, 1280, classes, norm, activation))
        initialise(network, init)
        return network

    def draw(self, arch: ExpansionRatios, ax: "matplotlib.axes.Axes") -> None:
        from ncdlib.spaces import drawing  # here, because it loads matplotlib

        blocks = [
            (f"3x3, ratio {ratio}" + (", stride 2" if stride == 2 else ""), float(c))
            for ratio, (c, stride) in zip(arch.ratios, V2_BLOCKS, strict=True)
        ]
        drawing.stack(ax, [("stem 3x3, stride 2", 32.0), *blocks, ("1x1", 1280.0)], title=str(arch))


class InvertedResidual(nn.Module):
    """Expand by 1x1, filter each channel, project by 1x1; activation after the first two, shortcut where the shape stays.

    With ratio 1 there is nothing to expand, and the 1x1 before the filter is left out.
    """

    def __init__(self, c_in: int, c_out: int, kernel: int, ratio: int, stride: int, norm: str, activation: str) -> None:
        super().__init__()
        wide = c_in * ratio
        expand = [] if ratio == 1 else [conv_norm(c_in, wide, 1, 1, norm), activations.make(activation)]
        self.layers = nn.Sequential(
            *expand,
            conv_norm(wide, wide, kernel, stride, norm, groups=wide),
            activations.make(activation),
            conv_norm(wide, c_out, 1, 1, norm),
        )
        self.shortcut = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.shortcut else self.layers(x)


def conv_norm(c_in: int, c_out: int, kernel: int, stride: int, norm: str, groups: int = 1) -> nn.Sequential:
    """Convolution without bias, normalisation."""
    convolution = Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, rescaling.make(norm, c_out))


def head(c: int, features: int, classes: int, norm: str, activation: str) -> list[nn.Module]:
    """1x1 convolution to `features`, normalisation, activation, global average, linear layer."""
    average = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return [conv_norm(c, features, 1, 1, norm), activations.make(activation), *average, Linear(features, classes)]
