"""The explorer page: how a score ranks cells of NAS-Bench-201, under controls that need no kernel and no network.

Three things are in the page. Correlations and their intervals are computed from the exact values by `ncdlib.statistics` and
stored in data/results/explorer.csv; `python notebooks/explorer.py` computes that file anew from stored scores and the
accuracy tables, in some minutes. The line is the stored result of notebook 15. The points are made while the page is built:
the rank of each score, and the rank of the accuracy as one of 20 levels. They are not stored in the repository. No accuracy
and no name of a cell is in the page.
"""

from collections.abc import Callable, Iterable
import json
from pathlib import Path
from string import Template

import altair as alt
import matplotlib
import numpy as np
import pandas as pd
import vl_convert

from ncdlib import benchmarks, statistics
from ncdlib.scoring import methods
from ncdlib.scoring.file import read as read_scores
from ncdlib.spaces import palette

ROOT = Path(__file__).resolve().parents[1]
WEB = Path(__file__).with_name("web")
SCORES, RESULTS, LINE = "data/scores/01_study.parquet", "data/results/explorer.csv", "data/results/15_line.csv"
NEEDED = (SCORES, RESULTS, LINE)
MASKED = 0.95  # the mask rate of notebook 15
LEVELS = 20  # of the accuracy's rank within cells with one number of convolutions
TARGETS = {  # a short name for the address, the table and metric, and words
    "cifar10": ("nasbench201_official cifar10", "CIFAR-10"),
    "cifar100": ("nasbench201_official cifar100", "CIFAR-100"),
    "imagenet16_120": ("nasbench201_official imagenet16_120", "ImageNet16-120"),
    "second_training": ("nasbench201 cifar10", "CIFAR-10, a second training"),
    "fgsm_1": ("nasbench201_robust fgsm_1", "CIFAR-10 under FGSM, radius 1/255"),
    "pgd_1": ("nasbench201_robust pgd_1", "CIFAR-10 under PGD, radius 1/255"),
    "apgd_1": ("nasbench201_robust apgd_1", "CIFAR-10 under APGD, radius 1/255"),
    "apgd_4": ("nasbench201_robust apgd_4", "CIFAR-10 under APGD, radius 4/255"),
    "square_4": ("nasbench201_robust square_4", "CIFAR-10 under Square, radius 4/255"),
}
SETTING = ("convolutions", "proxy", "norm", "alpha")
Say = Callable[[str], object]


def truths(say: Say) -> dict[str, pd.Series]:
    """The accuracies of each target whose table can be had, indexed by cell; `say` is told about the others."""
    tables: dict[str, pd.DataFrame] = {}
    for table in dict.fromkeys(target.split()[0] for target, _ in TARGETS.values()):
        try:
            tables[table] = benchmarks.load(table).set_index("arch")
        except (benchmarks.MissingData, ValueError) as error:  # not there, or not as published
            say(f"the explorer shows no points for the targets of {table}: {error}")
    found = {name: target.split() for name, (target, _) in TARGETS.items()}
    return {name: tables[table][metric] for name, (table, metric) in found.items() if table in tables}


def scored(root: Path) -> pd.DataFrame:
    """The scores of notebook 01, with the number of convolutions, and of those the 3x3 ones, of each cell."""
    scores = read_scores(root / SCORES)
    return scores.assign(
        convolutions=scores.arch.str.count("nor_conv"), larger=scores.arch.str.count("nor_conv_3x3").astype(float)
    )


def correlations(scores: pd.DataFrame, truth: dict[str, pd.Series]) -> pd.DataFrame:
    """One row per target and setting: the score's rho, and `count`, that of the number of 3x3 convolutions."""
    larger = scores.drop_duplicates("arch").set_index("arch")[["convolutions", "larger"]].query("convolutions > 0")
    parts = []
    for name, accuracy in truth.items():
        cells = larger.assign(accuracy=accuracy).groupby("convolutions")[["larger", "accuracy"]]
        count = cells.apply(lambda group: group.larger.corr(group.accuracy, method="spearman"))
        found = statistics.correlations(scores, accuracy, by=SETTING)
        parts.append(found.assign(target=TARGETS[name][0], count=found.convolutions.map(count)))
    columns = ["target", *SETTING, "count", "rho", "low", "high", "n", "seeds", "nonfinite"]
    return pd.concat(parts)[columns].sort_values(["target", *SETTING], kind="stable")


def points(scores: pd.DataFrame, truth: dict[str, pd.Series]) -> dict[str, dict]:
    """`x`: the rank of each cell's mean score, per setting; `y`: that of its accuracy, per target, as one of LEVELS.

    Ranks are in percent, within the cells of one number of convolutions. The order of these cells is a random one.
    """
    rng = np.random.default_rng(0)
    wide = scores.set_index([*SETTING, "arch", "larger", "seed"]).score.unstack("seed")
    mean = wide.where(np.isfinite(wide)).mean(axis=1, skipna=False).rename("score").reset_index()
    found: dict[str, dict] = {"x": {}, "y": {name: {} for name in truth}, "larger": {}}
    for k, cells in mean.groupby("convolutions"):
        order = rng.permutation(cells.arch.unique())
        found["larger"][str(k)] = [int(arch.count("nor_conv_3x3")) for arch in order]
        for (proxy, norm, alpha), group in cells.groupby(["proxy", "norm", "alpha"]):
            score = group.set_index("arch").score[order]
            x = 100 * (score.rank() - 0.5) / score.count()
            found["x"][f"{k} {proxy} {norm} {alpha:g}"] = filled(x.round(1))
        for name, accuracy in truth.items():
            level = np.ceil(accuracy[order].rank(pct=True) * LEVELS)
            found["y"][name][str(k)] = (100 * (level - rng.random(len(order))) / LEVELS).round(1).tolist()
    return found


def line(root: Path) -> dict[str, list]:
    """Notebook 15's targets: words, whether the score is masked, rho of the 3x3 count and of the score, per subspace."""
    words = dict(TARGETS.values())
    rows = pd.read_csv(root / LINE).dropna(subset=["count", "rho"])
    found: dict[str, list] = {}
    for row in rows.to_dict("records"):
        method = methods(MASKED)[row["method"]]
        name = words.get(row["target"], row["target"].split()[1].replace("_", " ").upper())
        masked = f"alpha = {method.alpha:g}"
        place = found.setdefault(f"{row['convolutions']} {row['proxy']} {method.norm}", [])
        place.append([name, masked, round(row["count"], 3), round(row["rho"], 3)])
    return found


def payload(root: Path, say: Say) -> dict:
    """Everything that the page's script draws."""
    table = pd.read_csv(root / RESULTS, dtype={"alpha": str, "convolutions": str})
    short = {target: name for name, (target, _) in TARGETS.items()}
    numbers = table[["count", "rho", "low", "high", "n", "seeds", "nonfinite"]]
    rho: dict[str, dict] = {name: {} for name in TARGETS}
    for row, values in zip(table.itertuples(), numbers.to_numpy().tolist(), strict=True):
        setting = f"{row.convolutions} {row.proxy} {row.norm} {row.alpha}"
        rho[short[row.target]][setting] = filled(values)
    choices = {name: sorted(table[name].unique()) for name in ("proxy", "norm", "alpha", "convolutions")}
    choices = {"target": list(TARGETS)} | {name: list(of) for name, of in choices.items()}
    return {
        "choices": choices,
        "first": {"target": "cifar10", "proxy": "nwot", "norm": "bn", "alpha": "0", "convolutions": "6"},
        "words": {name: words for name, (_, words) in TARGETS.items()},
        "methods": {f"{alpha:g} {norm}": name for name, (alpha, norm) in methods(1).items()},
        "rho": rho,
        "line": line(root),
        "charts": {"points": scatter(), "line": law()},
        "shades": {"light": shades(0.92, 0), "dark": shades(0.3, 1)},
        "pair": {"light": [palette.VERMILLION, palette.BLUE], "dark": [palette.ORANGE, palette.SKY]},
        **points(scored(root), truths(say)),
    }


def filled(values: Iterable[float]) -> list[float | None]:
    """Numbers as JSON has them: None where there is none, whole numbers without a point."""
    return [None if np.isnan(v) else int(v) if v == int(v) else v for v in values]


def shades(first: float, last: float) -> list[str]:
    """Colours for 0 to 6 convolutions, told apart with any kind of colour vision: those of `cividis`."""
    return [matplotlib.colors.to_hex(matplotlib.colormaps["cividis"](at)) for at in np.linspace(first, last, 7)]


def scatter() -> dict:
    """The chart of ranks, for data that the page gives; its colours are the page's too."""
    rank = {"type": "quantitative", "scale": alt.Scale(domain=[0, 100]), "axis": alt.Axis(tickCount=5)}
    color = alt.Color("larger:O", scale=alt.Scale(domain=list(range(7)))).legend(
        title="3x3 convolutions in the cell", orient="top", direction="horizontal", symbolOpacity=1
    )
    chart = alt.Chart(alt.NamedData("points"), width="container", height=330).encode(
        alt.X("x", title="rank by score, % of the cells (right: highest)", **rank),
        alt.Y("y", title="rank by accuracy, %, binned", **rank),
        color,
    )
    return chart.mark_circle(size=70, opacity=0.9, style="ink", strokeWidth=0.4).to_dict()


def law() -> dict:
    """The chart of notebook 15's line, with the present choice as a ring."""
    line, choice = alt.NamedData("line"), alt.NamedData("choice")
    both = alt.Scale(domain=[-1, 1])
    x = alt.X("count:Q", title="rho of the 3x3 count with the target", scale=both)
    y = alt.Y("rho:Q", title="rho of the score with the target", scale=both)
    group = alt.Scale(domain=["alpha = 0", f"alpha = {MASKED:g}"])
    legend = alt.Legend(title="targets, with mask rate", orient="top")
    color = alt.Color("masked:N", scale=group, legend=legend)
    shape = alt.Shape("masked:N", scale=alt.Scale(domain=group.domain, range=["circle", "diamond"]), legend=legend)
    zero = alt.Chart(alt.Data(values=[{"zero": 0}]))
    tooltip = [alt.Tooltip("name:N", title="target"), *(alt.Tooltip(f"{of}:Q", format="+.2f") for of in ("count", "rho"))]
    targets = alt.Chart(line).mark_point(filled=True, size=45, opacity=0.7).encode(x, y, color, shape, tooltip=tooltip)
    fitted = alt.Chart(line).mark_line(strokeWidth=2).encode(x, y, color)
    ring = alt.Chart(choice).mark_point(size=330, style="ink", strokeWidth=2.5).encode(x, y, tooltip=tooltip)
    interval = alt.Chart(choice).mark_rule(style="ink", strokeWidth=2.5).encode(x, alt.Y("low:Q", scale=both), y2="high:Q")
    chart = alt.layer(
        zero.mark_rule(style="guide").encode(x=alt.X("zero:Q", scale=both)),
        zero.mark_rule(style="guide").encode(y=alt.Y("zero:Q", scale=both)),
        fitted.transform_regression("count", "rho", groupby=["masked"]),
        targets,
        interval,
        ring,
    )
    return chart.properties(width="container", height=330).to_dict()


def page(root: Path, say: Say) -> tuple[str, str]:
    """The body of the page, and its script."""
    data = payload(root, say)
    choices, first = data["choices"], data["first"]
    words = data["words"] | {"nwot": "NWOT", "swap": "SWAP", "bn": "BatchNorm", "ln": "LayerNorm (NIR)"}

    def options(name: str) -> str:
        return "".join(f'<option value="{v}"{" selected" * (v == first[name])}>{words[v]}</option>' for v in choices[name])

    script = vl_convert.javascript_bundle((WEB / "explorer.js").read_text("utf-8"))
    body = Template((WEB / "explorer.html").read_text("utf-8")).substitute(
        targets=options("target"),
        proxies=options("proxy"),
        norms=options("norm"),
        alphas=len(choices["alpha"]) - 1,
        convolutions=len(choices["convolutions"]) - 1,
        levels=LEVELS,
        masked=MASKED,
        seeds=max(row[5] for row in data["rho"]["cifar10"].values()),
        data=json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
        script=script,
    )
    return body, script


if __name__ == "__main__":
    accuracies = truths(print)
    if len(accuracies) < len(TARGETS):
        raise SystemExit(f"{RESULTS} stays as it is: it needs the tables of all targets")
    correlations(scored(ROOT), accuracies).to_csv(ROOT / RESULTS, index=False, float_format="%.4g")
    print(f"Written: {RESULTS}")
