"""Score the 64 cells of six convolutions under many settings that the paper leaves open, for a specification curve.

    python bench/specifications.py [--jobs 2]

One score file per specification in data/scores/14_specifications; what is in the files is not computed again. The design is
a balanced fraction of all combinations: every level of a factor is used equally often, and pairs of levels as evenly as a
random search finds. About two hours of two cores. Specification NN is scored with the seed NN: plain and SAM with
BatchNorm, NIR and NCD at four mask rates with LayerNorm. The `NAMED` protocols are scored with five seeds, first.
"""

import argparse
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ncdlib import score_space, spaces

OUT = Path(__file__).resolve().parents[1] / "data" / "scores" / "14_specifications"
FACTORS = {
    "images": ("gaussian", "cifar10", "imagenet", "patches"),
    "batch": (32, 64, 128),
    "init": ("default", "kaiming", "normal"),
    "mask": ("sample", "shared", "channel", "channel_shared"),
    "cells_per_stage": (1, 4, 5),
    "channels": (4, 8, 16),
    "activation": ("relu", "gelu", "leaky_relu"),
    "mode": ("train", "eval"),
    "count": ("once", "legacy"),
}
PUBLISHED = {"mask": "sample", "cells_per_stage": 5, "channels": 16, "activation": "relu", "mode": "train", "count": "once"}
NAMED = {
    # github.com/cvlab-yonsei/AZ-NAS, NB201/tss_general.ipynb: the supplementary material says that it uses these settings.
    "az_nas": {"images": "gaussian", "batch": 64, "init": "kaiming", **PUBLISHED},
    # Supplementary material, Algorithm 1: every network gets its own batch, weights and masks. No batch size is printed.
    "algorithm_1": {"images": "cifar10", "batch": 32, "init": "default", **PUBLISHED},
}
REPEATS = 5


def design(n: int = 48, tries: int = 3000, seed: int = 0) -> list[dict[str, object]]:
    """The specifications: of `tries` random balanced designs the one whose factors are the least dependent."""
    rng = np.random.default_rng(seed)
    edges = np.cumsum([0, *map(len, FACTORS.values())])
    best, least = {}, np.inf
    for _ in range(tries):
        levels = {name: rng.permutation(np.resize(np.arange(len(values)), n)) for name, values in FACTORS.items()}
        columns = [np.eye(len(values))[levels[name]] - 1 / len(values) for name, values in FACTORS.items()]
        together = np.abs(np.hstack(columns).T @ np.hstack(columns)) / n
        for start, end in pairwise(edges):
            together[start:end, start:end] = 0  # a factor depends on itself
        if together.max() < least:
            best, least = levels, together.max()
    return [{name: values[best[name][i]] for name, values in FACTORS.items()} for i in range(n)]


def main() -> None:
    """Score what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, help="worker processes (default: one per core)")
    jobs = parser.parse_args().jobs
    space = spaces.get("nasbench201")
    cells = [cell for cell in space.enumerate() if cell.convolutions == 6]
    own = {str(cell): range(i * REPEATS, (i + 1) * REPEATS) for i, cell in enumerate(cells)}
    for name, chosen in NAMED.items():
        seeds = own if name == "algorithm_1" else range(1, REPEATS + 1)  # a seed for each network and repeat, or for all
        for norm in ("bn", "ln"):
            score_space(space, cells, alphas=(0.0, 0.95), norms=(norm,), **arguments(name, chosen, seeds), jobs=jobs)
        print(f"{name}: {chosen}", flush=True)
    for i, chosen in enumerate(design()):
        common = arguments(f"{i:02d}", chosen, (i,)) | {"jobs": jobs}
        score_space(space, cells, alphas=(0.0, 0.95), norms=("bn",), **common)
        score_space(space, cells, alphas=(0.0, 0.5, 0.8, 0.9, 0.95), norms=("ln",), **common)
        print(f"{i:02d}: {chosen}", flush=True)


def arguments(name: str, chosen: dict[str, Any], seeds: Sequence[int] | dict[str, range]) -> dict[str, Any]:
    """A specification as `score_space` takes it."""
    return {
        "seeds": seeds, "inputs": (chosen["images"],), "batch": chosen["batch"], "inits": (chosen["init"],),
        "activations": (chosen["activation"],), "mask": chosen["mask"], "mode": chosen["mode"], "count": chosen["count"],
        "size": {size: chosen[size] for size in ("channels", "cells_per_stage")}, "out": OUT / f"{name}.parquet",
    }  # fmt: skip


if __name__ == "__main__":
    main()
