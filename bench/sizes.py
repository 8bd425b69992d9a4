"""Does a smaller network rank like the published one, and what does a score cost?

    python bench/sizes.py [--archs 24]

For each space that is expensive to score: the same architectures, weights and batch at the published size and at a
reduced one, the signed Spearman of the two sets of scores, and seconds per architecture on all cores. Writes
data/results/sizes.csv.
"""

import argparse
from pathlib import Path
import time

import numpy as np
import pandas as pd

from ncdlib import spaces
from ncdlib.scoring import score_space
from ncdlib.statistics import spearman

BATCH = 32  # with 16 images SWAP has seen all 2^16 patterns, and is the same for every network
# space: (published size and resolution, reduced size and resolution)
SIZES: dict[str, tuple[tuple[dict[str, int], int], tuple[dict[str, int], int]]] = {
    "nasbench101": (({}, 32), ({"channels": 32, "cells_per_stack": 1}, 32)),
    "transnas_micro": (({}, 256), ({"channels": 16}, 64)),
    "transnas_macro": (({}, 256), ({"channels": 16}, 64)),
    "darts": (({}, 32), ({"channels": 16, "layers": 8}, 32)),
    "s1": (({}, 32), ({"channels": 16, "layers": 8}, 32)),
    "autoformer_tiny": (({}, 224), ({"image": 64}, 64)),
}


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--archs", type=int, default=24)
    count = parser.parse_args().archs
    rows = []
    for name, choices in SIZES.items():
        space, rng = spaces.get(name), np.random.default_rng(0)
        draw = getattr(space, "sample_pruned", space.sample)  # NAS-Bench-101's cells are small unless drawn pruned
        archs = list({str(arch): arch for arch in (draw(rng) for _ in range(count))}.values())
        scores, seconds = [], []
        for size, resolution in choices:
            began = time.perf_counter()
            table = score_space(space, archs, batch=BATCH, size=size, resolution=resolution)
            seconds.append((time.perf_counter() - began) / len(archs))
            scores.append(table.pivot(index="arch", columns="proxy", values="score").loc[[str(arch) for arch in archs]])
        for proxy in ("nwot", "swap"):
            rho = spearman(*(table[proxy].to_numpy() for table in scores))
            row = {"space": name, "proxy": proxy, "published_s": seconds[0], "reduced_s": seconds[1], **vars(rho)}
            rows.append({**row, "reduced": f"{choices[1][0]}, {choices[1][1]} pixels"})
            print(f"{name:16s}{proxy:5s} {rho}; {seconds[0]:.2f} s and {seconds[1]:.2f} s per architecture", flush=True)
    pd.DataFrame(rows).round(4).to_csv(Path(__file__).resolve().parents[1] / "data" / "results" / "sizes.csv", index=False)


if __name__ == "__main__":
    main()
