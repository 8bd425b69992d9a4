"""The house style, and the few figures that recur."""

from collections.abc import Mapping
from itertools import product
from pathlib import Path
import re

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import ArrayLike
import pandas as pd
import seaborn as sns

from ncdlib.scoring.file import written
from ncdlib.spaces.palette import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION

METHODS = {"plain": GREY, "SAM": ORANGE, "NIR": SKY, "NCD": BLUE}  # the same colours in every figure
MARKERS = {"plain": "o", "SAM": "s", "NIR": "^", "NCD": "D"}
DIVERGING = sns.diverging_palette(30, 245, s=85, l=50, as_cmap=True)  # orange below zero, blue above


def style() -> None:
    """Set the house style for all figures that follow."""
    sns.set_theme(
        context="notebook", style="ticks", font="DejaVu Sans", palette=[BLUE, ORANGE, GREEN, VERMILLION, SKY, PURPLE, GREY]
    )
    matplotlib.rcParams |= {
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 12,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.labelsize": 11,
        "legend.frameon": False,
        "legend.fontsize": 10,
        "figure.dpi": 100,
        "savefig.dpi": 150,
        "savefig.bbox": "tight",
        "svg.hashsalt": "ncdlib",  # the same drawing gives the same file
        "svg.fonttype": "none",
    }


def save(figure: Figure, path: str | Path, stored: bool = False) -> None:
    """Write PATH.png and PATH.svg; `stored` marks a figure that shows a stored result."""
    if stored:
        figure.text(0.995, 0.995, "stored result", ha="right", va="top", color=VERMILLION, fontsize=10, style="italic")
    with written(f"{path}.png") as partial:
        figure.savefig(partial, format="png", metadata={"Software": None})
    with written(f"{path}.svg") as partial:
        figure.savefig(partial, format="svg", metadata={"Date": None})
        partial.write_text(settled(partial.read_text(encoding="utf-8")), encoding="utf-8")


def settled(svg: str) -> str:
    """An SVG text that does not follow the last digits of what it draws.

    Coordinates have two decimals, hundredths of a point; ids, which matplotlib derives from all digits, are numbered as
    they first appear.
    """
    ids: dict[str, str] = {}

    def rounded(match: re.Match) -> str:
        return re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}".replace("-0.00", "0.00"), match[0])

    svg = re.sub(r'\b(?:d|x|y|x1|x2|y1|y2|width|height|points|transform)="[^"]*"', rounded, svg)
    return re.sub(r"\b[a-z]+[0-9a-f]{10}\b", lambda name: ids.setdefault(name[0], f"id{len(ids)}"), svg)


def note(figure: Figure, text: str) -> None:
    """Say below a figure what it rests on: sizes, seeds, intervals."""
    figure.supxlabel(text, fontsize=9, color=GREY)


def zero_line(ax: Axes) -> None:
    """Mark where a correlation changes its sign."""
    ax.axhline(0, color="black", linewidth=0.8, zorder=0)


def curve(
    ax: Axes,
    x: ArrayLike,
    y: ArrayLike,
    low: ArrayLike,
    high: ArrayLike,
    label: str,
    color: str | tuple[float, ...],
    marker: str = "o",
) -> None:
    """A line with markers, and a band from `low` to `high`."""
    ax.plot(x, y, color=color, marker=marker, markersize=5, linewidth=1.8, label=label)
    ax.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)


Look = tuple[str | tuple[float, ...], str]  # colour and marker
METHOD_LOOKS: dict[str, Look] = {name: (color, MARKERS[name]) for name, color in METHODS.items()}


def curves(
    data: pd.DataFrame,
    x: str,
    line: str,
    column: str,
    row: str | None = None,
    y: str = "rho",
    looks: Mapping[str, Look] = METHOD_LOOKS,
    size: tuple[float, float] = (10, 4.4),
) -> tuple[Figure, np.ndarray]:
    """A grid of panels, one per value of `column` (and `row`); in each, one line per value of `line`, with its interval.

    `data` is tidy: a row per point, with the columns named and `low`, `high`. The values of `line` are the keys of `looks`,
    which also order the legend. Points are joined in the order of `x`. Panels of one row share the y axis; a correlation has
    its zero line.
    """
    columns, rows = data[column].unique(), [None] if row is None else data[row].unique()
    fig, axes = figure(*size, rows=len(rows), columns=len(columns), sharex=True, sharey="row")
    for ax, (r, c) in zip(axes.flat, product(rows, columns), strict=True):
        panel = data[(data[column] == c) & (True if row is None else data[row] == r)]
        for name, look in looks.items():
            points = panel[panel[line] == name].sort_values(x)
            curve(ax, points[x], points[y], points["low"], points["high"], name, *look)
        if y == "rho":
            zero_line(ax)
        ax.set_title(", ".join(str(v).upper() if v in ("nwot", "swap") else str(v) for v in (r, c) if v is not None))
    axes[0, 0].legend()
    return fig, axes


def correlation_map(ax: Axes, rho: pd.DataFrame, low: pd.DataFrame | None, high: pd.DataFrame | None, title: str) -> None:
    """A table of correlations, coloured from -1 to 1, each with its interval, if any, below it; nan stays blank."""
    text = np.full(rho.shape, "", dtype=object)
    for i, j in np.argwhere(np.isfinite(rho.to_numpy())):
        interval = f"\n{low.iat[i, j]:+.2f}, {high.iat[i, j]:+.2f}" if low is not None and high is not None else ""
        text[i, j] = f"{rho.iat[i, j]:+.2f}{interval}"
    sns.heatmap(
        rho, vmin=-1, vmax=1, cmap=DIVERGING, annot=text, fmt="", ax=ax, cbar=False, linewidths=1,
        annot_kws={"fontsize": 7.5, "color": "black"},
    )  # fmt: skip
    ax.set_title(title)
    ax.tick_params(length=0)
    ax.tick_params(axis="y", rotation=0)


def stars(ax: Axes, x: float, printed: pd.DataFrame) -> None:
    """The paper's numbers as stars at `x`, in the colours of their methods: the columns method and value."""
    for row in printed.itertuples():
        ax.plot(x, row.value, "*", color=METHODS[row.method], markersize=13, markeredgecolor="black", clip_on=False)


def look_of(method: str) -> tuple[str, str]:
    """The colour and the marker of a method, or of a count or a random pick beside them."""
    return METHODS.get(method, GREEN if method == "count" else PURPLE), MARKERS.get(method, "P")


def dots(ax: Axes, data: pd.DataFrame, value: str = "rho", low: str = "low", high: str = "high", shift: float = 0.0) -> None:
    """A dot with its interval per row, from the top down: the columns row (its name) and method (its look) as well.

    Rows of one name share a line; `shift` moves all of them down by this part of the distance between lines.
    """
    names = list(dict.fromkeys(data["row"]))
    for row in data.to_dict("records"):
        color, marker = look_of(row["method"])
        ends = [[max(row[value] - row[low], 0)], [max(row[high] - row[value], 0)]]  # it may lie outside where scores tie
        ax.errorbar(row[value], names.index(row["row"]) + shift, xerr=ends, fmt=marker, color=color, capsize=3)
    ax.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.4, -0.6))


def beside(ax: Axes, data: pd.DataFrame, rows: list[str], groups: Mapping[str, Look], value: str = "rho") -> None:
    """For every row, from the top down, a dot with its interval per group: the columns row, group, low, high and `value`."""
    for i, (name, (color, marker)) in enumerate(groups.items()):
        part = data[data.group == name].set_index("row").reindex(rows)
        ends = [(part[value] - part.low).clip(lower=0), (part.high - part[value]).clip(lower=0)]
        at = np.arange(len(rows)) + 0.7 * ((i + 0.5) / len(groups) - 0.5)
        ax.errorbar(part[value], at, xerr=ends, fmt=marker, color=color, capsize=3, label=name)
    ax.set(yticks=range(len(rows)), yticklabels=rows, ylim=(len(rows) - 0.5, -0.5))


def candidates(ax: Axes, size: ArrayLike, scores: ArrayLike, method: str) -> None:
    """The scores of a search's candidates over their sizes, and a star for the one it chooses."""
    values = np.asarray(scores, float)
    best = int(np.nanargmax(values))
    ax.plot(size, values, ".", color=METHODS[method], markersize=3, alpha=0.5, rasterized=True)
    ax.plot(
        np.asarray(size)[best], values[best], "*", markersize=15, color=VERMILLION, markeredgecolor="black", label="chosen"
    )


def stacked(ax: Axes, counts: pd.DataFrame, colors: Mapping[str, str], share: bool = False) -> None:
    """Horizontal bars, one per row of `counts`, with a part and its number per column; `share`: all of length one."""
    widths = counts.div(counts.sum(axis=1), axis=0) if share else counts
    left = pd.Series(0.0, counts.index)
    for column, color in colors.items():
        bars = ax.barh(counts.index, widths[column], left=left, color=color, label=column, height=0.85)
        labels = [str(n) if n else "" for n in counts[column]]
        ax.bar_label(bars, labels=labels, label_type="center", color="black", fontsize=9)
        left = left + widths[column]


def figure(
    width: float = 10, height: float = 4, rows: int = 1, columns: int = 1, **kwargs: object
) -> tuple[Figure, np.ndarray]:
    """A figure in the house style and its axes, always an array; the layout makes room for labels."""
    style()
    return plt.subplots(rows, columns, figsize=(width, height), layout="constrained", squeeze=False, **kwargs)


def shades(n: int) -> list[tuple[float, ...]]:
    """n colours from light to dark, for ordered lines; told apart in grey as well."""
    return [matplotlib.colormaps["cividis_r"](x) for x in np.linspace(0.25, 1, n)]
