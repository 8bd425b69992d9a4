"""NAS-Bench-201 (Dong & Yang 2020, arXiv:2001.00326): a cell of four nodes with an operation on each of six edges."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import ClassVar

import numpy as np
from torch import Tensor, nn

from ncdlib import activations, rescaling
from ncdlib.spaces.base import Space
from ncdlib.spaces.blocks import AvgPool2d, Conv2d, FactorizedReduce, Linear, ReLUConvBN, ResidualBlock, conv_norm

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
    """15,625 cells; sampling is uniform over cells.

    Sizes: `channels` of the first stage, doubled at each of two residual blocks, and `cells_per_stage`. `complete=False`
    does not run operations on zeros, or whose output goes nowhere; their activations still record.
    """

    name = "nasbench201"
    sizes: ClassVar = {"channels": 16, "cells_per_stage": 5, "classes": 10}

    def _sample(self, rng: np.random.Generator) -> Cell201:
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

    def network(
        self, arch: Cell201, norm: str, activation: str, complete: bool, *, channels: int, cells_per_stage: int, classes: int
    ) -> nn.Module:
        c = channels
        layers: list[nn.Module] = [conv_norm(3, c, 3, 1, norm)]
        for stage in range(3):
            if stage:
                shortcut = nn.Sequential(AvgPool2d(2, 2), Conv2d(c, 2 * c, 1, bias=False))
                layers.append(ResidualBlock(c, 2 * c, 2, norm, activation, shortcut))
                c *= 2
            layers += [EdgeCell(arch, c, c, 1, norm, activation, complete) for _ in range(cells_per_stage)]
        head = [rescaling.make(norm, c), activations.make(activation), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        return nn.Sequential(*layers, *head, Linear(c, classes))

    def picture(self, arch: Cell201) -> tuple:
        edges = [(i, j, op) for (i, j), op in zip(EDGES, arch.ops, strict=True) if op != "none"]
        return "cell", edges, {0: "input", 1: "1", 2: "2", 3: "output"}


class EdgeCell(nn.Module):
    """A cell of four nodes, the first its input: node j is the sum over i < j of the operation on edge i>j of node i.

    Edges out of node 0 carry the stride and the new channels. Where not `complete`, an edge whose output is not needed only
    calls its activation, so that its code still counts. A node that nothing reaches is zero.
    """

    def __init__(
        self, cell: Cell201, c_in: int, c_out: int, stride: int, norm: str, activation: str, complete: bool = True
    ) -> None:
        super().__init__()
        self.c_out, self.stride = c_out, stride
        self.edges = nn.ModuleDict()
        self.plan: list[tuple[int, int, str, bool]] = []
        for (i, j), op, needed in zip(EDGES, cell.ops, cell.needed, strict=True):
            if op != "none":
                shape = (c_out, c_out, 1) if i else (c_in, c_out, stride)
                self.edges[f"{i}>{j}"] = operation(op, *shape, norm, activation)
                self.plan.append((i, j, f"{i}>{j}", complete or needed))

    def forward(self, x: Tensor) -> Tensor:
        nodes: list[Tensor | None] = [x, None, None, None]  # None stands for zeros
        for i, j, name, needed in self.plan:
            if nodes[i] is None:
                nodes[i] = self.zeros(x)
            operation = self.edges[name]
            if needed:
                y = operation(nodes[i])
                nodes[j] = y if nodes[j] is None else nodes[j] + y
            elif hasattr(operation, "activation"):
                operation.activation(nodes[i])
        return self.zeros(x) if nodes[3] is None else nodes[3]

    def zeros(self, x: Tensor) -> Tensor:
        """A node that nothing reaches, with `c_out` channels and 1 / `stride` of the side."""
        return x.new_zeros(len(x), self.c_out, *(-(-side // self.stride) for side in x.shape[2:]))


def operation(op: str, c_in: int, c_out: int, stride: int, norm: str, activation: str) -> nn.Module:
    """The module of an operation other than `none`."""
    if op == "skip_connect":
        return nn.Identity() if (c_in, stride) == (c_out, 1) else FactorizedReduce(c_in, c_out, stride, norm, activation)
    if op == "avg_pool_3x3":
        return AvgPool2d(3, stride, 1)
    return ReLUConvBN(c_in, c_out, int(op[-1]), stride, norm, activation)
