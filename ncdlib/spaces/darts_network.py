"""The networks of DARTS cells that are trained on CIFAR-10 and on ImageNet (Liu et al. 2019, arXiv:1806.09055).

Pooling has no normalisation of its own here: only the network that is searched has one.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ncdlib import activations, rescaling
from ncdlib.spaces.blocks import AvgPool2d, Conv2d, FactorizedReduce, Linear, ReLUConvBN, conv_norm, drop_path

Edges = Sequence[tuple[int, int, str]]  # (source, target, operator), two for each of the nodes 2 to 5


class Network(nn.Module):
    """Stem, cells, global average, linear layer; see `DARTS.build` for the sizes."""

    def __init__(
        self,
        cells: Mapping[str, Edges],  # of the "normal" and of the "reduce" cell
        norm: str,
        activation: str,
        channels: int,
        layers: int,
        classes: int,
        auxiliary: bool,
        drop_path: float,
        stem: str = "cifar",
    ) -> None:
        super().__init__()
        self.drop_path = drop_path
        c, before, last = channels, 3 * channels, 3 * channels  # width of a node, of the cell before the last, of the last
        self.halved = None  # ImageNet: the second output of the stem, at half the resolution of the first
        if stem == "imagenet":
            before, last = channels, channels
            self.stem = nn.Sequential(
                *conv_norm(3, channels // 2, 3, 2, norm),
                activations.make(activation),
                *conv_norm(channels // 2, channels, 3, 2, norm),
            )
            self.halved = nn.Sequential(activations.make(activation), *conv_norm(channels, channels, 3, 2, norm))
        else:
            self.stem = conv_norm(3, last, 3, 1, norm)
        self.cells = nn.ModuleList()
        self.auxiliary = None
        reductions = (layers // 3, 2 * layers // 3)
        self.auxiliary_at = reductions[1]
        for i in range(layers):
            c *= 2 if i in reductions else 1
            edges = cells["reduce" if i in reductions else "normal"]
            after = i - 1 in reductions or (i == 0 and stem == "imagenet")
            self.cells.append(Cell(edges, before, last, c, i in reductions, after, norm, activation))
            before, last = last, 4 * c
            if i == self.auxiliary_at and auxiliary:
                self.auxiliary = AuxiliaryHead(last, classes, norm, activation, stem)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), Linear(last, classes))

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        times, factor = ("twice", 4) if self.halved is None else ("five times", 32)
        if images.shape[-1] % factor or images.shape[-2] % factor:
            raise ValueError(
                f"images are halved {times}, so both sides must be divisible by {factor}: got {tuple(images.shape)}"
            )
        before = self.stem(images)
        last = before if self.halved is None else self.halved(before)
        extra = None
        for i, cell in enumerate(self.cells):
            before, last = last, cell(before, last, self.drop_path if self.training else 0.0)
            if i == self.auxiliary_at and self.auxiliary is not None and self.training:
                extra = self.auxiliary(last)
        logits = self.head(last)
        return logits if extra is None else (logits, extra)


class Cell(nn.Module):
    """Nodes 0 and 1 are the inputs brought to width c, a later node sums its two edges; the output joins nodes 2 to 5."""

    def __init__(
        self,
        edges: Edges,
        before: int,
        last: int,
        c: int,
        reduction: bool,
        after: bool,
        norm: str,
        activation: str,
    ) -> None:
        super().__init__()
        # `after` a reduction cell or ImageNet's stem, the first of the two inputs has twice the resolution.
        narrow = Halved(before, c, 2, norm, activation) if after else None
        self.preprocess0 = narrow or ReLUConvBN(before, c, 1, 1, norm, activation)
        self.preprocess1 = ReLUConvBN(last, c, 1, 1, norm, activation)
        self.sources = [source for source, _, _ in edges]
        self.edges = nn.ModuleList(
            operation(op, c, 2 if reduction and source < 2 else 1, norm, activation) for source, _, op in edges
        )

    def forward(self, before: Tensor, last: Tensor, drop: float) -> Tensor:
        nodes = [self.preprocess0(before), self.preprocess1(last)]
        ends: list[Tensor] = []
        for source, edge in zip(self.sources, self.edges, strict=True):
            end = edge(nodes[source])
            ends.append(end if isinstance(edge, nn.Identity) else drop_path(end, drop))
            if len(ends) == 2:
                nodes.append(ends[0] + ends[1])
                ends = []
        return torch.cat(nodes[2:], dim=1)


def operation(op: str, c: int, stride: int, norm: str, activation: str) -> nn.Module:
    """The module of an operator at width c."""
    match op:
        case "none":
            return Zero(stride)
        case "noise":
            return Noise(stride)
        case "skip_connect":
            return nn.Identity() if stride == 1 else Halved(c, c, 2, norm, activation)
        case "max_pool_3x3":
            return nn.MaxPool2d(3, stride, padding=1)
        case "avg_pool_3x3":
            return AvgPool2d(3, stride, 1)
    kernel = int(op[-1])
    if op.startswith("dil_conv"):
        return separable(c, kernel, stride, 2, norm, activation)
    return nn.Sequential(*separable(c, kernel, stride, 1, norm, activation), *separable(c, kernel, 1, 1, norm, activation))


def separable(c: int, kernel: int, stride: int, dilation: int, norm: str, activation: str) -> nn.Sequential:
    """Activation, depthwise and pointwise convolution, normalisation."""
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        activations.make(activation),
        Conv2d(c, c, kernel, stride, padding, dilation, groups=c, bias=False),
        Conv2d(c, c, 1, bias=False),
        rescaling.make(norm, c),
    )


class Halved(FactorizedReduce):
    """A skip of stride 2. Sides are even, so that nothing is padded (a mask has the size of what a convolution reads)."""

    def shifted(self, x: Tensor) -> Tensor:
        return x[:, :, 1:, 1:]


class Zero(nn.Module):
    """Zeros in the shape of the input at this stride."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x[:, :, :: self.stride, :: self.stride])


class Noise(nn.Module):
    """Fresh N(0, 1) draws of torch's global generator in the shape of the input at this stride (S4)."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        shape = x[:, :, :: self.stride, :: self.stride].shape
        return torch.randn(shape, dtype=x.dtype, device=x.device)  # the same draws in every memory layout of x


class AuxiliaryHead(nn.Sequential):
    """The published classifier on 8x8 maps: average pool to 2x2, 1x1 convolution to 128, 2x2 to 768, linear layer.

    ImageNet's reads 7x7 maps and has no normalisation after the second convolution, as in the published experiments.
    """

    def __init__(self, c: int, classes: int, norm: str, activation: str, stem: str = "cifar") -> None:
        super().__init__(
            activations.make(activation),
            AvgPool2d(5, 2 if stem == "imagenet" else 3),
            Conv2d(c, 128, 1, bias=False),
            rescaling.make(norm, 128),
            activations.make(activation),
            Conv2d(128, 768, 2, bias=False),
            rescaling.make("none" if stem == "imagenet" else norm, 768),
            activations.make(activation),
            nn.Flatten(),
            Linear(768, classes),
        )
        self.side, self.image = (7, 224) if stem == "imagenet" else (8, 32)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2:] != (self.side, self.side):
            side, image = f"{self.side}x{self.side}", f"{self.image}x{self.image}"
            raise ValueError(f"the auxiliary head reads {side} maps, as {image} images give: got {tuple(x.shape[-2:])}")
        return super().forward(x)
