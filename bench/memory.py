"""How much memory does a score take beside the bare forward pass, at batch 128?

    python bench/memory.py

Peak of the memory that torch's allocator has given out at one time, as its profiler records every allocation; the network
and the images are there before. Nothing here depends on what else the machine does.
"""

from collections.abc import Callable

import textbook
import torch
from torch.profiler import ProfilerActivity, profile

import ncdlib
from ncdlib import spaces

BATCH = 128
CELLS = {
    "six convolutions": "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_1x1~2|",
    "two convolutions": "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|skip_connect~2|",
}


def peak(procedure: Callable[[], object]) -> float:
    """The most memory in use at one time during a call, in MiB."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        procedure()
    now = most = 0
    for event in record.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most / 2**20


def main() -> None:
    """Measure all and print."""
    for cell, text in CELLS.items():
        network = spaces.get("nasbench201").build(text).train()
        images = torch.randn(BATCH, 3, 32, 32)
        with torch.no_grad():
            bare = peak(lambda: network(images))  # noqa: B023 (called at once)
        procedures = {
            "NWOT": lambda: ncdlib.score(network, images, "nwot"),  # noqa: B023
            "NWOT and SWAP": lambda: ncdlib.score(network, images, ["nwot", "swap"]),  # noqa: B023
            "NCD": lambda: ncdlib.score(network, images, ["nwot", "swap"], alpha=0.95, norm="ln"),  # noqa: B023
            "published NWOT": lambda: textbook.published_nwot(network, images),  # noqa: B023
            "published SWAP": lambda: textbook.published_swap(network, images),  # noqa: B023
        }
        print(f"\n{cell}, batch {BATCH}\n{'':24s}{'peak, MiB':>10s}{'x forward':>11s}")
        print(f"{'forward pass':24s}{bare:10.0f}{1:11.2f}")
        for name, procedure in procedures.items():
            most = peak(procedure)
            print(f"{name:24s}{most:10.0f}{most / bare:11.2f}", flush=True)


if __name__ == "__main__":
    main()
