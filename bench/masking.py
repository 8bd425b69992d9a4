"""Does masking save time? Wall-clock of masked convolutions and of whole networks, against the same without a mask.

    python bench/masking.py [--repeats 7]

`dense` is SAM as the library runs it: draw the mask, multiply the input by it, convolve. `scatter` adds, for each input
that is not zero, its products to the outputs that read it: as many multiplications as Eq. 9 has. `kept` reads only some
channels, round((1 - alpha) C) and at least one, drawn anew for the batch or for each image. `draw` is drawing the mask
alone. One thread, batch 32, channels-last, the convolutions of a NAS-Bench-201 network; in every repeat each procedure
runs once, so that a drift of the machine affects all. Writes data/results/03_cost.csv: seconds, median and range over
repeats, and the same as shares of the median without a mask (of unmasked, low, high).
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
import statistics
import time

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

import ncdlib
from ncdlib import masking, spaces, theory

ALPHAS = (0.5, 0.8, 0.9, 0.95, 0.99)
LAYERS = [(kernel, channels, size) for kernel in (3, 1) for channels, size in ((16, 32), (32, 16), (64, 8))]
BATCH = 32


def kept(rows: int, channels: int, alpha: float) -> Tensor:
    """For each row, the channels that are not masked: a fixed number of them, at least one."""
    return torch.rand(rows, channels).argsort(1)[:, : max(1, round((1 - alpha) * channels))]


def scattered(x: Tensor, weight: Tensor) -> Tensor:
    """conv2d at stride 1 and same size, one addition for each input that is not zero and each offset in the kernel."""
    (n, c, h, w), (out, _, kernel, _) = x.shape, weight.shape
    rows, channels = x.permute(0, 2, 3, 1).reshape(-1, c).nonzero(as_tuple=True)
    wide, high, p = w + kernel - 1, h + kernel - 1, kernel // 2
    image, place = rows // (h * w), rows % (h * w)
    corner = (image * high + place // w) * wide + place % w
    values = x.permute(0, 2, 3, 1).reshape(-1, c)[rows, channels][:, None]
    padded = torch.zeros(n * high * wide, out)
    for d in range(kernel):
        for e in range(kernel):
            offset = (kernel - 1 - d) * wide + (kernel - 1 - e)
            padded.index_add_(0, corner + offset, values * weight[:, :, d, e].T[channels])
    return padded.view(n, high, wide, out)[:, p : p + h, p : p + w].permute(0, 3, 1, 2)


@contextmanager
def keeping(network: nn.Module, alpha: float, per_image: bool) -> Iterator[None]:
    """While open, every convolution of the network reads only some channels of its input."""

    def forward(layer: nn.Conv2d) -> Callable[[Tensor], Tensor]:
        def run(x: Tensor) -> Tensor:
            chosen = kept(len(x) if per_image else 1, x.shape[1], alpha)
            return theory.kept_channels_conv2d(x, layer.weight, chosen, layer.padding[0], layer.stride[0])

        return run

    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    for layer in layers:
        layer.forward = forward(layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def of_layer(kernel: int, channels: int, size: int) -> dict[tuple[str, float], Callable[[], object]]:
    """What to time on one convolution; alpha = 0 is without a mask."""
    x = torch.relu(torch.randn(BATCH, channels, size, size)).contiguous(memory_format=torch.channels_last)
    weight, padding = torch.randn(channels, channels, kernel, kernel), kernel // 2
    generator = torch.Generator()
    torch.testing.assert_close(scattered(x, weight), conv2d(x, weight, None, 1, padding), rtol=1e-4, atol=1e-3)

    def dense(alpha: float, kind: str) -> Callable[[], Tensor]:
        return lambda: conv2d(masking.masked(x, alpha, kind, generator), weight, None, 1, padding)

    def fewer(alpha: float, rows: int) -> Callable[[], Tensor]:
        return lambda: theory.kept_channels_conv2d(x, weight, kept(rows, channels, alpha), padding)

    shape = (BATCH, size, size, channels)
    timed: dict[tuple[str, float], Callable[[], object]] = {("unmasked", 0.0): lambda: conv2d(x, weight, None, 1, padding)}
    for alpha in ALPHAS:
        timed |= {(f"dense, {kind}", alpha): dense(alpha, kind) for kind in masking.KINDS}
        timed["draw, sample", alpha] = lambda alpha=alpha: masking.bernoulli(shape, 1 - alpha, generator, x.dtype)
        timed["scatter, sample", alpha] = lambda alpha=alpha: scattered(
            masking.masked(x, alpha, "sample", generator), weight
        )
        timed["kept, batch", alpha], timed["kept, image", alpha] = fewer(alpha, 1), fewer(alpha, BATCH)
    return timed


def of_network(op: str) -> dict[tuple[str, float], Callable[[], object]]:
    """What to time on the published network whose cell has one operation on all six edges: NWOT and SWAP of a batch."""
    space = spaces.get("nasbench201")
    network = space.build(f"|{op}~0|+|{op}~0|{op}~1|+|{op}~0|{op}~1|{op}~2|")
    images = torch.randn(BATCH, 3, 32, 32).contiguous(memory_format=torch.channels_last)

    def scored(alpha: float = 0.0, kind: str = "sample") -> Callable[[], object]:
        return lambda: ncdlib.score(network, images, ["nwot", "swap"], alpha=alpha, mask=kind)

    def fewer(alpha: float, per_image: bool) -> Callable[[], object]:
        def run() -> object:
            with keeping(network, alpha, per_image):
                return ncdlib.score(network, images, ["nwot", "swap"])

        return run

    timed: dict[tuple[str, float], Callable[[], object]] = {("unmasked", 0.0): scored()}
    for alpha in ALPHAS:
        timed |= {(f"dense, {kind}", alpha): scored(alpha, kind) for kind in masking.KINDS}
        timed["kept, batch", alpha], timed["kept, image", alpha] = fewer(alpha, False), fewer(alpha, True)
    return timed


def measure(timed: dict[tuple[str, float], Callable[[], object]], repeats: int, what: str) -> list[dict[str, object]]:
    """Median, fastest and slowest of each procedure, after one call that does not count."""
    times: dict[tuple[str, float], list[float]] = {name: [] for name in timed}
    for repeat in range(repeats + 1):
        for name, procedure in timed.items():
            began = time.perf_counter()
            procedure()
            if repeat:
                times[name].append(time.perf_counter() - began)
    return [
        {
            "what": what,
            "form": form,
            "alpha": alpha,
            "seconds": statistics.median(each),
            "fastest": min(each),
            "slowest": max(each),
            "repeats": repeats,
        }
        for (form, alpha), each in times.items()
    ]


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = []
    with torch.no_grad():
        for kernel, channels, size in LAYERS:
            rows += measure(of_layer(kernel, channels, size), repeats, f"{kernel}x{kernel}, {channels} channels")
        for op in ("nor_conv_3x3", "nor_conv_1x1"):
            rows += measure(of_network(op), repeats, f"network of {op[-3:]}")
    table = pd.DataFrame(rows)
    plain = table[table.alpha == 0].set_index("what").seconds
    for column, of in {"of unmasked": "seconds", "low": "fastest", "high": "slowest"}.items():
        table[column] = table[of] / table.what.map(plain)
    table.round(7).to_csv(Path(__file__).resolve().parents[1] / "data" / "results" / "03_cost.csv", index=False)
    print(table.pivot(index=["what", "form"], columns="alpha", values="of unmasked").round(2).to_string())


if __name__ == "__main__":
    main()
