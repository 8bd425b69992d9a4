"""The score tables of notebook 09 at the paper profile; the most important first. argv[1]: number of archs for a check, in a scratch folder argv[2]."""
import sys
import pandas as pd
from ncdlib import benchmarks
from ncdlib.scoring import score_space
few = int(sys.argv[1]) if len(sys.argv) > 1 else None
folder = sys.argv[2] if few else "data/scores"
subnets = pd.Series(sorted(benchmarks.load("autoformer_tiny").arch))
def some(n): return list(subnets.sample(n, random_state=0))[:few]
SMALL = {"size": {"image": 64}, "resolution": 64}
seeds = tuple(range(1 if few else 5))
SPACE = "autoformer_tiny"
for proxies, alphas in ((["nwot", "swap", "units"], (0.0,)), (["nwot", "swap"], (0.9,))):
    score_space(SPACE, some(1001), proxies, alphas=alphas, seeds=(0,), out=f"{folder}/09_codes.parquet", **SMALL)
score_space(SPACE, some(1001), ["params", "flops"], resolution=224, out=f"{folder}/09_counts.parquet")
score_space(SPACE, some(100), ["snip", "meco", "dss", "auto_prox"], seeds=seeds, batch=16, out=f"{folder}/09_others.parquet", **SMALL)
score_space(SPACE, some(200), ["nwot", "swap"], alphas=(0.0, 0.9), seeds=seeds, out=f"{folder}/09_codes.parquet", **SMALL)
score_space(SPACE, some(60), ["nwot", "swap"], alphas=(0.0, 0.9), out=f"{folder}/09_at_224.parquet", resolution=224)
score_space(SPACE, some(60), ["grasp", "croze"], seeds=seeds, batch=8, out=f"{folder}/09_others.parquet", **SMALL)
for n in (4, 8, 12, 16, 20, 24, 32):
    score_space(SPACE, some(12), ["swap"], batch=n, out=f"{folder}/09_saturation.parquet", **SMALL)
score_space(SPACE, some(200), ["nwot", "swap"], alphas=(0.3, 0.5, 0.7, 0.95), seeds=seeds, out=f"{folder}/09_codes.parquet", **SMALL)
