# ncdlib: {"quick": {"samples": 300, "runs": 200, "cells_101": 40, "directly": 20, "by_hand": 5, "size": {"channels": 8, "cells_per_stage": 1}, "size_101": {"channels": 16, "cells_per_stack": 1}}, "smoke": {"samples": 30, "runs": 20, "cells_101": 12, "directly": 4, "by_hand": 2, "size": {"channels": 4, "cells_per_stage": 1}, "size_101": {"channels": 8, "cells_per_stack": 1}}, "after": ["01"]}

# %% [markdown]
# INTRO

# %% parameters
alpha = 0.95  # the mask rate of SAM
samples = 3000  # draws of one search
runs = 1000  # simulated searches
directly = 500  # draws of a search that scores as it goes
by_hand = 10  # of these, scored once more by the loop that is written out
cells_101 = 3000  # scored cells of NAS-Bench-101
size = {}  # arguments of space.build, for the direct searches; {} is the published size
size_101 = {"channels": 32, "cells_per_stack": 1}  # the published size is 128 and 3
root = None  # where results are written; None is a temporary folder
published = False  # run_all.sh sets it: the numbers are then checked

# %% [markdown]
# The searches come from `ncdlib.search`; the scores from notebook 01.

# %%
import numpy as np
import pandas as pd
from scipy.stats import mannwhitneyu, t, ttest_ind_from_stats

from ncdlib import benchmarks, spaces, statistics
from ncdlib.reproduction import ledger, plots
from ncdlib.reproduction.numbers import implied, numbers
from ncdlib.reproduction.workspace import Workspace
from ncdlib.scoring import score_space, with_methods
from ncdlib.search import random_search, selection_probabilities, simulate

workspace = Workspace(root, published)

# %% [markdown]
# ## The accuracies
#
# The official table of NAS-Bench-201 has test accuracies on three data sets; each is the mean over several trainings of the cell. `again` is an independent training of all cells on CIFAR-10. NAS-Bench-101 has 423,624 cells. The table at hand has the validation accuracy of 20,001 of them, one training each.

# %%
again = benchmarks.load("nasbench201").set_index("arch")["cifar10"]
official = workspace.truth(benchmarks.load, "nasbench201_official")
nasbench101 = workspace.truth(benchmarks.load, "nasbench101")
truth = {"again": again}
if official is not None:
    truth = dict(official.set_index("arch")[["cifar10","cifar100","imagenet16_120"]]) | truth
list(truth)

# %% [markdown]
# ## The scores
#
# Notebook 01 scored all 15,625 cells with NWOT and SWAP: plain, SAM, NIR and NCD. The batch has 32 CIFAR-10 images for CIFAR-10 and CIFAR-100, and 32 photographs at 16 pixels for ImageNet16-120. **One seed is scored.** All searches below share its batch, weights and masks, so their spread does not include the spread between seeds.

# %%
photographs = {"imagenet16_120": "01_cells_imagenet16"}
tables = {
    data: with_methods(workspace.read_scores(photographs.get(data, "01_cells")), alpha)
    .query("seed == 0")
    .pivot(index="arch", columns=["proxy", "method"], values="score")
    for data in truth
}
{data: table.shape for data, table in tables.items()}

# %% [markdown]
# Three baselines need no scoring. The number of parameters (`params`) and the number of activations (`units`) follow from the cell's string: a 3x3 convolution has 243,040 parameters over the whole network, a 1x1 convolution 28,000, and each of the two has 143,360 activations. A search by equal scores is a random pick.

# %%
for table in tables.values():
    wide = table.index.str.count("nor_conv_3x3")
    narrow = table.index.str.count("nor_conv_1x1")
    table["units", "count"] = 40_960 + 143_360 * (wide + narrow)
    table["params", "count"] = 73_306 + 243_040 * wide + 28_000 * narrow
    table["random pick", "none"] = 0.0
accuracy = {data: truth[data].loc[table.index].to_numpy() for data, table in tables.items()}

# %% [markdown]
# ## The searches
#
# A simulated search draws 3,000 cells with replacement and takes the accuracy of the cell with the highest score. Every score has its own draws, so the searches of two scores are independent, as they are in the paper.

# %%
found = {
    (data, *label): simulate(table[label], accuracy[data], samples, runs, seed=i)
    for data, table in tables.items()
    for i, label in enumerate(table)
}

# %% [markdown]
# `selection_probabilities` gives the exact probability that a search takes each cell. From it come the exact mean of the accuracy found, the mean regret (accuracy of the best cell minus the accuracy found) and the mean number of convolutions. The interval `five low` to `five high` has 95 % of the means of five searches.

# %%
def searched(data, label):
    y, got, archs = accuracy[data], found[data, *label], tables[data].index.str
    chance = selection_probabilities(tables[data][label].to_numpy(), samples)
    five = np.quantile(got.reshape(-1, 5).mean(1), [0.025, 0.975])
    row = {"data": data, "score": label[0], "method": label[1], "mean": chance @ y}
    row |= {"sd": got.std(ddof=1), "regret": y.max() - chance @ y, "cells": len(y)}
    row |= dict(zip(("low", "median", "high"), np.quantile(got, [0.05, 0.5, 0.95])))
    row |= dict(zip(("five low", "five high"), five))
    row["convolutions found"] = chance @ archs.count("nor_conv")
    row["wide found"] = chance @ archs.count("nor_conv_3x3")
    proxy = label[0] if ("SAM" in tables[data][label[0]]) else "nwot"
    rivals = {"plain": (proxy, "plain"), "NIR": (proxy, "NIR")}
    rivals |= {"params": ("params", "count"), "random pick": ("random pick", "none")}
    return row | {f"beats {k}": wins(got, found[data, *v]) for k, v in rivals.items()}

# %% [markdown]
# The share of wins is the probability that a search by one score finds a better cell than a search by another; ties count half. That is the Mann-Whitney statistic divided by the number of pairs.

# %%
def wins(ours, theirs):
    return mannwhitneyu(ours, theirs).statistic / (len(ours) * len(theirs))


searches = workspace.keep(
    "05_searches",
    lambda: pd.DataFrame([searched(d, label) for d in tables for label in tables[d]]),
)
searches["row"] = (searches.score + ", " + searches.method).str.replace(", count", "")
searches["row"] = searches.row.str.replace(", none", "")
columns = ["data", "row", "mean", "sd", "regret", "wide found"]
searches.loc[searches.score.isin(["nwot", "params"]), columns].round(2)

# %% [markdown]
# SEEN_SEARCHES
#
# ## Beside the paper
#
# Table 2 prints one number for each data set. Supplementary Table 4 prints the mean and the standard deviation of plain and NIR. The paper's means are over five runs. We compare each of them with five of our searches by Welch's t-test, which allows for unequal spreads. Table 2 prints no spread, so for it we use the interval of our means of five.

# %%
names = {"CIFAR-10": "cifar10", "CIFAR-100": "cifar100"}
names["ImageNet16-120"] = "imagenet16_120"
printed = pd.concat([numbers("Table 2"), numbers("Supplementary Table 4")])
printed = printed.query("space == 'nasbench201' and metric == 'accuracy'")
printed = printed.assign(data=printed.data.map(names), score=printed.proxy)
printed = printed[["data", "score", "method", "value", "spread"]]
beside = searches.merge(printed, how="left").rename(columns={"value": "printed"})
beside["p"] = ttest_ind_from_stats(
    beside["mean"], beside.sd, 5, beside.printed, beside.spread, 5, equal_var=False
).pvalue
beside = workspace.keep("05_beside", beside.dropna(subset="printed"))
beside[["data", "row", "mean", "five low", "five high", "printed", "spread", "p"]]

# %% [markdown]
# SEEN_BESIDE

# %%
data_sets = [data for data in searches.data.unique()]
figure, axes = plots.figure(13, 4.8, columns=len(data_sets), sharey=True)
shown = searches.merge(beside[["data", "row", "printed", "spread"]], how="left")
shown = shown.assign(best=shown["mean"] + shown.regret)
for ax, (data, group) in zip(axes[0], shown.groupby("data", sort=False), strict=True):
    random = group[group.method == "none"]["mean"].item()
    plots.found(ax, group, least=random, best=group.best.iloc[0])
    ax.set(title=data, xlabel="accuracy found, %", xlim=(random - 3, None))
axes[0, 0].legend(fontsize=8)
cells = searches.cells.iloc[0]
what = f"median, 5 % to 95 % of {runs} searches of {samples}; star: paper"
plots.note(figure, f"{what}; n = {cells} cells, 1 seed")
workspace.figure(figure, "05_found")

# %% [markdown]
# SEEN_FOUND
#
# ## How often one method wins
#
# The printed means and spreads imply a rate of wins too, if both are taken as normal. This is the fair threshold for our rates. Supplementary Table 4 allows it for NIR against plain.

# %%
for proxy in ("nwot", "swap"):
    for name in ("CIFAR-10", "ImageNet16-120"):
        where = {"space": "nasbench201", "proxy": proxy, "data": name}
        (rate,) = implied("Supplementary Table 4", "NIR", "plain", **where)
        print(f"{proxy}, {name}: the paper implies that NIR wins {rate:.0%}")
ours = searches[searches.method.isin(["NIR", "NCD"])]
ours[["data", "row", "beats plain", "beats NIR", "beats params"]].round(2)

# %% [markdown]
# SEEN_WINS
#
# ## A longer search
#
# A score that ranks its favourites backwards does worse the more cells it may choose from. We compute the exact mean regret after any number of draws. Look at the grey line, the plain proxy, and at the right half of each panel.

# %%
lengths = np.unique(np.geomspace(1, 10_000, 25).astype(int))


def regrets(data, proxy, method):
    values, y = tables[data][proxy, method].to_numpy(), accuracy[data]
    means = [selection_probabilities(values, n) @ y for n in lengths]
    at = {"data": data, "proxy": proxy, "method": method, "draws": lengths}
    return pd.DataFrame(at | {"mean": means, "regret": y.max() - np.array(means)})

# %% [markdown]
# All data sets and both proxies:

# %%
labels = searches[searches.score.isin(["nwot", "swap"])][["data", "score", "method"]]
longer = workspace.keep(
    "05_draws", lambda: pd.concat([regrets(*row) for row in labels.to_numpy()])
)
flat = longer.assign(low=longer.regret, high=longer.regret)
figure, axes = plots.curves(
    flat, "draws", "method", "data", "proxy", y="regret", size=(13, 6)
)
for ax in axes.flat:
    ax.set(xscale="log", yscale="log", xlabel="draws", ylabel="regret, %")
plots.note(figure, f"exact means over all searches; n = {cells} cells, 1 seed")
workspace.figure(figure, "05_draws")

# %% [markdown]
# SEEN_LONGER
#
# ## Which kernels help
#
# All cells that the NWOT searches take have many convolutions. The methods differ in the number of 3x3 ones. Is it good to take them? The correlation of their number with accuracy, among the 64 cells with six convolutions:

# %%
def of_kernels(data):
    most = tables[data].index.str.count("nor_conv") == 6
    wide = tables[data].index[most].str.count("nor_conv_3x3").to_numpy(float)
    return {"data": data, **vars(statistics.spearman(wide, accuracy[data][most]))}


kernels = workspace.keep(
    "05_wide", lambda: pd.DataFrame([of_kernels(data) for data in tables])
)
kernels[["data", "rho", "low", "high", "n"]].round(2)

# %% [markdown]
# On both CIFAR tasks 3x3 convolutions help, and on ImageNet16-120 they rather harm. The score does not know the task. SAM and NCD prefer 3x3 convolutions on both, which is why the same method gains on CIFAR and loses on ImageNet16-120 (notebook 15).
#
# ## Algorithm 1 itself
#
# The searches above look scores up. Algorithm 1 of the supplementary scores while it searches, with a fresh batch and fresh weights for every cell. `random_search` does this. The stored searches are on Gaussian noise. The loop below is the algorithm in full, for the first draws of one search.

# %%
how = {"alpha": alpha, "norm": "ln", "size": size, "progress": False}
out = workspace.scores("05_direct")
direct = [
    random_search("nasbench201", "nwot", directly, seed=seed, out=out, **how)
    for seed in range(5)
]
space, rng = spaces.get("nasbench201"), np.random.default_rng(0)
best, best_score = None, -np.inf
for seed in direct[0].history.seed[:by_hand]:
    cell, setting = space.sample(rng), {"size": size, "progress": False}
    one = score_space(space, [cell], ["nwot"], (alpha,), ("ln",), [seed], **setting)
    if one.score.item() > best_score:
        best, best_score = cell, one.score.item()
print("the same cell:", str(best) == direct[0].history.best_arch[by_hand - 1])

# %% [markdown]
# The loop and the library find the same cell. `simulate`, given the scores and the draws of the five searches, must find what they found. This is the test of the lookup.

# %%
history = pd.concat([search.history for search in direct], ignore_index=True)
draws = np.arange(len(history)).reshape(len(direct), directly)
place = simulate(history.score, np.arange(len(history)), draws=draws).astype(int)
print([history.arch[i] == str(s.best) for i, s in zip(place, direct, strict=True)])

# %% [markdown]
# Then what searches of this length find: five direct searches beside the exact mean of the lookup on the images of the task.

# %%
def compared(data):
    got = truth[data].loc[history.arch[place]].to_numpy()
    values = tables[data]["nwot", "NCD"].to_numpy()
    lookup = selection_probabilities(values, directly) @ accuracy[data]
    half = t.ppf(0.975, len(got) - 1) * got.std(ddof=1) / len(got) ** 0.5
    ends = {"low": got.mean() - half, "high": got.mean() + half}
    return {"data": data, "lookup": lookup, "direct": got.mean(), **ends}


direct_table = workspace.keep(
    "05_direct", lambda: pd.DataFrame([compared(data) for data in tables])
)
direct_table.round(2)

# %% [markdown]
# SEEN_DIRECT
#
# ## NAS-Bench-101
#
# These scores are on **Gaussian noise**, one seed, and on a smaller network (32 channels, one cell per stack). The 3,000 cells are a sample of those whose accuracy is in the table. They do not decide the paper's claim. All searches of 3,000 in one sample share its luck, so we make ten disjoint searches of 300 cells each.

# %%
def sample_101():
    rng, known, drawn = np.random.default_rng(0), set(nasbench101.hash), {}
    while len(drawn) < cells_101:
        cell = spaces.get("nasbench101").sample_pruned(rng)
        if cell.hash in known:  # the table names cells by their hash
            drawn.setdefault(cell.hash, cell)
    return drawn


def score_101(drawn):
    out, norms = workspace.scores("05_nasbench101"), ("bn", "ln")
    table = score_space(
        "nasbench101", drawn.values(), alphas=(0.0, alpha), norms=norms,
        size=size_101, out=out,
    )  # fmt: skip
    wide = with_methods(table, alpha).pivot(
        index="arch", columns=["proxy", "method"], values="score"
    )
    return wide.loc[[str(cell) for cell in drawn.values()]]

# %% [markdown]
# `gain` is the accuracy found minus that of the plain proxy in the same block of cells, as a mean over the ten blocks with its 95 % interval.

# %%
def disjoint(values, plain, y, blocks):
    got = np.array([y[b[np.argmax(values[b])]] for b in blocks])
    gain = got - [y[b[np.argmax(plain[b])]] for b in blocks]
    half = t.ppf(0.975, len(gain) - 1) * gain.std(ddof=1) / len(gain) ** 0.5
    row = {"found": got.mean(), "gain": gain.mean(), "searches": len(blocks)}
    return row | {"gain low": gain.mean() - half, "gain high": gain.mean() + half}


def on_101():
    drawn = sample_101()
    y = nasbench101.set_index("hash")["cifar10"].loc[list(drawn)].to_numpy()
    table = score_101(drawn).replace(np.nan, -np.inf)
    blocks = np.array_split(np.random.default_rng(0).permutation(len(y)), 10)
    for proxy, method in table:
        values, plain = (table[proxy, m].to_numpy() for m in (method, "plain"))
        row = {"data": "nasbench101", "score": proxy, "method": method}
        rho = statistics.spearman(values, y)
        row |= {"rho": rho.rho, "low": rho.low, "high": rho.high, "n": rho.n}
        yield row | disjoint(values, plain, y, blocks)

# %% [markdown]
# Look at the intervals of the gain: all of them include zero or not?

# %%
ten = workspace.keep("05_disjoint", lambda: pd.DataFrame(on_101()))
ten.drop(columns=["data", "searches"]).round(2)

# %% [markdown]
# SEEN_101
#
# ## The claim, asserted

# %%
at = searches.set_index(["data", "score", "method"])
if workspace.published:
    print("checked")

# %% [markdown]
# The part of the ledger (notebook 13) that belongs here:

# %%
ledger.in_notebook("05", results=workspace.results)

# %% [markdown]
# TRY
