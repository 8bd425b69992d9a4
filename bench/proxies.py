"""What does each proxy cost, beside a forward pass and beside the passes that its definition asks for?

    python bench/proxies.py [--repeats 3] [--cells 8] [--proxies nwot zen ...]

NAS-Bench-201 cells at the published size, batch 32; the proxies for vision transformers on AutoFormer-Tiny at the published
size, batch 8. One thread; the networks are built beforehand. For each network and repeat a forward pass in training mode,
the passes needed and `ncdlib.score` run one after the other, under the same load of the machine, and the ratios are medians
over networks and repeats. Passes are taken by the plain procedure: nothing is read from them. With all proxies asked for,
writes data/results/12_cost.csv.
"""

import argparse
from collections.abc import Callable
from copy import deepcopy
from functools import cached_property
import inspect
from pathlib import Path
import statistics
import sys
from typing import NamedTuple
import warnings

from clock import seconds
import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import ncdlib
from ncdlib import proxies, spaces
from ncdlib.proxies import expressivity

RESULTS = Path(__file__).resolve().parents[1] / "data/results/12_cost.csv"
BATCH = {"nasbench201": 32, "autoformer_tiny": 8}
FOR_VITS = ("dss", "auto_prox")
FORWARD, GRADIENT = 1.5, 3.5  # how many times the passes needed a proxy may take


class Case:
    """A network with images and labels."""

    def __init__(self, network: nn.Module, images: torch.Tensor) -> None:
        self.network, self.images = network.train(), images
        self.labels = torch.arange(len(images)) % 10

    @cached_property
    def linear(self) -> nn.Module:
        """The network in float64 without BatchNorm, as the definitions of SynFlow and CRoZe have it."""
        network = deepcopy(self.network).double()
        for module in list(network.modules()):
            for key, child in list(module.named_children()):
                if isinstance(child, nn.BatchNorm2d):
                    setattr(module, key, nn.Identity())
        return network


class Passes(NamedTuple):
    """The passes that a definition asks for, in words and run plainly; how many times that a proxy may take."""

    words: str
    run: Callable[[Case], object] | None
    wanted: float | None


def forward(case: Case, n: int | None = None) -> None:
    """A forward pass, of n images or all."""
    with torch.no_grad():
        case.network(case.images[:n])


def backward(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    """A forward pass, and a backward pass of the loss to all parameters."""
    loss = cross_entropy(network(images), labels)
    torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)


def backward_in_parts(case: Case, size: int) -> None:
    """The same for so many images at a time."""
    for images, labels in zip(case.images.split(size), case.labels.split(size), strict=True):
        backward(case.network, images, labels)


def backward_to_images(case: Case) -> None:
    """A forward pass, and a backward pass of the outputs to the images: no gradient of a weight."""
    images = case.images.clone().requires_grad_()
    torch.autograd.grad(case.network(images).sum(), images)


def backward_twice(case: Case) -> None:
    """A forward pass, a backward pass of the loss, and a backward pass through that."""
    weights = list(case.network.parameters())
    loss = cross_entropy(case.network(case.images), case.labels)
    gradients = torch.autograd.grad(loss, weights, create_graph=True, allow_unused=True)
    torch.autograd.grad(sum(g.square().sum() for g in gradients if g is not None), weights, allow_unused=True)


def backward_by_image(case: Case) -> None:
    """A forward pass, and a backward pass for each image through its graph."""
    weights, output = list(case.network.parameters()), case.network(case.images)
    for row in output:
        torch.autograd.grad(row.sum(), weights, retain_graph=True, allow_unused=True)


def backward_of_ones(network: nn.Module, images: torch.Tensor) -> None:
    """A forward pass of one image of ones, and a backward pass of the outputs to all parameters."""
    ones = torch.ones_like(images[:1], dtype=next(network.parameters()).dtype)
    torch.autograd.grad(network(ones).sum(), list(network.parameters()), allow_unused=True)


REPEATS = inspect.signature(expressivity.zen).parameters["repeats"].default
NOTHING = Passes("none: reads weights or structure", None, None)
ONE_FORWARD = Passes("a forward pass", forward, FORWARD)
ONE_BACKWARD = Passes("forward, backward", lambda c: backward(c.network, c.images, c.labels), GRADIENT)
TO_FEATURES = Passes("forward, backward without weights", backward_to_images, GRADIENT)
OF_ONES = Passes("forward, backward of one image", lambda c: backward_of_ones(c.network, c.images), GRADIENT)
PASSES: dict[str, Passes] = {
    **dict.fromkeys(["nwot", "swap", "regularised_swap", "hamming", "units", "linear_regions"], ONE_FORWARD),
    **dict.fromkeys(["az_expressivity", "az_progressivity"], ONE_FORWARD),
    "meco": Passes("a forward pass of one image", lambda c: forward(c, 1), FORWARD),
    "zen": Passes(f"{2 * REPEATS} forward passes", lambda c: [forward(c) for _ in range(2 * REPEATS)], FORWARD),
    **dict.fromkeys(["grad_norm", "snip", "plain"], ONE_BACKWARD),
    **dict.fromkeys(["fisher", "jacov", "epe_nas", "az_trainability"], TO_FEATURES),
    "grasp": Passes("forward, backward twice", backward_twice, GRADIENT),
    "gradsign": Passes("forward, backward of each image", lambda c: backward_in_parts(c, 1), GRADIENT),
    "zico": Passes("forward, backward of each half", lambda c: backward_in_parts(c, len(c.images) // 2), GRADIENT),
    "ntk": Passes("forward, as many backward as images", backward_by_image, GRADIENT),
    "synflow": Passes("in float64, one image", lambda c: backward_of_ones(c.linear, c.images), GRADIENT),
    "croze": Passes(
        "three times forward, backward in float64",
        lambda c: [backward(c.linear, c.images.double(), c.labels) for _ in range(3)],
        GRADIENT,
    ),
    **dict.fromkeys(FOR_VITS, OF_ONES),
    **dict.fromkeys(["l2_norm", "params", "flops"], NOTHING),
}


def built(name: str, count: int) -> list[Case]:
    """Networks of a space at the published size, with images."""
    space, rng = spaces.get(name), np.random.default_rng(0)
    pixels = {"nasbench201": 32, "autoformer_tiny": 224}[name]
    torch.manual_seed(0)
    networks = [space.build(space.sample(rng)) for _ in range(count)]
    return [Case(network, torch.randn(BATCH[name], 3, pixels, pixels)) for network in networks]


def main() -> None:
    """Measure and print."""
    known = [name for name in proxies.names() if proxies.get(name).reads != "ranks"]
    if missing := [name for name in known if name not in PASSES]:
        raise SystemExit(f"say in PASSES what passes these need: {', '.join(missing)}")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--proxies", nargs="+", default=known, choices=known, metavar="PROXY")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*the score is nan")  # a cell may pass nothing on
    torch.set_num_threads(1)
    asked = {space: [p for p in arguments.proxies if (p in FOR_VITS) == (space != "nasbench201")] for space in BATCH}
    cases = {space: built(space, arguments.cells) if names else [] for space, names in asked.items()}
    for case in [case for some in cases.values() for case in some]:
        forward(case)  # allocators settle, float64 copies are made
        case.linear  # noqa: B018

    print(f"{arguments.cells} networks, {arguments.repeats} repeats, one thread; medians of the ratios\n")
    print(f"{'':18s}{'ms a network':>14s}{'x forward':>11s}{'x passes':>10s}{'wanted':>16s}  passes needed")
    rows: list[dict[str, object]] = []
    for space, names in asked.items():
        for name in names:
            passes, times, to_forward, to_passes = PASSES[name], [], [], []
            for _ in range(arguments.repeats):
                for case in cases[space]:
                    plain = seconds(forward, case)
                    needed = seconds(passes.run, case) if passes.run else float("nan")
                    times.append(seconds(lambda c, p: ncdlib.score(c.network, c.images, p, labels=c.labels), case, name))
                    to_forward.append(times[-1] / plain)
                    to_passes.append(times[-1] / needed)
            ratio = statistics.median(to_passes)
            row = {"proxy": name, "ms": statistics.median(times) * 1e3, "forwards": statistics.median(to_forward)}
            rows.append(row | {"definition": ratio, "wanted": passes.wanted, "passes": passes.words})
            columns = f"{statistics.median(times) * 1e3:14.1f}{statistics.median(to_forward):11.2f}"
            if passes.wanted is None:
                print(f"{name:18s}{columns}{'':26s}  {passes.words}", flush=True)
            else:
                verdict = "" if ratio <= passes.wanted else "  MISSED"
                columns += f"{ratio:10.2f}{f'at most {passes.wanted}':>16s}"
                print(f"{name:18s}{columns}  {passes.words}{verdict}", flush=True)
            print(f"{name} done", file=sys.stderr)
    if len(rows) == len(known):
        pd.DataFrame(rows).to_csv(RESULTS, index=False, float_format="%.4g", lineterminator="\n")


if __name__ == "__main__":
    main()
