"""NAS-Bench-201 (Dong & Yang 2020, arXiv:2001.00326): a cell of four nodes with an operation on each of six edges."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor, nn

from ncdlib import activations, rescaling
from ncdlib.spaces.base import Space
from ncdlib.spaces.blocks import AvgPool2d, Conv2d, EdgeCell, Linear, ReLUConvBN, check_sizes, initialise

if TYPE_CHECKING:
    import matplotlib.axes

OPS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
WIDER = ("nor_conv_5x5", "nor_conv_7x7")  # outside the benchmark, to study rising non-linearity
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))  # in the order of the string
EXAMPLE = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"


@dataclass(frozen=True)
class Cell201:
    """A cell: the operation on each edge 0>1, 0>2, 1>2, 0>3, 1>3, 2>3."""

    ops: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.ops) != len(EDGES):
            raise ValueError(f"a NAS-Bench-201 cell has {len(EDGES)} operations, got {len(self.ops)}: {self.ops}")
        for op in self.ops:
            if op not in OPS + WIDER:
                raise ValueError(f"unknown operation {op!r}: use one of {', '.join(OPS + WIDER)}")

    def __str__(self) -> str:
        terms = [f"{op}~{i}" for op, (i, _) in zip(self.ops, EDGES, strict=True)]
        return f"|{terms[0]}|+|{'|'.join(terms[1:3])}|+|{'|'.join(terms[3:])}|"

    @property
    def convolutions(self) -> int:
        return sum(op.startswith("nor_conv") for op in self.ops)

    @cached_property
    def needed(self) -> tuple[bool, ...]:
        """For each edge, whether its output can be other than zero and reach the cell's output or an activation."""
        fed = [True, False, False, False]  # nodes that something reaches: of zeros, every operation makes zeros
        for (i, j), op in zip(EDGES, self.ops, strict=True):
            fed[j] |= op != "none" and fed[i]
        read = [False, False, False, True]  # nodes whose value anything sees
        for (i, j), op in reversed(list(zip(EDGES, self.ops, strict=True))):
            read[i] |= op.startswith("nor_conv") or (op != "none" and read[j])
        return tuple(op != "none" and fed[i] and read[j] for (i, j), op in zip(EDGES, self.ops, strict=True))

    @cached_property
    def isomorphism_class(self) -> str:
        """The benchmark's canonical form, `UniqueString` in its tables: 6,466 classes of cells that compute one function.

        Sums are sorted, a skip stands for its source ("0" is the input), and whatever is zero is "#". The classes are
        those published: some that differ only in zeros or in nested sums still compute the same.
        """
        nodes: list[list[str]] = [["0"], [], [], []]
        for (i, j), op in zip(EDGES, self.ops, strict=True):
            source = "+".join(sorted(nodes[i]))
            term = f"({source})@{op}" if op != "skip_connect" else source
            nodes[j].append("#" if op == "none" or source == "#" else term)
        return "+".join(sorted(nodes[3]))


class NASBench201(Space[Cell201]):
    """15,625 cells; sampling is uniform over cells."""

    name = "nasbench201"

    def sample(self, rng: np.random.Generator) -> Cell201:
        return Cell201(tuple(OPS[i] for i in rng.integers(len(OPS), size=len(EDGES))))

    def enumerate(self) -> Iterator[Cell201]:
        """All cells, the last edge turning fastest."""
        return (Cell201(ops) for ops in product(OPS, repeat=len(EDGES)))

    def parse(self, text: str) -> Cell201:
        good = f"a NAS-Bench-201 cell looks like {EXAMPLE}"
        if not isinstance(text, str):
            raise ValueError(f"expected a string, got {text!r}: {good}")
        nodes = text.split("+")
        if len(nodes) != 3:
            raise ValueError(f"{text!r} has {len(nodes)} nodes between '+' signs, not 3: {good}")
        ops = []
        for j, node in enumerate(nodes, start=1):
            terms = node[1:-1].split("|")
            if not (node.startswith("|") and node.endswith("|")) or len(terms) != j:
                raise ValueError(f"node {j}, {node!r}, must hold {j} operations between '|' signs: {good}")
            for i, term in enumerate(terms):
                op, tilde, source = term.partition("~")
                if op not in OPS:
                    raise ValueError(f"unknown operation {op!r} in {term!r}: use one of {', '.join(OPS)}; {good}")
                if not tilde or source != str(i):
                    raise ValueError(f"{term!r} is edge {i} of node {j} and must end in '~{i}': {good}")
                ops.append(op)
        return Cell201(tuple(ops))

    def checked(self, arch: object) -> Cell201:
        """As in every space, and cells with the kernels outside the benchmark, which no string names."""
        return arch if isinstance(arch, Cell201) else super().checked(arch)

    def convolutions(self, arch: Cell201) -> int:
        return arch.convolutions

    def build(
        self,
        arch: Cell201 | str,
        norm: str = "bn",
        activation: str = "relu",
        *,
        init: str = "default",
        complete: bool = True,
        channels: int = 16,
        cells_per_stage: int = 5,
        classes: int = 10,
    ) -> nn.Module:
        """The published network: `channels` = 16, doubled at each of two residual blocks, `cells_per_stage` = 5.

        `complete=False` does not run operations on zeros, or whose output goes nowhere; their activations still record.
        """
        arch = self.parse(arch) if isinstance(arch, str) else arch
        check_sizes(channels=channels, cells_per_stage=cells_per_stage, classes=classes)
        c = channels
        layers: list[nn.Module] = [Stem(c, norm)]
        for stage in range(3):
            if stage:
                layers.append(ResidualBlock(c, 2 * c, norm, activation))
                c *= 2
            layers += [EdgeCell(edges(arch, c, norm, activation, complete), c) for _ in range(cells_per_stage)]
        head = [
            rescaling.make(norm, c),
            activations.make(activation),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            Linear(c, classes),
        ]
        network = nn.Sequential(*layers, *head)
        initialise(network, init)
        return network

    def draw(self, arch: Cell201, ax: "matplotlib.axes.Axes") -> None:
        from ncdlib.spaces import drawing  # here, because it loads matplotlib

        edges = [(i, j, op) for (i, j), op in zip(EDGES, arch.ops, strict=True) if op != "none"]
        drawing.cell(ax, edges, {0: "input", 1: "1", 2: "2", 3: "output"})


class Stem(nn.Sequential):
    """3x3 convolution and normalisation, no activation."""

    def __init__(self, c: int, norm: str) -> None:
        super().__init__(Conv2d(3, c, 3, padding=1, bias=False), rescaling.make(norm, c))


class ResidualBlock(nn.Module):
    """Two ReLU-Conv-BN, the first with stride 2; the shortcut is an average pool and a bare 1x1 convolution."""

    def __init__(self, c_in: int, c_out: int, norm: str, activation: str) -> None:
        super().__init__()
        self.conv_a = ReLUConvBN(c_in, c_out, 3, 2, norm, activation)
        self.conv_b = ReLUConvBN(c_out, c_out, 3, 1, norm, activation)
        self.downsample = nn.Sequential(AvgPool2d(2, 2), Conv2d(c_in, c_out, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.downsample(x) + self.conv_b(self.conv_a(x))


def edges(
    arch: Cell201, c: int, norm: str, activation: str, complete: bool
) -> Iterator[tuple[int, int, nn.Module | None, bool]]:
    """The edges of a cell, as `EdgeCell` takes them."""
    for (i, j), op, needed in zip(EDGES, arch.ops, arch.needed, strict=True):
        yield i, j, operation(op, c, norm, activation), complete or needed


def operation(op: str, c: int, norm: str, activation: str) -> nn.Module | None:
    """The module of an operation; None for `none`."""
    if op == "none":
        return None
    if op == "skip_connect":
        return nn.Identity()
    if op == "avg_pool_3x3":
        return AvgPool2d(3, 1, 1)
    return ReLUConvBN(c, c, int(op[-1]), 1, norm, activation)
