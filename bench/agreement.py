"""Do our proxies rank cells like a published run of the same proxies?

    python bench/agreement.py TABLE

TABLE holds NASLib's scores of 725 NAS-Bench-201 cells at batch 32: its own `naslib/data/zc_nasbench201.json` (commit
1bdbd960 of automl/NASLib), or a CSV with columns `dataset`, `arch_str` and one column per proxy. Scores the same cells
here, on Gaussian images with random labels (the published run used CIFAR-10), and prints the signed Spearman correlation of
the two for each proxy. For every third cell it also prints that of our scores on pieces of photographs, and that of two runs
of ours that differ only in the seed. Resumes from data/scores/12_published_cells.parquet and writes
data/results/12_agreement.csv.

The published file writes -1e8 where a score was not finite: such cells are left out and counted.
"""

import argparse
import json
from pathlib import Path

import pandas as pd

from ncdlib.scoring import score_space
from ncdlib.spaces.nasbench201 import EDGES, Cell201
from ncdlib.statistics import spearman

ROOT = Path(__file__).resolve().parents[1]
SCORES = ROOT / "data/scores/12_published_cells.parquet"
RESULTS = ROOT / "data/results/12_agreement.csv"
# proxy: (the least agreement wanted, the agreement of two published runs of the suite, at batch 32 and 64)
PROXIES = {
    "params": (0.9999, 1.0),
    "flops": (0.9999, 1.0),
    "synflow": (0.995, 0.9999),
    "nwot": (0.95, 0.992),
    "snip": (0.95, 0.989),
    "grad_norm": (0.95, 0.987),
    "l2_norm": (0.93, 0.987),
    "fisher": (0.90, 0.981),
    "jacov": (0.85, 0.968),
    "epe_nas": (0.70, 0.853),
    "grasp": (0.50, 0.712),
    "plain": (-1.0, 0.205),
}
NASLIB_OPS = ("skip_connect", "none", "nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3")
NASLIB_EDGES = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
AGAIN = 3  # every third cell is also scored with a second seed, and on photographs
UNDEFINED = -1e7  # a smaller number is the file's mark of a score that is not finite


def read(path: Path) -> pd.DataFrame:
    """The published scores on CIFAR-10: one row per cell, indexed by its string."""
    if path.suffix == ".json":
        cells = json.loads(path.read_text())["cifar10"]
        rows = {
            cell_string(key): {
                proxy: entry["score"] if isinstance(entry, dict) else entry
                for proxy, entry in scores.items()
                if proxy in PROXIES
            }
            for key, scores in cells.items()
        }
        return pd.DataFrame.from_dict(rows, orient="index")
    table = pd.read_csv(path)
    return table[table["dataset"] == "cifar10"].set_index("arch_str")


def cell_string(key: str) -> str:
    """The benchmark's string of a cell that NASLib writes as a tuple of six numbers."""
    ops = dict(zip(NASLIB_EDGES, (NASLIB_OPS[int(digit)] for digit in key.strip("()").split(",")), strict=True))
    return str(Cell201(tuple(ops[edge] for edge in EDGES)))


def agreement(published: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Signed rho of our scores with the published ones, also on photographs, and of two of our runs; one row per proxy."""
    runs = {key: run.pivot(index="arch", columns="proxy", values="score") for key, run in scores.groupby(["input", "seed"])}
    first, second, photographs = runs["gaussian", 0], runs["gaussian", 1], runs["patches", 0]
    rows = []
    for proxy, (wanted, two_runs) in PROXIES.items():
        finite = published[proxy] > UNDEFINED
        result = spearman(first[proxy][published.index[finite]].to_numpy(), published[proxy][finite].to_numpy())
        own = spearman(first[proxy][second.index].to_numpy(), second[proxy].to_numpy())
        row = {"proxy": proxy, **vars(result), "undefined_there": int((~finite).sum()), "wanted": wanted}
        row |= {"two_published_runs": two_runs, "two_own_runs": own.rho, "own_low": own.low, "own_high": own.high}
        seen = photographs.index.intersection(published.index[finite])
        on_photographs = spearman(photographs[proxy][seen].to_numpy(), published[proxy][seen].to_numpy())
        rows.append(row | {"own_n": own.n, "on_photographs": on_photographs.rho})
    return pd.DataFrame(rows)


def main() -> None:
    """Score, print and store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path)
    published = read(parser.parse_args().table)
    again = published.index[::AGAIN]
    runs = [
        score_space("nasbench201", archs, list(PROXIES), seeds=(seed,), inputs=(images,), batch=32, out=SCORES)
        for archs, seed, images in ((published.index, 0, "gaussian"), (again, 1, "gaussian"), (again, 0, "patches"))
    ]
    table = agreement(published, pd.concat(runs))
    print(table.round(4).to_string(index=False))
    table.to_csv(RESULTS, index=False, float_format="%.4f", lineterminator="\n")


if __name__ == "__main__":
    main()
