"""An experiment: is it faster to score several unlike NAS-Bench-201 cells as one grouped network?

    python bench/grouped.py [--cells 8] [--repeats 5] [--device cpu]

Every operation of a cell is written as a 3x3 kernel: a 1x1 convolution and a skip have it in the centre, a pool is a box,
and `none` is zero. Then one grouped convolution per edge runs the edge of all cells, and masks say which of them have an
activation and a BatchNorm there. Prints how far NWOT is from that of the single networks, and the time of both procedures:
building and scoring, batch 32, one thread on a CPU.
"""

import argparse
from collections.abc import Sequence
import statistics

from clock import seconds
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, batch_norm, conv2d, pad

import ncdlib
from ncdlib import activations, spaces
from ncdlib.proxies import activation
from ncdlib.spaces.nasbench201 import EDGES, Cell201, EdgeCell

SPACE = spaces.get("nasbench201")
BATCH = 32


def kernel_of(cell: EdgeCell, edge: str, op: str, channels: int) -> Tensor:
    """The operation of an edge as a 3x3 kernel, (channels, channels, 3, 3)."""
    if op.startswith("nor_conv"):
        weight = cell.edges[edge].conv.weight
        return weight if op.endswith("3x3") else pad(weight, (1, 1, 1, 1))
    box = {"skip_connect": pad(torch.ones(1, 1), (1, 1, 1, 1)), "avg_pool_3x3": torch.full((3, 3), 1 / 9)}
    return torch.eye(channels)[:, :, None, None] * box.get(op, torch.zeros(3, 3))


class Together:
    """The networks of several cells, run as one."""

    def __init__(self, archs: Sequence[Cell201], networks: Sequence[nn.Sequential], device: str) -> None:
        self.archs, self.networks, self.k = archs, networks, len(archs)
        self.device, self.codes = device, [[] for _ in archs]  # for each cell (codes, activations that read them)

    def weights(self, layer: int, path: str) -> Tensor:
        """The weights of one convolution in every network, one after the other."""
        return torch.cat([network[layer].get_submodule(path).weight for network in self.networks]).to(self.device)

    def convolved(self, x: Tensor, weight: Tensor, stride: int = 1, groups: int | None = None) -> Tensor:
        """A grouped convolution and BatchNorm with the statistics of the batch."""
        y = conv2d(x, weight, None, stride, weight.shape[-1] // 2, groups=groups or self.k)
        return batch_norm(y, None, None, training=True)

    def read(self, x: Tensor, times: Sequence[int]) -> Tensor:
        """Record the codes of each cell's part of x, and return relu(x)."""
        for found, part, number in zip(self.codes, x.chunk(self.k, dim=1), times, strict=True):
            if number:
                found.append((activations.codes(part.contiguous()), number))
        return x.relu()

    def cell(self, x: Tensor, layer: int) -> Tensor:
        """The cells of one layer: as EdgeCell, with one grouped convolution for each edge."""
        channels = x.shape[1] // self.k
        inside = avg_pool2d(torch.ones_like(x[:1, :1]), 3, 1, 1)  # the share of a window inside the image
        nodes = [x, None, None, None]
        for i in range(3):
            count = [
                sum(op.startswith("nor") for (a, _), op in zip(EDGES, c.ops, strict=True) if a == i) for c in self.archs
            ]
            fired = self.read(nodes[i], count)
            for (a, j), ops in zip(EDGES, zip(*(cell.ops for cell in self.archs), strict=True), strict=True):
                if a != i:
                    continue
                kernels = [kernel_of(n[layer], f"{a}>{j}", op, channels) for n, op in zip(self.networks, ops, strict=True)]
                convolves = self.mask(ops, ("nor_conv_1x1", "nor_conv_3x3"), channels)
                y = conv2d(
                    torch.where(convolves, fired, nodes[i]), torch.cat(kernels).to(self.device), padding=1, groups=self.k
                )
                y = torch.where(convolves, batch_norm(y, None, None, training=True), y)
                y = torch.where(self.mask(ops, ("avg_pool_3x3",), channels), y / inside, y)
                nodes[j] = y if nodes[j] is None else nodes[j] + y
        return nodes[3]

    def mask(self, ops: Sequence[str], among: Sequence[str], channels: int) -> Tensor:
        """Which channels belong to a cell with one of these operations."""
        chosen = torch.tensor([op in among for op in ops], device=self.device)
        return chosen.repeat_interleave(channels)[None, :, None, None]

    def block(self, x: Tensor, layer: int) -> Tensor:
        """The residual blocks of one layer."""
        every = [1] * self.k
        y = self.convolved(self.read(x, every), self.weights(layer, "conv_a.conv"), 2)
        y = self.convolved(self.read(y, every), self.weights(layer, "conv_b.conv"))
        return conv2d(avg_pool2d(x, 2), self.weights(layer, "downsample.1"), groups=self.k) + y

    @torch.no_grad()
    def nwot(self, images: Tensor) -> list[float]:
        """NWOT of every cell."""
        x = self.convolved(images, self.weights(0, "0"), groups=1)
        for layer, module in enumerate(self.networks[0][1:-5], start=1):
            x = self.cell(x, layer) if isinstance(module, EdgeCell) else self.block(x, layer)
        self.read(batch_norm(x, None, None, training=True), [1] * self.k)
        kernels = [activation.agreement([(activation.co_firing(c), times) for c, times in found]) for found in self.codes]
        return [activation.log_determinant(kernel) for kernel in kernels]


def built(archs: Sequence[Cell201]) -> list[nn.Module]:
    """The networks, each with the weights of seed 0."""
    networks = []
    for arch in archs:
        torch.manual_seed(0)
        networks.append(SPACE.build(arch).train())
    return networks


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rng, images = np.random.default_rng(0), torch.randn(BATCH, 3, 32, 32, device=arguments.device)
    archs = [SPACE.sample(rng) for _ in range(arguments.cells)]

    def single() -> list[float]:
        return [ncdlib.score(network.to(arguments.device), images, "nwot") for network in built(archs)]

    def grouped() -> list[float]:
        return Together(archs, built(archs), arguments.device).nwot(images)

    apart = np.abs(np.array(single()) - np.array(grouped()))
    times = [(seconds(single), seconds(grouped)) for _ in range(arguments.repeats)]
    one, many = (statistics.median(each) / len(archs) * 1e3 for each in zip(*times, strict=True))
    print(f"{len(archs)} cells, batch {BATCH}, {arguments.device}: NWOT differs by at most {apart.max():.3g}")
    print(f"ms a cell: one by one {one:.1f}, grouped {many:.1f}, ratio {many / one:.2f}")


if __name__ == "__main__":
    main()
