"""DARTS (Liu et al. 2019, arXiv:1806.09055): a normal and a reduction cell of four nodes, each reading two earlier ones."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
import re
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from torch import nn

from ncdlib.spaces.base import Space
from ncdlib.spaces.darts_network import Network

if TYPE_CHECKING:
    import matplotlib.axes

OPS = (
    "none", "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5",
)  # fmt: skip
KINDS = ("normal", "reduce")
FIELDS = ("normal", "normal_concat", "reduce", "reduce_concat")
NODES = (2, 3, 4, 5)  # the intermediate nodes; 0 and 1 are the outputs of the cell before the last and of the last cell
STEMS = ("cifar", "imagenet")
CONVOLUTIONS = {"sep": 4, "dil": 2}  # layers of an operator: a depthwise and a pointwise one, in sep_conv twice

Kind = Literal["normal", "reduce"]


@dataclass(frozen=True)
class Genotype:
    """Two cells, each of eight (operator, source) pairs: two for node 2, two for node 3, then 4 and 5.

    The output of a cell is the concatenation of its nodes 2 to 5.
    """

    normal: tuple[tuple[str, int], ...]
    reduce: tuple[tuple[str, int], ...]

    def __post_init__(self) -> None:
        for kind in KINDS:
            pairs = getattr(self, kind)
            if len(pairs) != 2 * len(NODES):
                raise ValueError(f"{kind} has {len(pairs)} edges, not {2 * len(NODES)}, two for each node: {list(pairs)}")
            for source, target, op in self.edges(kind):
                if type(source) is not int or not 0 <= source < target:
                    raise ValueError(
                        f"{kind}, node {target}: ({op!r}, {source!r}) must read one of the nodes 0 to {target - 1}, "
                        "which come earlier"
                    )

    def __str__(self) -> str:
        normal, reduce = list(self.normal), list(self.reduce)
        return f"Genotype(normal={normal}, normal_concat=range(2, 6), reduce={reduce}, reduce_concat=range(2, 6))"

    def edges(self, kind: Kind) -> Iterator[tuple[int, int, str]]:
        """(source, target, operator) of the edges of a cell, in the order of the string."""
        return ((source, 2 + k // 2, op) for k, (op, source) in enumerate(getattr(self, kind)))


class DARTS(Space[Genotype]):
    """Cells with any of the eight operators on every edge.

    Sampling is uniform over the cells that the published search can return: each node reads two distinct earlier nodes, and
    no edge carries `none`. Cells that are parsed may hold `none`, and a node of theirs may read one node twice: 811 of the
    1,000 cells published with SWAP (Peng et al. 2024, arXiv:2403.04161) do.

    The network is the one that is trained on CIFAR-10; images have sides divisible by 4. Sizes:

    - `channels`: of a node in the first cells, doubled by each reduction cell. `layers`: cells; those at one and two
      thirds of the depth are reduction cells. The search itself uses 16 and 8, a size to score at; 8 and 3 is a small one
      with both reductions.
    - `auxiliary`: in training mode the network then returns (logits, logits of the auxiliary head after the second
      reduction cell), and reads images of 32x32; the published loss weighs the second by 0.4. Leave it out to score.
    - `drop_path`: probability to drop an edge other than an identity for an image, in training mode. It is an attribute
      of the network, which the published training raises linearly from 0 to 0.2 over the epochs.
    - `stem`: "imagenet" halves the images three times before the first cell, so that their sides must be divisible by
      32, and its auxiliary head reads images of 224x224; published at `channels=48, layers=14, classes=1000`.

    `complete=False` changes nothing: every node reaches the output through the concatenation.
    """

    name = "darts"
    sizes: ClassVar = {
        "channels": 36, "layers": 20, "classes": 10, "auxiliary": False, "drop_path": 0.0, "stem": "cifar",
    }  # fmt: skip
    distinct = False  # whether the two inputs of a node must differ in a cell that is read

    def allowed(self, kind: Kind, source: int, target: int) -> tuple[str, ...]:
        """The operators that the edge source>target may carry in a cell of this kind."""
        return OPS

    def _sample(self, rng: np.random.Generator) -> Genotype:
        return Genotype(normal=self._cell(rng, "normal"), reduce=self._cell(rng, "reduce"))

    def _cell(self, rng: np.random.Generator, kind: Kind) -> tuple[tuple[str, int], ...]:
        pairs = []
        for target in NODES:
            for source in sorted(rng.choice(target, size=2, replace=False).tolist()):
                ops = [op for op in self.allowed(kind, source, target) if op != "none"]
                pairs.append((ops[rng.integers(len(ops))], source))
        return tuple(pairs)

    def parse(self, text: str) -> Genotype:
        """The genotype of a published string; nothing in the string is executed.

        `normal_concat` and `reduce_concat` are written range(2, 6) or [2, 3, 4, 5]. Raises ValueError naming the bad part.
        """
        try:
            arch = _read(text)
            self.check(arch)
        except ValueError as error:
            raise ValueError(f"{error}; a good one is {self.sample(np.random.default_rng(0))}") from None
        return arch

    def check(self, arch: Genotype) -> None:
        """Raise ValueError unless the genotype lies in this space."""
        for kind in KINDS:
            for source, target, op in arch.edges(kind):
                allowed = self.allowed(kind, source, target)
                if op not in allowed:
                    known = "is not allowed" if op in (*OPS, "noise") else "is an unknown operator"
                    raise ValueError(
                        f"{kind}, node {target}: {op!r} {known} on the edge from node {source} in space {self.name}: "
                        f"use one of {', '.join(allowed)}"
                    )
            sources = [source for source, _, _ in arch.edges(kind)]
            for target, first, second in zip(NODES, sources[::2], sources[1::2], strict=True):
                if self.distinct and first == second:
                    raise ValueError(f"{kind}, node {target}: reads node {first} twice, but a node reads two distinct ones")

    def convolutions(self, arch: Genotype) -> int:
        """Convolution layers in one normal and one reduction cell: 4 for each sep_conv, 2 for each dil_conv.

        What every genotype has, the 1x1 convolutions at a cell's inputs, and the two of a skip with stride are not counted.
        """
        return sum(CONVOLUTIONS.get(op[:3], 0) for op, _ in arch.normal + arch.reduce)

    def network(self, arch: Genotype, norm: str, activation: str, complete: bool, **size: Any) -> nn.Module:  # noqa: ANN401
        self.check(arch)
        if not 0 <= size["drop_path"] < 1:
            raise ValueError(f"drop_path is a probability from 0 up to, not including, 1: got {size['drop_path']!r}")
        if size["stem"] not in STEMS:
            raise ValueError(f"unknown stem {size['stem']!r}: use one of {', '.join(STEMS)}")
        if size["stem"] == "imagenet" and size["channels"] < 2:
            raise ValueError(
                f"the stem of ImageNet halves the channels, so there must be at least 2: got {size['channels']}"
            )
        return Network({kind: list(arch.edges(kind)) for kind in KINDS}, norm, activation, **size)

    def picture(self, arch: Genotype, kind: str = "normal") -> tuple:
        edges = [edge for edge in arch.edges(kind) if edge[2] != "none"] + [(node, 6, "") for node in NODES]
        names = {0: "c[k-2]", 1: "c[k-1]", **{node: str(node) for node in NODES}, 6: "c[k]"}
        return "cell", edges, names, {"normal": "normal cell", "reduce": "reduction cell"}[kind]

    def draw_cell(self, arch: Genotype, kind: str, ax: "matplotlib.axes.Axes") -> None:
        """Draw the "normal" or the "reduce" cell, without edges that carry `none`; the last node is the concatenation."""
        from ncdlib.spaces import drawing  # here, because it loads matplotlib

        if kind not in KINDS:
            raise ValueError(f"unknown cell {kind!r}: use one of {', '.join(KINDS)}")
        drawing.cell(ax, *self.picture(arch, kind)[1:])


def _read(text: str) -> Genotype:
    """Parse the literal form Genotype(normal=[...], normal_concat=..., reduce=[...], reduce_concat=...)."""
    if not isinstance(text, str):
        raise ValueError(f"expected a string, got {text!r}")
    other = f"{text[:200]!r} is not of the form Genotype(normal=[...], ...)"
    try:
        call = ast.parse(re.sub(r"range\(2, *6\)", "[2, 3, 4, 5]", text.strip()), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # what Python's parser raises on hostile text
        raise ValueError(other) from None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.func.id != "Genotype" or call.args:
        raise ValueError(other)
    names = [str(keyword.arg) for keyword in call.keywords]
    if sorted(names) != sorted(FIELDS):
        raise ValueError(f"a genotype has the fields {', '.join(FIELDS)}, each once: got {', '.join(names) or 'none'}")
    fields = {keyword.arg: _literal(keyword.value) for keyword in call.keywords}
    for kind in KINDS:
        concat, pairs = fields[f"{kind}_concat"], fields[kind]
        if concat not in ([2, 3, 4, 5], (2, 3, 4, 5)):
            raise ValueError(f"{kind}_concat must be range(2, 6), all four nodes: got {str(concat)[:200]}")
        if not isinstance(pairs, list | tuple) or not all(map(_is_pair, pairs)):
            raise ValueError(f"{kind} must hold pairs such as ('sep_conv_3x3', 0): got {str(pairs)[:400]}")
    return Genotype(*(tuple(map(tuple, fields[kind])) for kind in KINDS))


def _literal(node: ast.expr) -> object:
    """The value of a literal, else its text, which no field takes."""
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, MemoryError, RecursionError):
        return ast.unparse(node)


def _is_pair(item: object) -> bool:
    match item:
        case str(), int():
            return isinstance(item, list | tuple)
    return False
