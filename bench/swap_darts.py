"""SWAP on the 1,000 trained DARTS cells: at its authors' setting, and with one choice of it changed at a time.

    python bench/swap_darts.py

The authors print rho = 0.93 with CIFAR-10 accuracy. Their code scores one cell in place of a network: the 16 images go
straight into both inputs of a reduction cell of 6 channels, all weights are drawn from N(0, 1), and the score is the mean
over 32 draws of the weights. Here every draw has its own images too. `units` counts the activations of the same cell.
Writes data/results/12_swap_darts.csv. Takes half an hour of processor time.
"""

from collections.abc import Iterator
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

import ncdlib
from ncdlib import benchmarks, images, spaces
from ncdlib.scoring import one_thread
from ncdlib.spaces.blocks import initialise
from ncdlib.spaces.darts import Genotype
from ncdlib.spaces.darts_network import Cell
from ncdlib.statistics import spearman

RESULTS = Path(__file__).resolve().parents[1] / "data/results/12_swap_darts.csv"
SPACE = spaces.get("darts")
AUTHORS = {"kind": "reduce", "init": "normal", "batch": 16, "draws": 32}
SETTINGS = {
    "as its authors": AUTHORS,
    "one draw": AUTHORS | {"draws": 1},
    "32 images": AUTHORS | {"batch": 32, "draws": 8},
    "PyTorch's weights": AUTHORS | {"init": "default", "draws": 8},
    "normal cell": AUTHORS | {"kind": "normal", "draws": 8},
}


class OneCell(nn.Module):
    """A cell of 6 channels that reads the images twice."""

    def __init__(self, arch: Genotype, kind: str) -> None:
        super().__init__()
        self.cell = Cell(list(arch.edges(kind)), 3, 3, 6, kind == "reduce", False, "bn", "relu")

    def forward(self, x: Tensor) -> Tensor:
        return self.cell(x, x, 0.0)


def scored(arch: str, kind: str, init: str, batch: int, draws: int) -> tuple[float, float]:
    """The mean of SWAP over the draws, and the number of activations."""
    found = []
    with one_thread():
        for seed in range(draws):
            torch.manual_seed(seed)
            cell = OneCell(SPACE.parse(arch), kind)
            initialise(cell, init)
            found.append(ncdlib.score(cell, images.batch("cifar10", batch, seed), ["swap", "units"], seed=seed))
    return float(np.mean([each["swap"] for each in found])), found[0]["units"]


def rows() -> Iterator[dict]:
    """One row per setting and score."""
    truth = benchmarks.load("darts").head(1000)
    for name, setting in tqdm(SETTINGS.items()):
        tasks = (joblib.delayed(scored)(arch, **setting) for arch in truth.arch)
        table = np.array(joblib.Parallel(n_jobs=-1)(tasks))
        for score, values in zip(("swap", "units"), table.T, strict=True):
            yield {"setting": name, **setting, "score": score, **vars(spearman(values, truth.cifar10.to_numpy()))}


if __name__ == "__main__":
    result = pd.DataFrame(rows())
    print(result.round(3).to_string(index=False))
    result.to_csv(RESULTS, index=False, float_format="%.6g")
