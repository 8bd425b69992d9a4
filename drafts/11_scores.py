"""The score tables of notebook 11 at the paper profile. argv[1]: number of archs for a check, in a scratch folder argv[2]."""
import sys
import numpy as np
import pandas as pd
from ncdlib import benchmarks, spaces
from ncdlib.scoring import score_space
from ncdlib.search import random_search
few = int(sys.argv[1]) if len(sys.argv) > 1 else None
folder = sys.argv[2] if few else "data/scores"
SMALL = {"size": {"image": 64}, "resolution": 64}

def parameters(vit):
    e, k = vit.embed, 64 * np.array(vit.heads)
    hidden = np.array([int(e * ratio) for ratio in vit.ratios])
    attention = (3 * k * (e + 1) + e * (k + 1) + 2 * 2 * 30 * 64).sum()
    mlp = (hidden * (e + 1) + e * (hidden + 1)).sum()
    outside = e * (3 * 16**2 + 1) + e + 197 * e + 2 * e + 1000 * (e + 1)
    return int(attention + mlp + vit.depth * 4 * e + outside)

base = spaces.get("autoformer_base")
table = benchmarks.load("autoformer_base")
mine = [parameters(base.parse(a)) / 1e6 for a in table.arch]
print("largest difference, million:", np.abs(np.array(mine) - table.params).max(), flush=True)
assert np.allclose(mine, table.params, atol=1e-5)

def affordable(vit):
    return 53.4e6 <= parameters(vit) <= 54.0e6

found = random_search(base, "nwot", few or 200, alpha=0.9, seed=0, constraint=affordable, out=f"{folder}/11_search.parquet", **SMALL)
print(found.best, found.score, flush=True)
slices = {"small": [], "base": table.arch[table.params.between(53.4, 54.0)]}
for name in ("base", "small"):
    subnets = benchmarks.load(f"autoformer_{name}").arch
    archs = list(dict.fromkeys([*subnets.sample(80, random_state=0), *slices[name]]))[:few]
    for proxies, alphas in ((["nwot", "swap", "units"], (0.0,)), (["nwot", "swap"], (0.5, 0.9, 0.95))):
        score_space(f"autoformer_{name}", archs, proxies, alphas=alphas, out=f"{folder}/11_{name}.parquet", **SMALL)
space = spaces.get("nasbench201")
cells = {}
for cell in space.enumerate():
    cells.setdefault(cell.isomorphism_class, cell)
for convolutions in (6, 3):
    mine = [str(cell) for cell in cells.values() if cell.convolutions == convolutions]
    if len(mine) > 64:
        mine = [mine[i] for i in np.random.default_rng(0).permutation(len(mine))[:64]]
    for channels, depth in ((8, 5), (8, 1), (8, 3), (4, 5), (16, 5)):
        size = {"channels": channels, "cells_per_stage": depth}
        alphas = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
        out = f"{folder}/11_nasbench201_{channels}_{depth}.parquet"
        score_space(space, mine[:few], alphas=alphas, seeds=range(2), size=size, out=out)
