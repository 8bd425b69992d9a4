"""Score the 64 cells of six convolutions under many settings that the paper leaves open, for a specification curve.

    python bench/specifications.py [--jobs 2]

One score file per specification in data/scores/14_specifications; what is in the files is not computed again. The design is
a balanced fraction of all combinations: every level of a factor is used equally often, and pairs of levels as evenly as a
random search finds. About two hours of two cores. Specification NN is scored with the seed NN: plain and SAM with
BatchNorm, NIR and NCD at four mask rates with LayerNorm.
"""

import argparse
from itertools import pairwise
from pathlib import Path

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


def design(n: int = 78, tries: int = 3000, seed: int = 0) -> list[dict[str, object]]:
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
    for i, chosen in enumerate(design()):
        common = {
            "seeds": (i,), "inputs": (chosen["images"],), "batch": chosen["batch"], "inits": (chosen["init"],),
            "activations": (chosen["activation"],), "mask": chosen["mask"], "mode": chosen["mode"], "count": chosen["count"],
            "size": {name: chosen[name] for name in ("channels", "cells_per_stage")}, "jobs": jobs,
            "out": OUT / f"{i:02d}.parquet",
        }  # fmt: skip
        score_space(space, cells, alphas=(0.0, 0.95), norms=("bn",), **common)
        score_space(space, cells, alphas=(0.0, 0.5, 0.8, 0.9, 0.95), norms=("ln",), **common)
        print(f"{i:02d}: {chosen}", flush=True)


if __name__ == "__main__":
    main()
