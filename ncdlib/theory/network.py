"""The Hamming distance that `covariance` predicts at every activation of a network of NAS-Bench-201 cells.

The cells are those of six convolutions, which read the same number of activations and differ in their kernels alone.
"""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from ncdlib import masking
from ncdlib.theory import covariance as cov
from ncdlib.theory.covariance import Covariance, Places

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))


class Layer(NamedTuple):
    """A tensor that activation modules read."""

    name: str
    units: int
    times: int  # activation modules that read it
    places: Places  # predicted mean Hamming distance at each position, as a share of the channels

    @property
    def distance(self) -> float:
        """Predicted mean Hamming distance, as a share of its units."""
        return float(self.places.mean())


class Edge(NamedTuple):
    """A convolution's output before its normalisation."""

    output: Covariance
    dry: Places  # probability that no input is left
    norm: str


class Setting(NamedTuple):
    """What does not change from layer to layer."""

    norm: str
    alpha: float
    n: int
    border: str


def predicted_distances(
    kernels: Sequence[int],
    norm: str = "bn",
    alpha: float = 0.0,
    *,
    side: int = 32,
    n: int = 32,
    channels: int = 16,
    cells_per_stage: int = 5,
    border: str = "zeros",
) -> list[Layer]:
    """The layers of the network in the order in which they run, without any fitted number.

    - `kernels`: of the convolutions on the edges 0>1, 0>2, 1>2, 0>3, 1>3, 2>3. `side`: of the images, which are noise.
    - `n`: images in the batch, whose mean BatchNorm subtracts. `border`: "zeros" or "circular", the padding.
    - The widths enter through the groups of a normalisation and, under SAM, through the inputs that a mask leaves.

    It assumes many inputs (the network has 16 in a 1x1 convolution) and Gaussian units. Under SAM the latter fails as most
    outputs lose all inputs: then they are counted as dry, but the next layer still takes its inputs as Gaussian.
    """
    if len(kernels) != len(EDGES) or any(k < 1 or k % 2 == 0 for k in kernels):
        raise ValueError(f"kernels must be six odd numbers, one for each edge of the cell: got {kernels!r}")
    masking.check(alpha, "sample")
    if side % 4:
        raise ValueError(f"the network halves its images twice: their side must be a multiple of 4, got {side}")
    setting, layers = Setting(norm, alpha, n, border), []
    edges, c = [_edge(cov.white_noise(side), 3, 3, setting, firing=1)], channels  # the stem
    for stage in range(3):
        if stage:
            edges, c = _residual(edges, 2 * c, setting, layers, f"block {stage}"), 2 * c
        for cell in range(cells_per_stage):
            edges = _cell(edges, kernels, c, setting, layers, f"stage {stage + 1}, cell {cell + 1}")
    _see(layers, "head", edges, c, 1, setting)
    return layers


def mean_distance(layers: Sequence[Layer]) -> float:
    """Mean over all activations, a tensor counted once for each module that reads it: the proxy `hamming`."""
    return sum(s.units * s.times * s.distance for s in layers) / sum(s.units * s.times for s in layers)


def _cell(edges: list[Edge], kernels: Sequence[int], c: int, setting: Setting, layers: list[Layer], name: str) -> list[Edge]:
    """A cell's output, as the convolutions that are added."""
    nodes = [edges, [], [], []]
    for node in range(3):
        x = cov.relu(_see(layers, f"{name}, node {node}", nodes[node], c, 3 - node, setting))
        for (i, j), kernel in zip(EDGES, kernels, strict=True):
            if i == node:
                nodes[j].append(_edge(x, kernel, c, setting))
    return nodes[3]


def _residual(edges: list[Edge], c: int, setting: Setting, layers: list[Layer], name: str) -> list[Edge]:
    """The block between stages: two convolutions of stride 2 and 1, and a pool with a bare 1x1 convolution beside them."""
    x = _see(layers, f"{name}, first", edges, c // 2, 1, setting)
    inner = [_edge(cov.relu(x), 3, c // 2, setting, stride=2)]
    second = _edge(cov.relu(_see(layers, f"{name}, second", inner, c, 1, setting)), 3, c, setting)
    bare = setting._replace(norm="none")
    return [second, _edge(cov.pooled(x), 1, c // 2, bare, firing=1)]  # the pool reads no ReLU: nothing is zero


def _edge(x: Covariance, kernel: int, c_in: int, setting: Setting, stride: int = 1, firing: float = 0.5) -> Edge:
    y = cov.convolved(cov.masked(x, setting.alpha), kernel, stride, setting.border)
    inside = cov.padded(torch.ones(1, 1, *x.variance.shape, dtype=torch.float64), kernel, setting.border)
    read = avg_pool2d(inside, kernel, stride, divisor_override=1)[0, 0]  # places inside the image
    return Edge(y, cov.dry_share(setting.alpha, c_in * read, firing), setting.norm)


def _see(layers: list[Layer], name: str, edges: list[Edge], c: int, times: int, setting: Setting) -> Covariance:
    """The sum of the normalised edges; notes its distance."""
    x = cov.added(*(cov.normalised(edge.output, edge.norm, c, setting.n) for edge in edges))
    layers.append(Layer(name, c * x.variance.numel(), times, node_distances(edges, c, setting.n)))
    return x


def node_distances(edges: Sequence[Edge], channels: int, n: int) -> Places:
    """Hamming distance, at each position, of the codes of a sum of normalised convolutions, some of whose outputs are dry.

    An output that is dry is zero before the normalisation. So each edge is dry or not for each of two images: the distance
    is arccos(rho) / pi given which, and the mean over these cases. A sum that is zero does not fire.
    """
    parts, distance = [_cases(edge, channels, n) for edge in edges], torch.zeros_like(edges[0].dry)
    for left, right in product(product((True, False), repeat=len(edges)), repeat=2):
        chance, own, other, cross = 1.0, 0.0, 0.0, 0.0
        for edge, (variance, between), i, j in zip(edges, parts, left, right, strict=True):
            chance = chance * (edge.dry if i else 1 - edge.dry) * (edge.dry if j else 1 - edge.dry)
            own, other, cross = own + variance[i], other + variance[j], cross + between[i + j]
        if not (chance > 0).any():
            continue
        silent = (own == 0).double() + (other == 0).double()  # of a sum that is zero no unit fires, else half of them
        cosine = cross / (own * other).clamp(min=torch.finfo(torch.float64).tiny).sqrt()
        differs = torch.where(silent == 0, cov.hamming_of_cosine(cosine), (silent == 1) / 2)
        distance = distance + chance * differs
    return distance


def _cases(edge: Edge, channels: int, n: int) -> tuple[dict[bool, Tensor], list[Tensor]]:
    """Variance of an edge's output given that it is dry or not, and covariance of two images' with 0, 1 or 2 dry.

    The moments are those of all outputs, of which the dry ones are zero: given that an output is not, its mean square is
    1 / (1 - dry) times as large, and its product with another such 1 / (1 - dry)^2 times.
    """
    y, wet = edge.output, 1 - edge.dry
    own, other = cov.subtracted(y, edge.norm, channels, n)
    scale = 1 if edge.norm == "none" else (y.variance - 2 * own + own.mean()).mean()
    variance = {
        True: own.mean().expand_as(wet) / scale,
        False: (y.variance / wet - 2 * own / wet + own.mean()) / scale,
    }
    cross = y.cosine * y.variance
    between = [cross / wet**2 - 2 * other / wet, -other / wet, torch.zeros_like(wet)]
    return variance, [(part + other.mean()) / scale for part in between]
