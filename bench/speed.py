"""How long do the proxies take, in one run, beside a plain forward pass and the published procedures?

    python bench/speed.py [--repeats 5] [--cells 30]

The same NAS-Bench-201 cells at the published size, batch 32. In every repeat each procedure scores all cells, one procedure
after the other, so that a drift of the machine meets all of them. Times are medians over repeats, per network; building the
network is included everywhere but in the plain forward pass. The published procedures and the plain pass use two threads, as
torch would by itself on two cores; ours uses worker processes of one thread each.
"""

import argparse
from collections.abc import Callable
import statistics
import sys
import time

import numpy as np
import textbook
import torch
from torch import nn

import ncdlib
from ncdlib import spaces

SPACE = spaces.get("nasbench201")
BATCH = 32


def forward(network: nn.Module, images: torch.Tensor) -> None:
    """A plain forward pass in training mode."""
    with torch.no_grad():
        network(images)


def seconds(procedure: Callable[..., object], *arguments: object) -> float:
    """Wall time of a call."""
    began = time.perf_counter()
    procedure(*arguments)
    return time.perf_counter() - began


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

    def ours(proxies: list[str], jobs: int, alpha: float = 0.0, norm: str = "bn") -> Callable[[], object]:
        return lambda: ncdlib.score_space(SPACE, cells, proxies, (alpha,), (norm,), batch=BATCH, jobs=jobs, progress=False)

    both = ["nwot", "swap"]
    procedures = {
        "plain forward pass": lambda: [forward(network, images) for network in networks],
        "published NWOT": lambda: [textbook.published_nwot(SPACE.build(cell), images) for cell in cells],
        "published SWAP": lambda: [textbook.published_swap(SPACE.build(cell), images) for cell in cells],
        "NWOT, one worker": ours(["nwot"], 1),
        "NWOT, two workers": ours(["nwot"], 2),
        "SWAP, two workers": ours(["swap"], 2),
        "NWOT and SWAP, one worker": ours(both, 1),
        "NWOT and SWAP, two workers": ours(both, 2),
        "NCD, NWOT and SWAP, one worker": ours(both, 1, 0.95, "ln"),
        "NCD, NWOT and SWAP, two workers": ours(both, 2, 0.95, "ln"),
    }
    torch.set_num_threads(2)
    for name, procedure in procedures.items():  # workers start, allocators settle
        if "published" not in name:
            procedure()
    times: dict[str, list[float]] = {name: [] for name in procedures}
    through_hooks = []
    for repeat in range(arguments.repeats):
        for name, procedure in procedures.items():
            times[name].append(seconds(procedure) / len(cells) * 1e3)
        for network in networks:  # in turn, so that both meet the same machine
            bare = seconds(lambda n: forward(n, images), network)
            through_hooks.append(seconds(lambda n: ncdlib.score(n, images, "nwot"), network) / bare)
        print(f"repeat {repeat + 1} of {arguments.repeats} done", file=sys.stderr)

    median = {name: statistics.median(values) for name, values in times.items()}
    plain = median["plain forward pass"]
    print(f"{len(cells)} cells, batch {BATCH}, medians over {arguments.repeats} repeats\n")
    print(f"{'':34s}{'ms a network':>14s}{'x plain':>10s}{'min':>8s}{'max':>8s}")
    for name, value in median.items():
        print(f"{name:34s}{value:14.1f}{value / plain:10.2f}{min(times[name]):8.1f}{max(times[name]):8.1f}")
    ratios = {
        "NWOT through hooks on any module / its own forward pass": (statistics.median(through_hooks), "at most 1.15"),
        "published NWOT / NWOT, two workers": (median["published NWOT"] / median["NWOT, two workers"], "at least 8"),
        "published SWAP / SWAP, two workers": (median["published SWAP"] / median["SWAP, two workers"], "at least 15"),
        "both, two workers / plain": (median["NWOT and SWAP, two workers"] / plain, "at most 0.7"),
        "NCD both, two workers / plain": (median["NCD, NWOT and SWAP, two workers"] / plain, "at most 1.0"),
        "both: two workers over one": (
            median["NWOT and SWAP, one worker"] / median["NWOT and SWAP, two workers"], "at least 1.7",
        ),
        "NCD both: two workers over one": (
            median["NCD, NWOT and SWAP, one worker"] / median["NCD, NWOT and SWAP, two workers"], "at least 1.7",
        ),
    }  # fmt: skip
    print(f"\n{'ratio':58s}{'':8s}  wanted")
    for name, (value, wanted) in ratios.items():
        print(f"{name:58s}{value:8.2f}  {wanted}")


if __name__ == "__main__":
    main()
