# %% [markdown]
# 09 · Vision transformers

**Claim** (supplementary D, Table 2). Masking carries over to vision transformers. They have LayerNorm already, so NIR has nothing to do; SAM alone, at a rate of 0.9, lifts NWOT's rank correlation with ImageNet accuracy from 0.75 to 0.77 on OoD-ViT-NAS-Ti, ahead of the proxies made for transformers.

**The figure to expect.** NWOT's correlation over the mask rate: a curve that rises a little from 0 to 0.9. And the question that the table does not ask: does NWOT on a transformer rank anything that the number of MLP units, or the depth, does not?

**What our numbers say.**

- What Table 2 measures can be had without a network. The **depth** alone, a number with three values, correlates with clean accuracy at +0.80 [+0.77, +0.82] over all 1,001 subnets, above the 0.75 of the paper's NWOT and the 0.77 of its NWOT with SAM; four fifths of the variance of accuracy lies between depths. The number of MLP units reaches +0.76 [+0.72, +0.79].
- Within a depth the number of units still ranks: +0.28 [+0.23, +0.33] on clean images once depth is given, +0.56 [+0.50, +0.60] under noise, where units (+0.75) rank better than depth (+0.60).

# %% parameters
profile = "paper"  # "quick" takes two minutes, "smoke" a few seconds
root = ".."

# %%
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ncdlib import benchmarks, masking, paper, plots, spaces
from ncdlib.activations import MODULES
from ncdlib.palette import BLACK, BLUE, GREEN, GREY, ORANGE, VERMILLION
from ncdlib.scoring import score_space
from ncdlib.statistics import by_seed, paired_difference, partial_spearman, spearman
from ncdlib.table import read
from ncdlib.workspace import Workspace

here = Workspace(root, profile)
resolution = here.pick(paper=64, quick=64, smoke=32)  # pixels a side
published = here.pick(paper=224, quick=224, smoke=64)
seeds = tuple(range(here.pick(paper=5, quick=2, smoke=1)))
alphas = here.pick(paper=(0.0, 0.3, 0.5, 0.7, 0.9, 0.95), quick=(0.0, 0.5, 0.9), smoke=(0.0, 0.9))
numbers = here.pick(paper=(1001, 200, 100, 60, 12), quick=(60, 20, 8, 5, 3), smoke=(6, 4, 3, 3, 2))  # subnets in each set
batches = here.pick(paper=(32, 16, 8), quick=(32, 16, 8), smoke=(8, 4, 4))  # codes; gradients; dearer gradients
lengths = here.pick(paper=(4, 8, 12, 16, 20, 24, 32), quick=(4, 8, 16, 32), smoke=(4, 8))  # batches for saturation
resamples = here.pick(paper=500, quick=200, smoke=50)  # of the bootstrap
SPACE, SAM = "autoformer_tiny", 0.9

# %% [markdown]
## What is masked, and what is read

The paper masks the inputs of convolutions. A vision transformer has one, which cuts the image into patches; the sums of activations happen in its linear layers. SAM here masks the inputs of both: in every block those of `qkv`, of the projection behind the attention, and of the two layers of the MLP.

Codes are read where activations are, and a block has one: the GELU between the two layers of its MLP. Attention is never read. So a code has one bit for each token and each hidden unit of an MLP, and how many there are is plain to see: tokens x the sum over blocks of embedding x ratio.

# %%
space = spaces.get(SPACE)
example = space.parse(space.example)
net = space.build(example, image=64)
masked = [type(m).__name__ for m in net.modules() if isinstance(m, masking.LAYERS)]
read_at = [type(m).__name__ for m in net.modules() if isinstance(m, MODULES)]
print(f"{example.depth} blocks; SAM masks the inputs of", pd.Series(masked).value_counts().to_dict())
print("codes are read at", pd.Series(read_at).value_counts().to_dict())


def mlp_units(arch, side=resolution):
    """Tokens, a class token among them, times the hidden units of all MLPs."""
    vit = space.parse(arch)
    return (1 + (side // 16) ** 2) * sum(int(vit.embed * ratio) for ratio in vit.ratios)

# %% [markdown]
## The subnets

1,001 subnets of AutoFormer's tiny supernet, with the accuracy that they have with its weights; none was trained by itself. They differ in depth, embedding dimension, heads and MLP ratios. Accuracies are the benchmark's: clean ImageNet, and one corruption (ImageNet-C, Gaussian noise of severity 1). ImageNet-A, -R and -D stand in a file that only a person can fetch (`benchmarks.get("autoformer_tiny").own_source`); where it lies in the data folder, its columns join in.

# %%
COLUMNS = {"ImageNet-1k": "imagenet", "ImageNet-C noise": "imagenet_c_gaussian_noise_1", "ImageNet-A": "imagenet_a"}
COLUMNS |= {"ImageNet-R": "imagenet_r"}
COLUMNS |= {f"ImageNet-D {kind}": f"imagenet_d_{kind}" for kind in ("texture", "material")}
try:
    truth, missing = benchmarks.load(SPACE).dropna(subset=["imagenet"]).set_index("arch"), None
    archs = sorted(truth.index)
except benchmarks.MissingData as error:
    truth, missing = None, error
    archs = sorted(set(read(Path(here.repository, "data/scores/09_codes.parquet")).arch))
    here.mark_stored(error)
metrics = [name for name, column in COLUMNS.items() if truth is not None and column in truth]
subnets = pd.Series(archs)
SETS = {"all": (0, seeds[:1]), "sample": (1, seeds), "gradients": (2, seeds), "dear": (3, seeds), "few": (4, seeds[:1])}
SETS = {name: (list(subnets.sample(numbers[i], random_state=0)), its) for name, (i, its) in SETS.items()}


def kept(name, compute):
    """A table of results: computed and stored, or, where ground truth is missing, the stored one."""
    if missing:
        return pd.read_csv(here.stored_results(name))
    table = pd.DataFrame(compute())
    table.to_csv(here.results(name), index=False, float_format="%.6g")
    return table

# %%
def spread():
    """Accuracy by depth: where the differences lie."""
    deep = truth.index.map(lambda arch: space.parse(arch).depth)
    for name in metrics:
        y = truth[COLUMNS[name]]
        between = y.groupby(deep).transform("mean").var() / y.var()
        for depth, mine in y.groupby(deep):
            yield {"accuracy": name, "depth": depth, "n": len(mine), "mean": mine.mean(), "sd": mine.std()} | {
                "share of variance between depths": between
            }


by_depth = kept("09_by_depth", spread)
by_depth.set_index(["accuracy", "depth"]).round(2)

# %% [markdown]
## Scores

On Gaussian images, with AutoFormer's initialisation. A score at 224x224 takes twelve times as long as one at 64x64, so networks are built for 64x64: 16 patches instead of 196, everything else as published. Whether that ranks alike is measured below. NWOT and SWAP: all subnets with one seed, plain and with SAM, and a random sample with five seeds over all mask rates. The other proxies: smaller samples with five seeds, because gradients cost more.

# %%
small = {"size": {"image": resolution}, "resolution": resolution}
codes = {"out": here.scores("09_codes"), "batch": batches[0]} | small
tables = []
for name in ("all", "sample"):
    some, its = SETS[name]
    rates = (0.0, SAM) if name == "all" else alphas
    tables.append(score_space(SPACE, some, ["nwot", "swap"], alphas=rates, seeds=its, **codes))
some, its = SETS["all"]
tables.append(score_space(SPACE, some, ["units"], seeds=its, **codes))
whole = {"size": {"image": published}, "resolution": published}
whole = whole if published != 224 else {"resolution": 224}
tables.append(score_space(SPACE, some, ["params", "flops"], seeds=its, out=here.scores("09_counts"), **whole))
GRADIENTS, DEAR = ["snip", "meco", "dss", "auto_prox"], ["grasp", "croze"]
for name, proxies, batch in (("gradients", GRADIENTS, batches[1]), ("dear", DEAR, batches[2])):
    some, its = SETS[name]
    tables.append(score_space(SPACE, some, proxies, seeds=its, batch=batch, out=here.scores("09_others"), **small))

# %%
table = pd.concat(tables).drop_duplicates(["proxy", "alpha", "arch", "seed"])


def scores(proxy, alpha, name):
    """A row a seed, a column a subnet, in the order of a set."""
    some, its = SETS[name]
    return by_seed(table[(table.proxy == proxy) & (table.alpha == alpha) & table.seed.isin(its)], some)


units = {name: np.array([mlp_units(arch) for arch in some], float) for name, (some, _) in SETS.items()}
assert (scores("units", 0.0, "all")[0] == units["all"]).all()
lost = table[~np.isfinite(table.score)].groupby("proxy").size().to_dict()
print(len(table), "scores; not finite:", lost or "none")

# %% [markdown]
## Does the smaller image rank alike?

# %%
some = list(subnets.sample(numbers[3], random_state=0))
large = score_space(SPACE, some, ["nwot", "swap"], alphas=(0.0, SAM), out=here.scores("09_at_224"), batch=batches[0], **whole)
rows = []
for proxy in ("nwot", "swap"):
    for alpha in (0.0, SAM):
        pair = [t[(t.proxy == proxy) & (t.alpha == alpha) & (t.seed == 0)] for t in (large, table)]
        rho = spearman(by_seed(pair[0], some)[0], by_seed(pair[1], some)[0])
        rows.append({"proxy": proxy, "alpha": alpha, "pixels": f"{published} and {resolution}", **vars(rho)})
agreement = pd.DataFrame(rows)
agreement.to_csv(here.results("09_resolutions"), index=False, float_format="%.6g")
agreement.set_index(["proxy", "alpha"])[["pixels", "rho", "low", "high", "n"]].round(3)

# %% [markdown]
## Over the mask rate

The sample with its seeds, and, as diamonds, all subnets with one seed. The dotted lines are Table 2's two numbers.

# %%
def curves():
    """Correlation of NWOT and SWAP with each accuracy, over the mask rate."""
    for name, rates in (("sample", alphas), ("all", (0.0, SAM))):
        for metric in metrics:
            y = truth.loc[SETS[name][0], COLUMNS[metric]].to_numpy()
            for proxy in ("nwot", "swap"):
                for alpha in rates:
                    rho = spearman(scores(proxy, alpha, name), y, resamples=resamples)
                    yield {"set": name, "accuracy": metric, "proxy": proxy, "alpha": alpha, **vars(rho)}
            rho = spearman(units[name], y, resamples=resamples)
            yield {"set": name, "accuracy": metric, "proxy": "units", "alpha": 0.0, **vars(rho)}


by_alpha = kept("09_by_alpha", curves)

# %%
printed = paper.numbers("Supplementary Table 2")
shown = ["ImageNet-1k", "ImageNet-C noise"]
figure, axes = plots.figure(11, 4.6, columns=2, sharey=True)
for ax, metric in zip(axes[0], shown, strict=True):
    for proxy, color, marker in (("nwot", BLUE, "o"), ("swap", ORANGE, "s")):
        mine = by_alpha[(by_alpha.accuracy == metric) & (by_alpha.proxy == proxy)]
        line = mine[mine.set == "sample"]
        plots.curve(ax, line.alpha, line.rho, line.low, line.high, f"{proxy.upper()}, sample", color, marker)
        points = mine[mine.set == "all"]
        ax.plot(points.alpha, points.rho, "D", mfc="none", color=color, markersize=9, label=f"{proxy.upper()}, all subnets")
    count = by_alpha[(by_alpha.accuracy == metric) & (by_alpha.proxy == "units") & (by_alpha.set == "all")].rho.item()
    ax.axhline(count, color=GREEN, linewidth=1.2, label="number of MLP units, all subnets")
    for value in printed[(printed.data == metric) & (printed.proxy == "nwot")].value:
        ax.axhline(value, color=BLACK, linestyle=":", linewidth=1, label="paper: NWOT, NWOT with SAM" if value < 0.76 else None)
    ax.set(title=metric, xlabel="mask rate alpha")
axes[0, 0].set_ylabel("Spearman's rho")
figure.legend(*axes[0, 0].get_legend_handles_labels(), ncols=3, loc="outside upper center")
n = by_alpha.groupby("set").agg({"n": "max", "seeds": "max"})
what = f"sample: n = {n.n['sample']}, {n.seeds['sample']} seeds, 95 % bootstrap bands over subnets; all: n = {n.n['all']}"
plots.note(figure, f"{what}, 1 seed; scored at {resolution}x{resolution}, batch {batches[0]}")
plots.save(figure, here.figure("09_mask_rates"), bool(missing))

# %% [markdown]
### Does SAM rank better?

Paired: both scores on the same subnets and seeds, resampled together. `nwot - units` asks whether the proxy ranks better than the count.

# %%
def differences():
    """rho with SAM minus rho without; rho of the proxy minus rho of the number of units."""
    for name in ("all", "sample"):
        for metric in metrics:
            y = truth.loc[SETS[name][0], COLUMNS[metric]].to_numpy()
            for proxy in ("nwot", "swap"):
                plain, sam = (scores(proxy, alpha, name) for alpha in (0.0, SAM))
                count = np.broadcast_to(units[name], plain.shape)
                pairs = {f"{proxy} + SAM - {proxy}": (sam, plain), f"{proxy} - units": (plain, count)}
                for what, pair in (pairs | {f"{proxy} + SAM - units": (sam, count)}).items():
                    gain = paired_difference(*pair, y, resamples=resamples)
                    yield {"set": name, "accuracy": metric, "difference": what, **vars(gain)}


gains = kept("09_differences", differences)
gains["text"] = [f"{r.rho:+.4f} [{r.low:+.4f}, {r.high:+.4f}]" for r in gains.itertuples()]
gains.pivot(index="difference", columns=["accuracy", "set"], values="text")

# %% [markdown]
## Beside Table 2

`units` counts the units of the MLPs, and `depth` the blocks: a number with three values.

# %%
ROWS = [(p, a, s) for p in ("nwot", "swap") for a in (0.0, SAM) for s in ("all", "sample")]
ROWS += [(p, 0.0, "gradients") for p in GRADIENTS] + [(p, 0.0, "dear") for p in DEAR]
ROWS += [(p, 0.0, "all") for p in ("units", "params", "flops", "depth")]
depths = {name: np.array([space.parse(arch).depth for arch in some], float) for name, (some, _) in SETS.items()}


def correlations():
    """Signed rank correlation of every score with every accuracy; also given the number of units, or the depth."""
    for proxy, alpha, name in ROWS:
        values = depths[name][None] if proxy == "depth" else scores(proxy, alpha, name)
        for metric in metrics:
            y = truth.loc[SETS[name][0], COLUMNS[metric]]
            there = y.notna().to_numpy()
            at = {"proxy": proxy, "alpha": alpha, "set": name, "accuracy": metric}
            v, y = values[:, there], y[there].to_numpy()
            yield at | {"given": "nothing"} | vars(spearman(v, y, resamples=resamples))
            for given, control in (("units", units[name]), ("depth", depths[name])):
                rho = partial_spearman(v, y, control[there], resamples=resamples)
                yield at | {"given": given} | vars(rho)


found = kept("09_correlations", correlations)
tail = [f"(n = {r.n}, {r.seeds} seed{'s' * (r.seeds > 1)})" for r in found.itertuples()]
found["row"] = found.proxy + np.where(found.alpha > 0, " + SAM ", " ") + tail

# %%
figure, axes = plots.figure(17, 6.4, columns=len(COLUMNS), sharey=True)
mine = found[found.given == "nothing"]
order = list(dict.fromkeys(mine.row))
place = {(r.proxy, r.alpha): order.index(r.row) for r in mine.iloc[::-1].itertuples()}
for ax, metric in zip(axes[0], COLUMNS, strict=True):
    ours = mine[mine.accuracy == metric]
    if len(ours):
        y = [order.index(row) for row in ours.row]
        ax.errorbar(ours.rho, y, xerr=[ours.rho - ours.low, ours.high - ours.rho], fmt="o", color=BLUE, capsize=3, label="ours")
    for r in printed[printed.data == metric].itertuples():
        at = place[r.proxy, SAM if r.method == "SAM" else 0.0]
        ax.plot(r.value, at, "*", color=VERMILLION, markersize=11, label="paper" if r.proxy == "snip" else None)
    ax.axvline(0, color=BLACK, linewidth=0.8)
    ax.set(title=metric + ("" if len(ours) else "\n(paper alone)"), xlabel="Spearman's rho", xlim=(-1, 1))
axes[0, 0].set(yticks=range(len(order)), yticklabels=order)
axes[0, 0].invert_yaxis()
axes[0, 0].legend(loc="lower left")
plots.note(figure, f"95 % bootstrap intervals over subnets; scored at {resolution}x{resolution} (params, flops: {published})")
plots.save(figure, here.figure("09_table_2"), bool(missing))

# %% [markdown]
## Does NWOT rank anything that the number of MLP units does not?

NWOT is $\log|K|$, and the diagonal of $K$ is the number of units $N$. So with $n$ images it falls apart, exactly, into $n \log N$, which counts, and $\log|K/N|$, which says how much the codes of different images differ:

$$\log|K| = n \log N + \log|K / N|.$$

SWAP counts distinct rows, which are $N$ at most: $N$ times the share that is distinct. We ask of each part what it ranks, and of each score what is left given $N$.

# %%
def parts():
    """Rank correlations of the two parts of each score, with accuracy and with the number of units."""
    for name in ("all", "sample"):
        count = np.log(units[name])
        for proxy, alpha, label in [(p, a, p + " + SAM" * (a > 0)) for p in ("nwot", "swap") for a in (0.0, SAM)]:
            values = scores(proxy, alpha, name)
            rest = values - batches[0] * count if proxy == "nwot" else values / units[name]
            for part, v in (("score", values), ("what is left of counting", rest)):
                at = {"set": name, "score": label, "part": part}
                yield at | {"with": "MLP units", "given": "nothing"} | vars(spearman(v, count, resamples=resamples))
                for metric in metrics:
                    y = truth.loc[SETS[name][0], COLUMNS[metric]].to_numpy()
                    yield at | {"with": metric, "given": "nothing"} | vars(spearman(v, y, resamples=resamples))
                    rho = partial_spearman(v, y, count, resamples=resamples)
                    yield at | {"with": metric, "given": "MLP units"} | vars(rho)


apart = kept("09_parts", parts)
apart["text"] = [f"{r.rho:+.3f} [{r.low:+.3f}, {r.high:+.3f}]" for r in apart.itertuples()]
apart.pivot(index=["set", "score", "part"], columns=["given", "with"], values="text")

# %%
figure, axes = plots.figure(15, 4.6, columns=3)
v, y = scores("nwot", 0.0, "all")[0], units["all"] / 1e3
for depth, color in zip(space.choices.depth, plots.shades(3), strict=True):
    mine = depths["all"] == depth
    axes[0, 0].plot(y[mine], v[mine], ".", color=color, label=f"depth {depth}")
    axes[0, 1].plot(y[mine], v[mine] - batches[0] * np.log(1e3 * y[mine]), ".", color=color)
r = apart[(apart.set == "all") & (apart.score == "nwot") & (apart["with"] == "MLP units")].set_index("part")
for ax, part, title in zip(axes[0, :2], r.index, ("NWOT", r"its other part, $\log|K/N|$"), strict=True):
    ax.set(title=f"{title}\nrho {r.text[part]}", xlabel="thousand MLP units", ylabel="score")
axes[0, 0].legend()
rest = apart[(apart.set == "all") & (apart.part == "score") & apart["with"].isin(shown)]
for i, (metric, color) in enumerate(zip(shown, (BLUE, VERMILLION), strict=True)):
    for given, fill in (("nothing", color), ("MLP units", "white")):
        mine = rest[(rest["with"] == metric) & (rest.given == given)]
        where = np.arange(len(mine)) + 0.24 * i - 0.12
        ends = [mine.rho - mine.low, mine.high - mine.rho]
        label = metric if given == "nothing" else f"{metric}, given the units"
        axes[0, 2].errorbar(where, mine.rho, yerr=ends, fmt="o", color=color, mfc=fill, capsize=3, label=label)
plots.zero_line(axes[0, 2])
axes[0, 2].set(xticks=range(4), xticklabels=list(dict.fromkeys(rest.score)), ylim=(-0.5, 1), ylabel="rho with accuracy")
axes[0, 2].set_title("what a score ranks, and what beside the units")
axes[0, 2].legend(fontsize=8, loc="lower left", ncols=2)
plots.note(figure, f"n = {rest.n.max()} subnets, 1 seed, {resolution}x{resolution}; 95 % bootstrap intervals over subnets")
plots.save(figure, here.figure("09_units"), bool(missing))

# %% [markdown]
## When SWAP is a constant

A row of SWAP's matrix has one bit an image. With $n$ images there are $2^n$ different rows, so SWAP cannot exceed $2^n$, and a network with far more units than that meets them all: with a small batch SWAP is the **same number for every subnet**, and no correlation is defined. With a large batch nearly every row is distinct, and SWAP is the number of units. Between the two it can say something; in a network this wide, that is a narrow strip. The same happens to `linear_regions`, which counts distinct images: it is the batch size.

# %%
some, _ = SETS["few"]
grow = [score_space(SPACE, some, ["swap"], batch=n, out=here.scores("09_saturation"), **small) for n in lengths]
few = pd.concat(grow)[["arch", "batch", "score"]].assign(units=lambda t: t.arch.map(mlp_units))
few["of the most possible"] = few.score / np.minimum(2.0**few.batch, few.units)
saturation = few.groupby("batch").agg(
    least=("score", "min"), most=("score", "max"), distinct=("score", "nunique"), share=("of the most possible", "mean")
)
saturation["rho with units"] = [spearman(m.score.to_numpy(), m.units.to_numpy()).rho for _, m in few.groupby("batch")]
saturation.to_csv(here.results("09_saturation"), float_format="%.6g")
saturation.round(3)

# %%
figure, axes = plots.figure(8, 4.4)
ax = axes[0, 0]
for _, mine in few.groupby("arch"):
    ax.plot(mine.batch, mine.score, "o-", color=BLUE, alpha=0.5, linewidth=1, markersize=4)
n = np.array(lengths)
ax.plot(n, 2.0**n, "--", color=VERMILLION, label="$2^n$: every pattern met, a constant")
ax.axhspan(few.units.min(), few.units.max(), color=GREY, alpha=0.3, label="MLP units of these subnets: every row distinct")
ax.plot([], [], "o-", color=BLUE, label="SWAP, a line a subnet")
ax.set(yscale="log", xlabel="images in the batch, n", ylabel="SWAP", ylim=(8, few.units.max() * 4))
ax.set_title("SWAP between a constant and a count")
ax.legend(loc="lower right")
plots.note(figure, f"n = {len(some)} subnets, 1 seed, {resolution}x{resolution}")
plots.save(figure, here.figure("09_saturation"))

# %% [markdown]
## The claims, beside our numbers

Reproduced: the whole 95 % interval says so.

# %%
ledger = []


def claim(text, ours, outcome):
    ledger.append({"the paper's claim": text, "our number": ours, "reproduced?": outcome})


def told(r, digits=2):
    seeds_of = f"{r.seeds} seed{'s' if r.seeds > 1 else ''}"
    return f"{r.rho:+.{digits}f} [{r.low:+.{digits}f}, {r.high:+.{digits}f}], n = {r.n}, {seeds_of}"


rho_of = found[(found.given == "nothing") & (found.accuracy == "ImageNet-1k")].set_index(["proxy", "alpha", "set"])
clean = printed[printed.data == "ImageNet-1k"].set_index(["proxy", "method"])
for method, alpha in (("plain", 0.0), ("SAM", SAM)):
    r, value = rho_of.loc["nwot", alpha, "all"], clean.value["nwot", method]
    inside = "reproduced" if r.low <= value <= r.high else "reproduced, and higher" if r.low > value else "not: lower"
    claim(f"NWOT, {method}: {value:.2f} with ImageNet-1k", told(r), inside)
gain = gains.set_index(["set", "accuracy", "difference"]).loc["all", "ImageNet-1k", "nwot + SAM - nwot"]
step = clean.value["nwot", "SAM"] - clean.value["nwot", "plain"]
outcome = "reproduced" if gain.low > step / 2 else "partly: a smaller step" if gain.low > 0 else "not: no gain"
claim(f"SAM lifts NWOT by {step:.2f}", told(gain, 4), outcome)

# %%
for proxy, name in [(p, "gradients") for p in GRADIENTS] + [(p, "dear") for p in DEAR]:
    r, value = rho_of.loc[proxy, 0.0, name], clean.value[proxy, "plain"]
    inside = "reproduced" if r.low <= value <= r.high else "not: higher" if r.low > value else "not: lower"
    claim(f"{proxy}: {value:+.2f} with ImageNet-1k", told(r), inside)
gap = pd.Series({p: rho_of.rho[p, 0.0, "gradients"] for p in ("dss", "auto_prox")})
sam = rho_of.loc["nwot", SAM, "all"]
ahead = "reproduced" if sam.low > gap.max() else "not clear"
rivals = ", ".join(f"{name} {value:+.2f}" for name, value in gap.items())
claim("NWOT with SAM is ahead of DSS and Auto-Prox", f"{told(sam)}; {rivals}", ahead)
for metric in list(COLUMNS)[2:]:
    if metric not in metrics:
        claim(f"{metric}: NWOT with SAM ranks", "", "not testable here: the accuracies are not public")
for proxy in ("nwot", "nwot + SAM"):
    r = apart.set_index(["set", "score", "part", "with", "given"]).loc["all", proxy, "score", "ImageNet-1k", "MLP units"]
    claim(f"{proxy} ranks more than it counts (asked here, not there)", f"given the units: {told(r)}", "")
ledger = pd.DataFrame(ledger)
if not missing:
    ledger.to_csv(here.results("09_claims"), index=False)
pd.set_option("display.max_colwidth", None)
ledger

# %% [markdown]
## Asserted

# %%
near = apart[(apart["with"] == "MLP units") & (apart.part == "score")].set_index(["set", "score"])
checks = [
    (f"{score} follows the number of MLP units", near.low["all", score] > 0.98, near.loc["all", score])
    for score in ("nwot", "nwot + SAM", "swap", "swap + SAM")
]
for alpha in (0.0, SAM):
    r = rho_of.loc["nwot", alpha, "all"]
    checks.append((f"NWOT ranks clean accuracy at alpha = {alpha:g}", r.low > 0.5, r))
checks += [
    (f"{r.proxy} at alpha = {r.alpha:g}: {resolution} pixels rank as {published}", r.low > 0.95, r)
    for r in agreement.itertuples()
]
least = saturation.loc[min(lengths)]
print(f"SWAP with {min(lengths)} images: {int(least.distinct)} value for {len(some)} subnets")
for text, holds, c in checks:
    print("holds" if holds else "FAILS", f"{text}: {told(c, 3)}")
if profile == "paper":
    assert all(holds for _, holds, _ in checks) and least.distinct == 1

# %% [markdown]
## Try this

- Count only: sort the subnets by `mlp_units` and search with that. What do you lose?
- Mask one kind of layer at a time, with `masking.masked` in a hook of your own: does a mask on `qkv` change NWOT at all?
- Read codes in another place: give `space.build` a module after the attention's projection, and see whether attention ranks anything.

## Limits

Accuracies are those of inherited weights: a subnet trained by itself may rank otherwise. Scores use noise images at a lower resolution than the paper's, whose input is not printed. Gradient proxies rest on small samples and batches, with random labels. The intervals hold the luck of the subnets; with one seed (all subnets) not that of the weights.
