"""The house style, and the few figures that recur."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

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
    for suffix, metadata in {".png": {"Software": None}, ".svg": {"Date": None}}.items():
        target = Path(f"{path}{suffix}")
        partial = target.with_name(f"{target.name}.partial")
        figure.savefig(partial, format=suffix[1:], metadata=metadata)
        partial.replace(target)


def note(figure: Figure, text: str) -> None:
    """Say below a figure what it rests on: sizes, seeds, intervals."""
    figure.supxlabel(text, fontsize=9, color=GREY)


def zero_line(ax: Axes) -> None:
    """Mark where a correlation changes its sign."""
    ax.axhline(0, color="black", linewidth=0.8, zorder=0)


def curve(
    ax: Axes,
    x: Sequence[float],
    y: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    label: str,
    color: str | tuple[float, ...],
    marker: str = "o",
) -> None:
    """A line with markers, and a band from `low` to `high`."""
    ax.plot(x, y, color=color, marker=marker, markersize=5, linewidth=1.8, label=label)
    ax.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)


def correlation_map(ax: Axes, rho: pd.DataFrame, low: pd.DataFrame | None, high: pd.DataFrame | None, title: str) -> None:
    """A table of correlations, coloured from -1 to 1, each with its interval, if any, below it; nan stays blank."""
    text = np.full(rho.shape, "", dtype=object)
    for i, j in np.argwhere(np.isfinite(rho.to_numpy())):
        interval = f"\n{low.iat[i, j]:+.2f}, {high.iat[i, j]:+.2f}" if low is not None and high is not None else ""
        text[i, j] = f"{rho.iat[i, j]:+.2f}{interval}"
    sns.heatmap(
        rho, vmin=-1, vmax=1, cmap=DIVERGING, annot=text, fmt="", ax=ax, cbar=False, linewidths=1,
        annot_kws={"fontsize": 7.5},
    )  # fmt: skip
    ax.set_title(title)
    ax.tick_params(length=0)
    ax.tick_params(axis="y", rotation=0)


def figure(
    width: float = 10, height: float = 4, rows: int = 1, columns: int = 1, **kwargs: object
) -> tuple[Figure, np.ndarray]:
    """A figure in the house style and its axes, always an array; the layout makes room for labels."""
    style()
    return plt.subplots(rows, columns, figsize=(width, height), layout="constrained", squeeze=False, **kwargs)


def shades(n: int) -> list[tuple[float, ...]]:
    """n colours from light to dark, for ordered lines; told apart in grey as well."""
    return [matplotlib.colormaps["cividis_r"](x) for x in np.linspace(0.05, 1, n)]
