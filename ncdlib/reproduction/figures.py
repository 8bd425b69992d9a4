"""Figures of single notebooks: the law of notebook 15, the specifications of 14, the border of 16."""

from collections.abc import Mapping

from matplotlib.figure import Figure
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import ArrayLike
import pandas as pd

from ncdlib.reproduction.plots import MARKERS, METHODS, Look, figure, note, zero_line
from ncdlib.spaces.palette import BLUE, GREEN, GREY, ORANGE, VERMILLION

KINDS = {"data set": (VERMILLION, "o"), "second training": (ORANGE, "s"), "robust accuracy": (BLUE, "^")}
KINDS |= {"TransNAS task": (GREEN, "D")}


def law(data: pd.DataFrame, x: str, marked: str) -> Figure:
    """How scores rank targets over how the quantity `x` does: a panel per proxy, a fitted line per method.

    `data` has one row per target, kind of target, proxy and method, with rho, low and high; `marked` is ringed.
    """
    proxies = list(data.proxy.unique())
    fig, axes = figure(11, 5.2, columns=len(proxies), sharey=True)
    for ax, proxy in zip(axes[0], proxies, strict=True):
        for method, group in data[data.proxy == proxy].groupby("method", sort=False):
            group = group.dropna(subset=[x, "rho"])
            for kind, some in group.groupby("kind", sort=False):
                color, marker = KINDS[kind]
                ax.errorbar(
                    some[x], some.rho, [some.rho - some.low, some.high - some.rho], fmt="none", ecolor=GREY, alpha=0.3
                )
                hollow = color if method == "NCD" else "white"
                ax.scatter(
                    some[x], some.rho, s=42, marker=marker, facecolor=hollow, edgecolor=color, label=f"{method}, {kind}"
                )
            ends = np.array([group[x].min(), group[x].max()])
            line = np.polyval(np.polyfit(group[x], group.rho, 1), ends)
            ax.plot(ends, line, color=METHODS[method], zorder=0)
            ax.annotate(
                method, (ends.mean(), line.mean()), (0, 12), textcoords="offset points", color=METHODS[method], weight="bold"
            )
            star = group[group.target == marked]
            ax.scatter(star[x], star.rho, s=260, facecolor="none", edgecolor="black", linewidth=1.6)
        zero_line(ax)
        ax.axvline(0, color="black", linewidth=0.8, zorder=0)
        ax.set(title=proxy.upper(), ylim=(-1, 1), xlabel="rho of the number of 3x3 convolutions with the target")
    axes[0, 0].set_ylabel("rho of the score with the target")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    rests_on = f"n = {data.n.max()} cells, seeds: {data.seeds.max()}"
    note(fig, f"{rests_on}; bars: 95 % bootstrap intervals over cells; ring: the paper's case")
    return fig


def predictions(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Measured over predicted correlations, one panel per table with predicted, rho and method; wrong signs are shaded."""
    fig, axes = figure(10, 5, columns=len(tables), sharey=True)
    for ax, (title, table) in zip(axes[0], tables.items(), strict=True):
        for method, group in table.groupby("method", sort=False):
            ax.scatter(
                group.predicted, group.rho, s=26, color=METHODS[method], marker=MARKERS[method], label=method, alpha=0.7
            )
        ax.plot([-1, 1], [-1, 1], color=GREY, linewidth=1)
        for left, bottom in ((-1, 0), (0, -1)):
            ax.add_patch(plt.Rectangle((left, bottom), 1, 1, color=GREY, alpha=0.1, linewidth=0, zorder=0))
        ax.set(title=title, xlim=(-1, 1), ylim=(-1, 1), xlabel="predicted rho")
    axes[0, 0].set_ylabel("measured rho")
    axes[0, 0].legend()
    return fig


def specification_curve(data: pd.DataFrame, choices: list[str], color: str) -> Figure:
    """A specification per column, sorted by rho: its interval above, below a mark for the value of each choice.

    `data` has one row per specification: rho, low, high, and the value of each choice.
    """
    rows = data.sort_values("rho", ignore_index=True)
    fig, axes = figure(11, 9.5, rows=2, sharex=True, gridspec_kw={"height_ratios": [1, 1.4]})
    top, board = axes[:, 0]
    top.vlines(rows.index, rows.low, rows.high, color=color, alpha=0.25, linewidth=1)
    top.plot(rows.index, rows.rho, ".", color=color, markersize=4)
    zero_line(top)
    top.set(ylim=(-1, 1), ylabel="Spearman's rho")
    names: list[str] = []
    for choice in choices:
        for value in rows[choice].unique() if rows[choice].dtype == object else np.unique(rows[choice]):
            at = rows.index[rows[choice] == value]
            board.plot(at, [len(names)] * len(at), "|", color=color, markersize=8, markeredgewidth=0.8)
            names.append(f"{choice}: {value}")
    board.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5), xlabel="specifications, sorted")
    board.tick_params(axis="y", labelsize=9, length=0)
    return fig


def by_convolutions(data: pd.DataFrame, kind: str, looks: Mapping[str, Look]) -> Figure:
    """rho of each setting over the number of convolutions: a panel per proxy, the kinds side by side, lines at medians.

    `data` has one row per setting, proxy, kind and number of convolutions, with its rho.
    """
    fig, axes = figure(10, 4.4, columns=data.proxy.nunique(), sharey=True)
    for ax, (proxy, part) in zip(axes[0], data.groupby("proxy"), strict=True):
        for j, (name, (color, marker)) in enumerate(looks.items()):
            rows, shift = part[part[kind] == name], 0.15 * (j - (len(looks) - 1) / 2)
            middle = rows.groupby("convolutions").rho.median()
            ax.plot(rows.convolutions + shift, rows.rho, marker, color=color, alpha=0.35)
            ax.plot(middle.index + shift, middle, color=color, marker=marker, label=name)
        zero_line(ax)
        ax.set(title=proxy.upper(), xlabel="convolutions in the cell", ylim=(-1, 1))
    axes[0, 0].set_ylabel("Spearman's rho with accuracy")
    axes[0, 0].legend(loc="lower left")
    return fig


def maps(pairs: Mapping[str, Mapping[str, ArrayLike]], label: str) -> Figure:
    """Pictures of numbers with one colour scale: a column per entry of `pairs`, a row per picture in it, with its mean."""
    fig, axes = figure(2.8 * len(pairs) + 1, 6, rows=len(next(iter(pairs.values()))), columns=len(pairs))
    every = np.stack([np.asarray(values) for pair in pairs.values() for values in pair.values()])
    for column, (title, pair) in zip(axes.T, pairs.items(), strict=True):
        for ax, (name, values) in zip(column, pair.items(), strict=True):
            shown = ax.imshow(values, vmin=every.min(), vmax=every.max(), cmap="viridis")
            ax.set(title=f"{title}, {name}: {np.asarray(values).mean():.3f}", xticks=[], yticks=[])
    fig.colorbar(shown, ax=axes, label=label)
    return fig
