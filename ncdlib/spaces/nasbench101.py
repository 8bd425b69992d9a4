"""NAS-Bench-101 (Ying et al. 2019, arXiv:1902.09635): a cell is any small graph with an operation on each vertex."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
import hashlib
from itertools import product
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ncdlib import activations
from ncdlib.spaces.base import Space
from ncdlib.spaces.blocks import Linear, conv_norm

OPS = ("conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3")  # in the order of the published labels 0, 1, 2
MAX_VERTICES, MAX_EDGES = 7, 9
EXAMPLE = "0110/0001/0001/0000:input|conv3x3-bn-relu|maxpool3x3|output"
GOOD = f"a NAS-Bench-101 cell looks like {EXAMPLE}"

Matrix = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Cell101:
    """A cell: `matrix[i][j] = 1` where vertex i feeds vertex j > i, and the operation of each vertex.

    Vertex 0 is the input, the last one the output, and every vertex lies on a path between them (`pruned` sees to it).
    The benchmark publishes no string; here `str` is the rows of the matrix joined by '/', a colon, and the operations
    joined by '|'. Isomorphic cells may differ as strings; they agree in `hash`, the key of the benchmark.
    """

    matrix: Matrix
    ops: tuple[str, ...]

    def __post_init__(self) -> None:
        _check(self.matrix, self.ops)
        loose = set(range(len(self.ops))) - _on_path(self.matrix)
        if loose:
            raise ValueError(
                f"vertices {sorted(loose)} lie on no path from input to output: use Cell101.pruned(matrix, ops)"
            )
        if len(self.ops) > MAX_VERTICES:
            raise ValueError(f"{len(self.ops)} vertices are more than {MAX_VERTICES}, input and output included: {GOOD}")
        if self.edges > MAX_EDGES:
            raise ValueError(f"{self.edges} edges are more than {MAX_EDGES}: {GOOD}")

    @classmethod
    def pruned(cls, matrix: Sequence[Sequence[int]], ops: Sequence[str]) -> "Cell101":
        """The cell without the vertices that lie on no path from input to output. ValueError where there is no path."""
        _check(matrix, ops)
        kept = sorted(_on_path(matrix))
        if not kept:
            raise ValueError(
                f"no path leads from input to output in {'/'.join(''.join(map(str, r)) for r in matrix)}: {GOOD}"
            )
        return cls(tuple(tuple(int(matrix[i][j]) for j in kept) for i in kept), tuple(ops[i] for i in kept))

    def __str__(self) -> str:
        return "/".join("".join(map(str, row)) for row in self.matrix) + ":" + "|".join(self.ops)

    @property
    def edges(self) -> int:
        return sum(map(sum, self.matrix))

    @cached_property
    def hash(self) -> str:
        """The published hash, equal for isomorphic cells: as many rounds of neighbourhood hashing as there are vertices."""
        n = range(len(self.ops))
        labels = [-1, *map(OPS.index, self.ops[1:-1]), -2]
        hashes = [_md5(str((sum(self.matrix[v]), sum(row[v] for row in self.matrix), labels[v]))) for v in n]
        for _ in n:
            before = [sorted(hashes[w] for w in n if self.matrix[w][v]) for v in n]
            after = [sorted(hashes[w] for w in n if self.matrix[v][w]) for v in n]
            hashes = [_md5(f"{''.join(before[v])}|{''.join(after[v])}|{hashes[v]}") for v in n]
        return _md5(str(sorted(hashes)))

    def widths(self, channels: int) -> list[int]:
        """Output channels of the inner vertices, then of the output, in a cell that puts out `channels`.

        The vertices that feed the output share its channels, the first ones taking the remainder; each other vertex has
        the width of the widest vertex that it feeds. ValueError where a vertex would get no channel.
        """
        last = len(self.ops) - 1
        heads = [v for v in range(1, last) if self.matrix[v][last]]
        if channels < len(heads):
            raise ValueError(f"{channels} channels are too few for {len(heads)} vertices that share them: use more channels")
        width = dict.fromkeys(range(1, last), 0) | {last: channels}
        for k, v in enumerate(heads):
            width[v] = channels // len(heads) + (k < channels % len(heads))
        for v in reversed(range(1, last)):
            if v not in heads:
                width[v] = max(width[w] for w in range(v + 1, last) if self.matrix[v][w])
        return list(width.values())


class NASBench101(Space[Cell101]):
    """423,624 distinct cells of at most 7 vertices and 9 edges. `sample` favours small ones, `sample_pruned` does not.

    Sizes: `channels` of the stem and the first of `stacks` stacks of `cells_per_stack` cells, doubling between them. To
    score, channels=32 and cells_per_stack=1 rank alike (bench/sizes.py). Every vertex of a pruned cell reaches the output,
    so `complete=False` changes nothing.
    """

    name = "nasbench101"
    sizes: ClassVar = {"channels": 128, "stacks": 3, "cells_per_stack": 3, "classes": 10}

    def _sample(self, rng: np.random.Generator) -> Cell101:
        """A valid cell as the benchmark's own `random_spec` draws it: 7x7 bits and 5 operations uniform, then pruned.

        Draws with no path from input to output, or with more than 9 edges left, are thrown away. The result is uniform
        over valid labelled matrices, not over cells: a cell counts once for each matrix that prunes to it. Small cells
        have many, so that 0.3 % of the draws have 7 vertices, though 85 % of all cells do.
        """
        while True:
            matrix = np.triu(rng.integers(2, size=(MAX_VERTICES, MAX_VERTICES)), 1).tolist()
            ops = ("input", *(OPS[i] for i in rng.integers(len(OPS), size=MAX_VERTICES - 2)), "output")
            kept = _on_path(matrix)
            if kept and sum(matrix[i][j] for i in kept for j in kept) <= MAX_EDGES:
                return Cell101.pruned(matrix, ops)

    def sample_pruned(self, rng: np.random.Generator) -> Cell101:
        """A cell drawn uniformly over labelled matrices that have nothing to prune, so nearly uniformly over cells."""
        graphs = [pruned_matrices(vertices) for vertices in range(2, MAX_VERTICES + 1)]
        weights = np.array([len(some) * len(OPS) ** vertices for vertices, some in enumerate(graphs)])
        some = graphs[rng.choice(len(graphs), p=weights / weights.sum())]
        matrix = some[rng.integers(len(some))]
        return Cell101(matrix, ("input", *(OPS[i] for i in rng.integers(len(OPS), size=len(matrix) - 2)), "output"))

    def enumerate(self) -> Iterator[Cell101]:
        """All 423,624 cells, small ones first; takes six minutes, as it hashes 1.3 million labelled graphs."""
        seen = set()
        for vertices in range(2, MAX_VERTICES + 1):
            for matrix, inner in product(pruned_matrices(vertices), product(OPS, repeat=vertices - 2)):
                cell = Cell101(matrix, ("input", *inner, "output"))
                if cell.hash not in seen:
                    seen.add(cell.hash)
                    yield cell

    def parse(self, text: str) -> Cell101:
        """The cell of a string, pruned. The limits of 7 vertices and 9 edges hold for what is left, as published."""
        if not isinstance(text, str) or text.count(":") != 1:
            raise ValueError(f"expected rows and operations with one ':' between them, got {text!r}: {GOOD}")
        rows, ops = text.split(":")
        for i, row in enumerate(rows.split("/")):
            if set(row) - {"0", "1"}:
                raise ValueError(f"row {i} of the matrix, {row!r}, may hold 0 and 1 only: {GOOD}")
        return Cell101.pruned([[int(bit) for bit in row] for row in rows.split("/")], ops.split("|"))

    def convolutions(self, arch: Cell101) -> int:
        """Vertices that convolve; the 1x1 projections, which every cell has, are not counted."""
        return sum(op.startswith("conv") for op in arch.ops)

    def network(
        self, arch: Cell101, norm: str, activation: str, complete: bool,
        *, channels: int, stacks: int, cells_per_stack: int, classes: int,
    ) -> nn.Module:  # fmt: skip
        layers: list[nn.Module] = [conv_bn_relu(3, channels, 3, norm, activation)]
        c_in = channels
        for stack in range(stacks):
            if stack:
                layers.append(nn.MaxPool2d(2, ceil_mode=True))  # TensorFlow's "same" padding keeps an odd last row
            for _ in range(cells_per_stack):
                layers.append(Cell(arch, c_in, channels * 2**stack, norm, activation))
                c_in = channels * 2**stack
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), Linear(c_in, classes))

    def picture(self, arch: Cell101) -> tuple:
        edges = [(i, j, "") for i, row in enumerate(arch.matrix) for j, bit in enumerate(row) if bit]
        return "cell", edges, dict(enumerate(arch.ops))


def conv_bn_relu(c_in: int, c_out: int, kernel: int, norm: str, activation: str) -> nn.Sequential:
    """Convolution without bias, normalisation, activation."""
    return nn.Sequential(*conv_norm(c_in, c_out, kernel, 1, norm), activations.make(activation))


class Cell(nn.Module):
    """An inner vertex sums the vertices that feed it; the output concatenates them. The input comes through projections.

    A vertex wider than its target (by one channel, where the division left a remainder) loses its last channels there.
    """

    def __init__(self, arch: Cell101, c_in: int, c_out: int, norm: str, activation: str) -> None:
        super().__init__()
        self.matrix = arch.matrix
        self.width = dict(enumerate(arch.widths(c_out), start=1))
        self.projections = nn.ModuleDict(
            {str(v): conv_bn_relu(c_in, c, 1, norm, activation) for v, c in self.width.items() if arch.matrix[0][v]}
        )
        self.operations = nn.ModuleList(
            nn.MaxPool2d(3, 1, 1) if op == "maxpool3x3" else conv_bn_relu(c, c, int(op[4]), norm, activation)
            for op, c in zip(arch.ops[1:-1], self.width.values(), strict=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        nodes: dict[int, Tensor] = {}
        for v, operation in enumerate(self.operations, start=1):
            terms = [y[:, : self.width[v]] for w, y in nodes.items() if self.matrix[w][v]]
            nodes[v] = operation(sum(terms + self.projected(x, v)))
        last = len(self.matrix) - 1
        heads = [y for w, y in nodes.items() if self.matrix[w][last]]
        return sum(([torch.cat(heads, dim=1)] if heads else []) + self.projected(x, last))

    def projected(self, x: Tensor, v: int) -> list[Tensor]:
        """The input as vertex v sees it: one projection, or nothing."""
        return [self.projections[str(v)](x)] if self.matrix[0][v] else []


@cache
def pruned_matrices(vertices: int) -> tuple[Matrix, ...]:
    """All matrices of this many vertices and at most 9 edges in which every vertex lies on a path from first to last."""
    places = [(i, j) for j in range(vertices) for i in range(j)]
    graphs = np.arange(2 ** len(places))  # bit k of a number says whether edge places[k] is there
    valid = np.bitwise_count(graphs) <= MAX_EDGES
    for v in range(vertices - 1):  # enough: each but the last feeds one, each but the first is fed
        valid &= graphs & sum(1 << k for k, (i, _) in enumerate(places) if i == v) > 0
        valid &= graphs & sum(1 << k for k, (_, j) in enumerate(places) if j == v + 1) > 0
    matrices = np.zeros((valid.sum(), vertices, vertices), int)
    for k, (i, j) in enumerate(places):
        matrices[:, i, j] = graphs[valid] >> k & 1
    return tuple(tuple(map(tuple, matrix)) for matrix in matrices.tolist())


def _check(matrix: Sequence[Sequence[int]], ops: Sequence[str]) -> None:
    """Raise ValueError unless the matrix is square, of bits, zero on and below the diagonal, with an operation a vertex."""
    for i, row in enumerate(matrix):
        if len(row) != len(matrix):
            raise ValueError(f"row {i} of the matrix has {len(row)} entries, but there are {len(matrix)} rows: {GOOD}")
        for j, bit in enumerate(row):
            if bit not in (0, 1):
                raise ValueError(f"entry ({i}, {j}) of the matrix is {bit!r}, not 0 or 1: {GOOD}")
            if bit and j <= i:
                raise ValueError(f"the matrix must be upper-triangular, but vertex {i} feeds vertex {j}: {GOOD}")
    if len(ops) != len(matrix):
        raise ValueError(f"{len(ops)} operations, {'|'.join(ops)}, for {len(matrix)} vertices: {GOOD}")
    if len(ops) < 2 or (ops[0], ops[-1]) != ("input", "output"):
        raise ValueError(f"the operations must begin with 'input' and end with 'output', got {'|'.join(ops)}: {GOOD}")
    for op in ops[1:-1]:
        if op not in OPS:
            raise ValueError(f"unknown operation {op!r}: use one of {', '.join(OPS)}; {GOOD}")


def _on_path(matrix: Sequence[Sequence[int]]) -> set[int]:
    """The vertices on a path from the first to the last; none where no path joins these two."""
    paths = np.linalg.matrix_power(np.eye(len(matrix), dtype=int) + np.array(matrix), len(matrix))
    return set(np.flatnonzero(paths[0] * paths[:, -1]).tolist())


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
