"""The panel of notebook 00: how stored scores rank cells, as a still picture or under sliders."""

from functools import cache
from io import BytesIO
from itertools import product
from typing import NamedTuple

from ipywidgets import HBox, Image, Layout, SelectionSlider, ToggleButtons, VBox
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
import matplotlib.pyplot as plt
from matplotlib.text import Text
import numpy as np
import pandas as pd

from ncdlib.reproduction import plots
from ncdlib.scoring import methods
from ncdlib.spaces.palette import BLACK, BLUE, GREY, ORANGE, VERMILLION

LINES = {"bn": ("BatchNorm kept", ORANGE, "s"), "ln": ("LayerNorm in its place (NIR)", BLUE, "D")}
SHADES = ListedColormap(plots.shades(7))  # 0 to 6 convolutions that are 3x3


class Setting(NamedTuple):
    """What the sliders choose: a score, and the cells of so many convolutions."""

    proxy: str = "nwot"
    norm: str = "bn"
    alpha: float = 0.0
    convolutions: int = 6


def points(scores: pd.DataFrame, truth: pd.Series) -> pd.DataFrame:
    """A row for each setting and cell of NAS-Bench-201, indexed by setting: arch, score, accuracy, x, y, larger.

    `scores` is a score table, `truth` the accuracy in percent of each arch. The score is the mean over seeds, nan where one
    is not finite; x is its rank within the setting, 1 the lowest, y that of the accuracy; `larger` counts 3x3 convolutions.
    """
    wide = scores.pivot(index=["proxy", "norm", "alpha", "arch"], columns="seed", values="score")
    table = wide.where(np.isfinite(wide)).mean(axis=1, skipna=False).rename("score").reset_index()
    table["accuracy"] = truth[table["arch"]].to_numpy()
    table["convolutions"], table["larger"] = (table["arch"].str.count(op) for op in ("nor_conv", "nor_conv_3x3"))
    table = table.set_index(list(Setting._fields)).sort_index()
    ranks = table.groupby(level=list(Setting._fields))[["score", "accuracy"]].rank()
    return table.assign(x=ranks["score"], y=ranks["accuracy"])


class Panel:
    """Draws `cells`, which `points` gives, and `rhos`: the columns of `Setting` and of `statistics.Correlation`."""

    def __init__(self, cells: pd.DataFrame, rhos: pd.DataFrame) -> None:
        self.cells, self.rhos = cells, rhos.set_index(list(Setting._fields)).sort_index()
        self.choices = {name: sorted(set(rhos[name])) for name in Setting._fields}
        self.scene = cache(self._scene)

    def words(self, setting: Setting) -> tuple[str, str]:
        """The caption of a setting, and its colour."""
        rho, its = self.rhos.loc[setting], (setting.alpha, setting.norm)
        method = next(name for name, method in methods(setting.alpha or 1.0).items() if method == its)
        sign = int(rho.low > 0) - int(rho.high < 0)
        way, color = {1: ("the right way", BLUE), 0: ("neither way", GREY), -1: ("backwards", VERMILLION)}[sign]
        head = f"{method} {setting.proxy.upper()}, alpha = {setting.alpha:g}: ranks {way}"
        interval = f"[{rho.low:+.2f}, {rho.high:+.2f}]"
        return f"{head}\nrho = {rho.rho:+.2f} {interval}, n = {rho.n:.0f} cells, seeds: {rho.seeds:.0f}", color

    def scatter(self, ax: Axes, setting: Setting) -> tuple[PathCollection, Text]:
        """Draw the cells in the order of their scores and of their accuracies; returns the points and the caption."""
        cells, (text, color) = self.cells.loc[setting], self.words(setting)
        n, shares = len(cells), np.linspace(0, 1, 5)
        ax.set(xlim=(-0.02 * n, 1.03 * n), ylim=(-0.02 * n, 1.03 * n), xlabel="rank by score (right: the highest)")
        ax.set_yticks(1 + (n - 1) * shares, [f"{accuracy:.1f}" for accuracy in cells["accuracy"].quantile(shares)])
        dots = ax.scatter("x", "y", c="larger", data=cells, cmap=SHADES, vmin=-0.5, vmax=6.5, s=26, linewidths=0)
        return dots, ax.text(0, 1.02, text, color=color, fontsize=11, weight="bold", transform=ax.transAxes)

    def _scene(self, proxy: str, convolutions: int) -> tuple:
        """What stays while alpha and norm change: a canvas, its background, and what moves over it.

        A change then draws points, caption and ring alone, an eighth of the time that the whole figure takes.
        """
        plots.style()
        canvas = FigureCanvasAgg(figure := Figure(figsize=(10.6, 4.5), dpi=100))
        place = {"left": 0.075, "right": 0.985, "bottom": 0.2, "top": 0.88, "wspace": 0.2}
        left, right = figure.subplots(1, 2, gridspec_kw=place)
        left.set_ylabel("CIFAR-10 accuracy (%), spaced by rank")
        plots.zero_line(right)
        for norm, line in LINES.items():
            mine = self.rhos.xs((proxy, norm, convolutions), level=("proxy", "norm", "convolutions"))
            plots.curve(right, range(len(mine)), *mine[["rho", "low", "high"]].T.to_numpy().tolist(), *line)
        right.set(ylim=(-1, 1), xlabel="mask rate alpha (not to scale)", ylabel="Spearman's rho")
        right.set_xticks(range(len(mine)), [f"{alpha:g}" for alpha in mine.index])
        right.set_title(f"{proxy.upper()} at every mask rate,\n{convolutions} convolutions in the cell", fontsize=11)
        right.legend(loc="lower right")
        plots.note(figure, "a point is a cell; 95 % bootstrap intervals over cells")
        ring = right.plot([], [], "o", markersize=15, markerfacecolor="none", markeredgecolor=BLACK, markeredgewidth=2)
        moving = [*self.scatter(left, Setting(proxy, convolutions=convolutions)), *ring]
        figure.colorbar(moving[0], ax=left, ticks=range(7), label="3x3 convolutions in the cell")
        plt.setp(moving, animated=True)  # left out when the canvas draws
        canvas.draw()
        return canvas, canvas.copy_from_bbox(figure.bbox), moving

    def png(self, setting: Setting) -> bytes:
        """The whole panel: how the setting ranks the cells, and where it lies among all mask rates."""
        canvas, background, (dots, words, ring) = self.scene(setting.proxy, setting.convolutions)
        dots.set_offsets(self.cells.loc[setting, ["x", "y"]])
        words.set(**dict(zip(("text", "color"), self.words(setting), strict=True)))
        ring.set_data([self.choices["alpha"].index(setting.alpha)], [self.rhos.loc[setting, "rho"]])
        canvas.restore_region(background)
        for artist in (dots, words, ring):
            canvas.figure.draw_artist(artist)
        plt.imsave(written := BytesIO(), canvas.buffer_rgba(), format="png", pil_kwargs={"compress_level": 1})
        return written.getvalue()

    def widget(self, setting: Setting) -> VBox:
        """The panel under sliders, which need a running kernel. All backgrounds are drawn first: a change is then quick."""
        for scene in product(self.choices["proxy"], self.choices["convolutions"]):
            self.scene(*scene)
        look = {"style": {"description_width": "90px"}, "layout": Layout(width="410px")}
        named = {"proxy": [("NWOT", "nwot"), ("SWAP", "swap")], "norm": [("BatchNorm", "bn"), ("LayerNorm: NIR", "ln")]}
        controls = {
            name: kind(options=named.get(name, self.choices[name]), value=getattr(setting, name), description=name, **look)
            for kind, names in ((SelectionSlider, ("alpha", "convolutions")), (ToggleButtons, ("proxy", "norm")))
            for name in names
        }
        picture = Image(layout=Layout(max_width="100%"))

        def redraw(_: object = None) -> None:
            picture.value = self.png(Setting(**{name: control.value for name, control in controls.items()}))

        for control in controls.values():
            control.observe(redraw, "value")
        redraw()
        alpha, convolutions, proxy, norm = controls.values()
        return VBox([HBox([alpha, convolutions]), HBox([proxy, norm]), picture])
