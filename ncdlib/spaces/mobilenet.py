"""MobileNet-like spaces: NAS-Bench-Macro (Su et al. 2021, arXiv:2103.11922), and MobileNetV2 with free expansion ratios.

Both chain inverted residual blocks (Sandler et al. 2018, arXiv:1801.04381). NAS-Bench-Macro chooses the kind of each of
eight blocks and comes with CIFAR-10 accuracies; the other chooses the expansion ratio of each of MobileNetV2's
seventeen blocks for ImageNet and has no ground truth.
"""

from collections.abc import Iterator
from itertools import product
from typing import ClassVar

import numpy as np
from torch import Tensor, nn

from ncdlib import activations
from ncdlib.spaces.base import Space
from ncdlib.spaces.blocks import Linear, conv_norm

PUBLISHED = "1" + "6" * 16  # MobileNetV2 itself
V2_STAGES = (
    (16, 1, 1),
    (24, 2, 2),
    (32, 3, 2),
    (64, 4, 2),
    (96, 3, 1),
    (160, 3, 2),
    (320, 1, 1),
)  # channels, blocks, stride


class Chain(Space[str]):
    """What the two spaces share. An architecture is its native string, a digit a block; sampling is uniform over strings."""

    kinds: ClassVar[dict[str, tuple[int, int] | None]]  # of each digit: kernel and expansion ratio, or None, the identity
    blocks: tuple[tuple[int, int], ...]  # channels, where the stem has 32, and stride
    stem: tuple[str, int]  # its label and stride
    example: str

    def _sample(self, rng: np.random.Generator) -> str:
        digits = list(self.kinds)
        return "".join(digits[i] for i in rng.integers(len(digits), size=len(self.blocks)))

    def enumerate(self) -> Iterator[str]:
        """All architectures, the last block turning fastest."""
        return map("".join, product(self.kinds, repeat=len(self.blocks)))

    def parse(self, text: str) -> str:
        if not isinstance(text, str):
            raise ValueError(
                f"expected a string such as {self.example!r}, got {text!r}: a table read without dtype=str loses its "
                "leading zeros"
            )
        good = f"a good one is {self.example}"
        if not (text.isascii() and text.isdigit()):
            raise ValueError(f"{text!r} is no architecture of {self.name}, which is digits alone: {good}")
        if len(text) != len(self.blocks):
            raise ValueError(f"{text!r} has {len(text)} digits, not {len(self.blocks)}, one a block: {good}")
        for position, digit in enumerate(text):
            if digit not in self.kinds:
                raise ValueError(f"digit {position} of {text!r} must be one of {', '.join(self.kinds)}, got {digit}; {good}")
        return text

    def convolutions(self, arch: str) -> int:
        """Three for an inverted residual block, two where its ratio is 1; one for an identity that changes shape."""
        kinds = [self.kinds[digit] for digit in arch]
        return sum(
            (2 if kind[1] == 1 else 3) if kind else int(stride == 2)
            for kind, (_, stride) in zip(kinds, self.blocks, strict=True)
        )

    def network(
        self, arch: str, norm: str, activation: str, complete: bool,
        *, channels: int = 32, features: int = 1280, classes: int,
    ) -> nn.Module:  # fmt: skip
        layers: list[nn.Module] = [conv_norm(3, channels, 3, self.stem[1], norm), activations.make(activation)]
        c = channels
        for digit, (width, stride) in zip(arch, self.blocks, strict=True):
            c_out = width * channels // 32
            if kind := self.kinds[digit]:
                layers.append(InvertedResidual(c, c_out, *kind, stride, norm, activation))
            elif stride == 2:
                layers.append(conv_norm(c, c_out, 1, stride, norm))
            c = c_out
        head = [conv_norm(c, features, 1, 1, norm), activations.make(activation), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        return nn.Sequential(*layers, *head, Linear(features, classes))

    def picture(self, arch: str) -> tuple:
        shown = [(self.stem[0], 32.0)]
        for digit, (width, stride) in zip(arch, self.blocks, strict=True):
            kind = self.kinds[digit]
            label = "{0}x{0}, ratio {1}".format(*kind) if kind else "identity"
            shown.append((label + (", stride 2" if stride == 2 else ""), float(width)))
        return "stack", [*shown, ("1x1", 1280.0)], arch


class MobileNet(Chain):
    """NAS-Bench-Macro: 3^8 = 6,561 networks of stages of 2, 3 and 3 blocks; the first of a stage halves the resolution.

    A digit is 0 identity, 1 inverted residual 3x3 with ratio 3, 2 inverted residual 5x5 with ratio 6. Sizes: `channels` of
    the stem, the stages having 2, 4 and 8 times that, and `features` before the head. Takes images of any size; the
    published one is 32x32. `complete` changes nothing: all work reaches the output.

    The benchmark's `flops` are multiply-adds of convolutions and the linear layer at 32x32; neither normalisation nor
    the linear layer's bias is counted.
    """

    name = "mobilenet"
    sizes: ClassVar = {"channels": 32, "features": 1280, "classes": 10}
    kinds: ClassVar = {"0": None, "1": (3, 3), "2": (5, 6)}
    blocks = tuple((c, 1 if i else 2) for c, count in ((64, 2), (128, 3), (256, 3)) for i in range(count))
    stem = "stem 3x3", 1
    example = "02012100"


class MobileNetV2(Chain):
    """MobileNetV2 for ImageNet at width 1, the expansion ratio of each block free in {1, 2, 4, 6}, without the dropout.

    The paper names the set of ratios and no more. Here all 17 blocks are free, the first included, which MobileNetV2
    fixes at 1; `PUBLISHED` is MobileNetV2 itself. There is no ground truth.

    Takes images of any size; the published one is 224x224. Features are 32 times smaller than the image, so that a proxy
    may run at 64x64. `complete` changes nothing: all work reaches the output.
    """

    name = "mobilenet_v2"
    activation = "relu6"
    sizes: ClassVar = {"classes": 1000}
    kinds: ClassVar = {"1": (3, 1), "2": (3, 2), "4": (3, 4), "6": (3, 6)}
    blocks = tuple((c, 1 if i else stride) for c, count, stride in V2_STAGES for i in range(count))
    stem = "stem 3x3, stride 2", 2
    example = PUBLISHED


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
