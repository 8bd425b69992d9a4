"""How long do the proxies take, in one run, beside a plain forward pass and the published procedures?

    python bench/speed.py [--repeats 5] [--cells 30]

The same NAS-Bench-201 cells at the published size, batch 32. In every repeat each procedure scores all cells, one procedure
after the other, so that a drift of the machine affects all of them. Times are medians over repeats, per network; they
include building the network, except the plain forward pass. The published procedures and the plain pass use two threads, as
torch would by itself on two cores; ours uses worker processes of one thread each.
"""

import argparse
from collections.abc import Callable
import statistics
import sys

from clock import seconds
import numpy as np
import pandas as pd
import textbook
import torch
from torch import nn

import ncdlib
from ncdlib import spaces

SPACE = spaces.get("nasbench201")
BATCH = 32
BOTH = ["nwot", "swap"]
# ratio: (procedure, procedure that it is divided by, what is wanted)
RATIOS = {
    "published NWOT / NWOT, two workers": ("published NWOT", "NWOT, two workers", "at least 8"),
    "published SWAP / SWAP, two workers": ("published SWAP", "SWAP, two workers", "at least 15"),
    "both, two workers / plain": ("NWOT and SWAP, two workers", "plain forward pass", "at most 0.7"),
    "NCD both, two workers / plain": ("NCD, NWOT and SWAP, two workers", "plain forward pass", "at most 1.0"),
    "SAM both / both, one worker": ("SAM, NWOT and SWAP, one worker", "NWOT and SWAP, one worker", "at most 1.15"),
    "both: two workers over one": ("NWOT and SWAP, one worker", "NWOT and SWAP, two workers", "at least 1.7"),
    "NCD both: two workers over one": (
        "NCD, NWOT and SWAP, one worker", "NCD, NWOT and SWAP, two workers", "at least 1.7",
    ),
}  # fmt: skip


def forward(network: nn.Module, images: torch.Tensor) -> None:
    """A plain forward pass in training mode."""
    with torch.no_grad():
        network(images)


def procedures(cells: list, networks: list[nn.Module], images: torch.Tensor) -> dict[str, Callable[[], object]]:
    """What is timed: each scores all cells once."""

    def ours(proxies: list[str], jobs: int, alpha: float = 0.0, norm: str = "bn") -> Callable[[], object]:
        return lambda: ncdlib.score_space(SPACE, cells, proxies, (alpha,), (norm,), batch=BATCH, jobs=jobs, progress=False)

    return {
        "plain forward pass": lambda: [forward(network, images) for network in networks],
        "published NWOT": lambda: [textbook.published_nwot(SPACE.build(cell), images) for cell in cells],
        "published SWAP": lambda: [textbook.published_swap(SPACE.build(cell), images) for cell in cells],
        "NWOT, one worker": ours(["nwot"], 1),
        "NWOT, two workers": ours(["nwot"], 2),
        "SWAP, two workers": ours(["swap"], 2),
        "NWOT and SWAP, one worker": ours(BOTH, 1),
        "NWOT and SWAP, two workers": ours(BOTH, 2),
        "SAM, NWOT and SWAP, one worker": ours(BOTH, 1, 0.95),
        "NCD, NWOT and SWAP, one worker": ours(BOTH, 1, 0.95, "ln"),
        "NCD, NWOT and SWAP, two workers": ours(BOTH, 2, 0.95, "ln"),
    }


def through_hooks(networks: list[nn.Module], images: torch.Tensor) -> list[tuple[float, float]]:
    """Time of NWOT, and of both, through hooks over that of a forward pass, for each network; one right after the other."""
    ratios = []
    for network in networks:
        plain = seconds(forward, network, images)
        one, two = (seconds(ncdlib.score, network, images, proxies) for proxies in (["nwot"], BOTH))
        ratios.append((one / plain, two / plain))
    return ratios


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cells", type=int, default=30)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    cells = [SPACE.sample(rng) for _ in range(arguments.cells)]
    networks = [SPACE.build(cell).train() for cell in cells]
    images = torch.randn(BATCH, 3, 32, 32)
    timed = procedures(cells, networks, images)
    torch.set_num_threads(2)
    for name, procedure in timed.items():  # workers start, allocators settle
        if "published" not in name:
            procedure()
    runs, hooks = [], []
    for repeat in range(arguments.repeats):
        runs.append({name: seconds(procedure) / len(cells) * 1e3 for name, procedure in timed.items()})
        hooks += through_hooks(networks, images)
        print(f"repeat {repeat + 1} of {arguments.repeats} done", file=sys.stderr)

    times = pd.DataFrame(runs).agg(["median", "min", "max"]).T
    times.insert(1, "x plain", times["median"] / times.loc["plain forward pass", "median"])
    on = f"{torch.cpu.get_capabilities()['cpu_name']}, {len(cells)} cells, batch {BATCH}"
    print(f"{on}: ms per network over {arguments.repeats} repeats\n\n{times.round(2)}\n")
    found = {name: (times.loc[over, "median"] / times.loc[under, "median"], w) for name, (over, under, w) in RATIOS.items()}
    for name, ratios, wanted in zip(("NWOT", "both"), zip(*hooks, strict=True), ("1.08", "1.10"), strict=True):
        found[f"{name} through hooks on any module / its own forward pass"] = statistics.median(ratios), f"at most {wanted}"
    print(pd.DataFrame(found, ["ratio", "wanted"]).T.to_string(float_format="{:.2f}".format))


if __name__ == "__main__":
    main()
