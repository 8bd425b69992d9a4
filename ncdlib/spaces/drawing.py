"""Drawings of architectures: a cell as a graph, a chain of blocks as a stack."""

from collections.abc import Mapping, Sequence

import matplotlib.axes


def cell(ax: matplotlib.axes.Axes, edges: Sequence[tuple[int, int, str]], nodes: Mapping[int, str], title: str = "") -> None:
    """Draw a directed acyclic graph of named nodes, left to right, each edge labelled with its operation."""
    raise NotImplementedError


def stack(ax: matplotlib.axes.Axes, blocks: Sequence[tuple[str, float]], title: str = "") -> None:
    """Draw a chain of blocks from input to output; a block's width in the picture follows its number (say, channels)."""
    raise NotImplementedError
