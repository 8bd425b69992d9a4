"""TransNAS-Bench-101 (Duan et al. 2021, arXiv:2105.11871): what a cell computes (micro), or how cells stack up (macro)."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product
from typing import ClassVar

import numpy as np
from torch import nn

from ncdlib.spaces.base import Space
from ncdlib.spaces.blocks import Linear, ReLUConvBN, ResidualBlock, conv_norm
from ncdlib.spaces.nasbench201 import EDGES, Cell201, EdgeCell, NASBench201

OPS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3")  # cell digits 0, 1, 2, 3
BASE = 64  # channels after the stem; every string of the benchmark begins with it
MICRO_MODULES = "41414"
MODULES = {"1": "same", "2": "wider", "3": "smaller", "4": "wider, smaller"}  # what a module does to channels and resolution


@dataclass(frozen=True)
class Net:
    """A network: a digit for each module, and the cell of which each module holds two.

    - `modules`: 1 plain, 2 doubles the channels, 3 halves the resolution, 4 does both.
    - `cell`: `basic`, a residual block, or six digits for the edges 0>1_0>2,1>2_0>3,1>3,2>3: 0 none, 1 skip, 2 convolution
      1x1, 3 convolution 3x3.

    The benchmark holds `41414` with every cell of digits (micro) and many modules with the basic cell (macro).
    """

    modules: str
    cell: str = "basic"

    def __post_init__(self) -> None:
        if not self.modules or set(self.modules) - set(MODULES):
            raise ValueError(f"modules {self.modules!r} must be digits from 1 to 4, e.g. {MICRO_MODULES!r}")
        groups = self.cell.split("_")
        if self.cell != "basic" and ([*map(len, groups)] != [1, 2, 3] or set("".join(groups)) - set("0123")):
            raise ValueError(
                f"cell {self.cell!r} must be 'basic' or 1, 2 and 3 digits from 0 to 3 joined by '_', e.g. '1_02_333'"
            )

    def __str__(self) -> str:
        return f"{BASE}-{self.modules}-{self.cell}"

    @cached_property
    def graph(self) -> Cell201:
        """The cell of digits as operations on the edges of a NAS-Bench-201 cell. ValueError for the basic cell."""
        return Cell201(tuple(OPS[int(digit)] for digit in self.cell.replace("_", "")))


class TransNAS(Space[Net]):
    """What the two spaces share: the string, the network around the cells.

    The network is the encoder with a classification head: global average pool and a linear layer, as published for these
    tasks. Sizes:

    - `channels`: after the stem, even. `cells_per_module`.
    - `classes`: 47 is class_scene; class_object has 75, room_layout 9. The head of jigsaw (1,000 permutations) reads
      nine pieces at once, and the dense tasks have decoders: the encoder, which is what this space varies, is the same.

    Published images are 256x256; any size runs. To score, channels=16 and 64x64 pixels rank alike (bench/sizes.py).
    The stem divides resolution by 4, the modules by their own digits. `complete=False` does not run convolutions whose
    output goes nowhere; their activations still record.
    """

    example: str
    sizes: ClassVar = {"channels": BASE, "cells_per_module": 2, "classes": 47}

    def parse(self, text: str) -> Net:
        good = f"a {self.name} network looks like {self.example}"
        parts = text.split("-") if isinstance(text, str) else []
        if len(parts) != 3:
            raise ValueError(f"expected base channels, modules and cell joined by '-', got {text!r}: {good}")
        base, modules, cell = parts
        if base != str(BASE):
            raise ValueError(f"base channels {base!r} in {text!r} must be {BASE}, as in the benchmark: {good}")
        try:
            arch = Net(modules, cell)
        except ValueError as error:
            raise ValueError(f"in {text!r}, {error}; {good}") from None
        self.check(arch, f"{text!r} is outside the space {self.name}: %s; {good}")
        return arch

    @abstractmethod
    def check(self, arch: Net, message: str) -> None:
        """Raise ValueError(message % reason) unless the benchmark's space holds this network."""

    def network(
        self, arch: Net, norm: str, activation: str, complete: bool, *, channels: int, cells_per_module: int, classes: int
    ) -> nn.Module:
        if channels % 2:
            raise ValueError(f"channels must be even, since the stem's first convolution has half of them: got {channels}")
        layers: list[nn.Module] = [Stem(channels, norm, activation)]
        c_in = channels
        for digit in arch.modules:
            c_out, stride = c_in * (2 if digit in "24" else 1), 2 if digit in "34" else 1
            for _ in range(cells_per_module):
                if arch.cell == "basic":
                    same = (c_in, stride) == (c_out, 1)
                    shortcut = nn.Identity() if same else conv_norm(c_in, c_out, 1, stride, norm)
                    layers.append(ResidualBlock(c_in, c_out, stride, norm, activation, shortcut))
                else:
                    layers.append(EdgeCell(arch.graph, c_in, c_out, stride, norm, activation, complete))
                c_in, stride = c_out, 1
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), Linear(c_in, classes))


class TransNASMicro(TransNAS):
    """4,096 cells in a network of modules 41414; sampling is uniform over cells."""

    name = "transnas_micro"
    example = "64-41414-1_02_333"

    def _sample(self, rng: np.random.Generator) -> Net:
        return self._net(rng.integers(len(OPS), size=len(EDGES)))

    def enumerate(self) -> Iterator[Net]:
        """All networks, the last edge turning fastest."""
        return map(self._net, product(range(len(OPS)), repeat=len(EDGES)))

    def check(self, arch: Net, message: str) -> None:
        if arch.cell == "basic":
            raise ValueError(message % "its cell is 'basic', which belongs to transnas_macro")
        if arch.modules != MICRO_MODULES:
            raise ValueError(message % f"its modules {arch.modules!r} are not {MICRO_MODULES!r}")

    def convolutions(self, arch: Net) -> int:
        """Edges of the cell that convolve."""
        return arch.graph.convolutions

    def picture(self, arch: Net) -> tuple:
        return NASBench201().picture(arch.graph)

    @staticmethod
    def _net(digits: tuple[int, ...] | np.ndarray) -> Net:
        a, b, c, d, e, f = digits
        return Net(MICRO_MODULES, f"{a}_{b}{c}_{d}{e}{f}")


class TransNASMacro(TransNAS):
    """3,256 stacks of four to six modules of residual blocks; sampling is uniform over stacks."""

    name = "transnas_macro"
    example = "64-1234-basic"

    def _sample(self, rng: np.random.Generator) -> Net:
        nets = _macro_nets()
        return nets[rng.integers(len(nets))]

    def enumerate(self) -> Iterator[Net]:
        """All networks, the shorter ones first."""
        return iter(_macro_nets())

    def check(self, arch: Net, message: str) -> None:
        if arch.cell != "basic":
            raise ValueError(message % f"its cell {arch.cell!r} is not 'basic'")
        for what, number, least, most in _macro_counts(arch.modules):
            if not least <= number <= most:
                raise ValueError(message % f"{number} {what} where {least} to {most} are allowed")

    def convolutions(self, arch: Net) -> int:
        """Two 3x3 convolutions a cell, two cells a module; 1x1 convolutions on the shortcuts are not counted."""
        return 4 * len(arch.modules)

    def picture(self, arch: Net) -> tuple:
        doublings = np.cumsum([digit in "24" for digit in arch.modules]).tolist()
        blocks = [(MODULES[digit], BASE * 2**d) for digit, d in zip(arch.modules, doublings, strict=True)]
        return "stack", [("stem", BASE), *blocks]


def _macro_counts(modules: str) -> list[tuple[str, int, int, int]]:
    """What the macro space limits: (what, number, least, most)."""
    return [
        ("modules", len(modules), 4, 6),
        ("modules that double the channels (2, 4)", sum(digit in "24" for digit in modules), 1, 3),
        ("modules that halve the resolution (3, 4)", sum(digit in "34" for digit in modules), 1, 4),
    ]


@cache
def _macro_nets() -> tuple[Net, ...]:
    stacks = ("".join(digits) for length in (4, 5, 6) for digits in product(MODULES, repeat=length))
    return tuple(Net(m) for m in stacks if all(least <= n <= most for _, n, least, most in _macro_counts(m)))


class Stem(nn.Sequential):
    """Two 3x3 convolutions of stride 2, the second one behind an activation."""

    def __init__(self, c: int, norm: str, activation: str) -> None:
        super().__init__(*conv_norm(3, c // 2, 3, 2, norm), ReLUConvBN(c // 2, c, 3, 2, norm, activation))
