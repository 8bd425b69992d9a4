"""Drawings of architectures: a cell as a graph, a chain of blocks as bars.

Lengths in a graph are in ems of the labels' font: one em is the font size, so that what is laid out apart stays apart when
printed.
"""

from collections.abc import Mapping, Sequence
import re

import matplotlib.axes
from matplotlib.colors import to_rgba
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, PathPatch
from matplotlib.path import Path
from matplotlib.textpath import TextPath
import networkx as nx
import numpy as np

from ncdlib.spaces.palette import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION

LARGEST = 11.0  # font size in points
HEAD = "-|>,head_length=0.5,head_width=0.25"


def style(operation: str) -> tuple[str, str]:
    """Colour and line style by the kind of an operation; the line style serves prints without colour.

    Dense and separable convolutions are blue, 1x1 ones sky blue, dilated ones purple, skips green and dashed, average
    pools orange, maximum pools vermillion, both dotted. Anything else is grey.
    """
    if "skip" in operation or "identity" in operation:
        return GREEN, "--"
    if "pool" in operation:
        return (VERMILLION if "max" in operation else ORANGE), ":"
    if "dil" in operation:
        return PURPLE, "-"
    if re.search("1[x×]1", operation):
        return SKY, "-"
    return (BLUE if re.search("conv|[357][x×][357]", operation) else GREY), "-"


def short(operation: str) -> str:
    """An operation's name as a label: `nor_conv_3x3` and `conv3x3-bn-relu` become `conv 3×3`, `skip_connect` `skip`."""
    text = operation.removeprefix("nor_").removesuffix("-bn-relu").removesuffix("_connect").replace("_", " ")
    text = re.sub("(avg|max)pool", r"\1 pool", text)
    return re.sub(r" ?(\d)x(\d)(?!\d)", r" \1×\2", text).strip()


def cell(ax: matplotlib.axes.Axes, edges: Sequence[tuple[int, int, str]], nodes: Mapping[int, str], title: str = "") -> None:
    """Draw a directed acyclic graph of named nodes, left to right, each edge (source, target, operation) labelled.

    Nodes lie on a line in topological order. Edges between neighbours lie on it, the others are arcs above or below. An
    edge whose operation is "" has no label; a node named after an operation has its colour.

    Raises ValueError for an edge between unknown nodes and for a cycle.
    """
    order = _topological(edges, nodes)
    arcs = [(order.index(i), order.index(j)) for i, j, _ in edges]
    levels = arc_levels(arcs)
    names = [_two_lines(short(nodes[node])) for node in order]
    high = 1.5 + 1.1 * max(name.count("\n") for name in names)  # of a node
    widths = np.array([max(_width(name) + 1.3, 3.0) for name in names])
    gaps = np.full(len(order), 2.2)  # to the right of each node: room for an arrow, or for a label and an arrow
    for (a, b), (_, _, operation) in zip(arcs, edges, strict=True):
        if b == a + 1 and operation:
            gaps[a] = max(gaps[a], _width(_two_lines(short(operation))) + 3)
    right = np.cumsum(widths + gaps) - gaps
    centres = right - widths / 2
    apexes = [2.3 * level + high / 2 * np.sign(level) for level in levels]
    size = _fit(ax, (0, right[-1]), (min([-high / 2, *apexes]) - 1, max([high / 2, *apexes]) + 1))

    for (a, b), level, apex, (_, _, operation) in zip(arcs, levels, apexes, edges, strict=True):
        if level == 0:
            points, label, x = [(right[a], 0), (centres[b] - widths[b] / 2, 0)], _two_lines(short(operation)), -0.35
        else:  # higher arcs end nearer to the centre of a node, so that arcs on one side do not cross there
            nearness = (abs(level) - 1) / max(map(abs, levels))
            aside = (1 - nearness) * (np.array([widths[a], -widths[b]]) / 2 - [0.3, -0.3])
            (start, end), y = centres[[a, b]] + aside, high / 2 * np.sign(level)
            pull = y + (apex - y) * 4 / 3  # the curve's apex is at three quarters of its control points
            points, label, x = [(start, y), (start, pull), (end, pull), (end, y)], short(operation), 0
        _edge(ax, points, operation, size)
        if operation:
            box = {
                "boxstyle": "round,pad=0.2",
                "facecolor": "white",
                "edgecolor": style(operation)[0],
                "linewidth": 0.09 * size,
            }
            x += (points[0][0] + points[-1][0]) / 2
            ax.text(x, apex, label, ha="center", va="center", fontsize=size, linespacing=1, bbox=box, zorder=2)
    for node, name, x, width in zip(order, names, centres, widths, strict=True):
        _box(ax, name, (x, 0), (width, high), style(nodes[node])[0], size)
    ax.set_title(title)


def stack(ax: matplotlib.axes.Axes, blocks: Sequence[tuple[str, float]], title: str = "") -> None:
    """Draw a chain of blocks (label, number) from input to output, left to right: bars as high as their numbers."""
    if not blocks:
        raise ValueError("a stack needs at least one block, e.g. [('stem', 16), ('stage 1', 32)]")
    labels, numbers = zip(*blocks, strict=True)
    colours = [style(label)[0] for label in labels]
    bars = ax.bar(range(len(blocks)), numbers, color=[to_rgba(colour, 0.15) for colour in colours], edgecolor=colours)
    ax.bar_label(bars, fmt="{:g}", padding=2, rotation=90, fontsize=9, color=GREY)
    ax.set_xticks(range(len(blocks)), map(short, labels), rotation=90)
    ax.set_yticks([])
    ax.margins(y=0.25)  # for the numbers
    ax.spines[:].set_visible(False)
    ax.set_title(title)


def arc_levels(arcs: Sequence[tuple[int, int]]) -> list[int]:
    """For each arc (a, b), a < b, between points of a line: its level, positive above the line, negative below, 0 on it.

    Arcs on one side whose spans overlap get different levels, the shorter one nearer to the line. Sides come from a
    maximum cut of the graph in which crossing arcs pull apart strongly and nested ones a little.
    """
    pulls = nx.Graph()
    pulls.add_nodes_from(i for i, (a, b) in enumerate(arcs) if b - a > 1 or (a, b) in arcs[:i])
    for i in pulls:
        for j in pulls:
            (a, b), (c, d) = arcs[i], arcs[j]
            if i < j and a < d and c < b:
                pulls.add_edge(i, j, weight=10 if a < c < b < d or c < a < d < b else 1)
    cuts = [nx.algorithms.approximation.one_exchange(pulls, weight="weight", seed=seed) for seed in range(8)]
    _, (above, _) = max(cuts, key=lambda cut: cut[0])
    levels = [0] * len(arcs)
    for i in sorted(pulls, key=lambda i: arcs[i][1] - arcs[i][0]):
        side = 1 if i in above else -1
        levels[i] = side * (1 + max((side * levels[j] for j in pulls[i] if side * levels[j] > 0), default=0))
    return levels


def _topological(edges: Sequence[tuple[int, int, str]], nodes: Mapping[int, str]) -> list[int]:
    for source, target, operation in edges:
        if source not in nodes or target not in nodes:
            raise ValueError(f"edge ({source}, {target}, {operation!r}) joins a node that is not among {sorted(nodes)}")
    graph = nx.DiGraph([(i, j) for i, j, _ in edges])
    graph.add_nodes_from(nodes)
    if not nx.is_directed_acyclic_graph(graph):
        raise ValueError(f"edges {list(edges)} hold the cycle {nx.find_cycle(graph)}, but a cell has none")
    return list(nx.lexicographical_topological_sort(graph))


def _two_lines(label: str) -> str:
    return "\n".join(label.rsplit(" ", 1))


def _width(label: str) -> float:
    """Width in ems of the longest line."""
    return max(
        float(TextPath((0, 0), line, size=100).get_extents().width) / 100 if line else 0.0 for line in label.split("\n")
    )


def _fit(ax: matplotlib.axes.Axes, x: tuple[float, float], y: tuple[float, float]) -> float:
    """Show these intervals, in ems, in the middle of `ax`, without axes; return the font size, which is one em."""
    ax.set_axis_off()
    width, height = ax.bbox.width / ax.figure.dpi * 72, ax.bbox.height / ax.figure.dpi * 72  # points
    size = float(min(LARGEST, width / (x[1] - x[0] + 0.5), height / (y[1] - y[0] + 0.5)))
    ax.set_xlim(sum(x) / 2 - width / size / 2, sum(x) / 2 + width / size / 2)
    ax.set_ylim(sum(y) / 2 - height / size / 2, sum(y) / 2 + height / size / 2)
    return size


def _edge(ax: matplotlib.axes.Axes, points: Sequence[tuple[float, float]], operation: str, size: float) -> None:
    """A line through two points, or a Bezier curve of four, with an arrow head at its end."""
    colour, dashes = style(operation) if operation else (GREY, "-")
    (x, y), (before, height) = points[-1], points[-2]
    near = (x - 0.1 * np.sign(x - before), y - 0.1 * np.sign(y - height))  # the head alone, so that it is never dashed
    path = Path(points, [Path.MOVETO] + ([Path.CURVE4] * 3 if len(points) == 4 else [Path.LINETO]))
    pen = {"edgecolor": colour, "linewidth": 0.16 * size, "zorder": 1}
    head = {"arrowstyle": HEAD, "mutation_scale": size, "facecolor": colour, "shrinkA": 0, "shrinkB": 0}
    ax.add_patch(PathPatch(path, facecolor="none", linestyle=dashes, **pen))
    ax.add_patch(FancyArrowPatch(near, (x, y), **head, **pen))


def _box(
    ax: matplotlib.axes.Axes, label: str, centre: tuple[float, float], extent: tuple[float, float], colour: str, size: float
) -> None:
    (x, y), (width, height) = centre, extent
    ax.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - height / 2), width, height, boxstyle="round,pad=0,rounding_size=0.4",
            facecolor=to_rgba(colour, 0.15), edgecolor=colour, linewidth=0.16 * size, zorder=2,
        )
    )  # fmt: skip
    ax.text(x, y, label, ha="center", va="center", fontsize=size, linespacing=1, zorder=3)
