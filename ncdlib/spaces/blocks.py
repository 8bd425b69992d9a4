"""Building blocks that the search spaces share, and the initialisations of a network."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ncdlib import activations, rescaling

INITS = ("default", "kaiming", "normal")


class Conv2d(nn.Conv2d):
    """A convolution whose weights wait for `initialise`, which draws those of a whole network at once."""

    def reset_parameters(self) -> None:
        pass


class Linear(nn.Linear):
    """A linear layer whose weights wait for `initialise`."""

    def reset_parameters(self) -> None:
        pass


class AvgPool2d(nn.AvgPool2d):
    """Average pooling over the part of each window that lies inside the image.

    In channels-last memory on a CPU the sum is taken as a depthwise convolution of ones, up to five times as fast.
    """

    def __init__(self, kernel: int, stride: int, padding: int = 0) -> None:
        super().__init__(kernel, stride, padding, count_include_pad=False)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or x.dim() != 4 or x.is_contiguous():
            return super().forward(x)
        channels, k = x.shape[1], self.kernel_size
        weight = x.new_full((channels, 1, k, k), k**-2)
        mean = nn.functional.conv2d(x, weight, None, self.stride, self.padding, groups=channels)
        if not self.padding:
            return mean
        rows, columns = (nn.functional.avg_pool1d(x.new_ones(1, side), k, self.stride, self.padding) for side in x.shape[2:])
        return mean.div_(rows.T * columns)  # the share of each window that lies inside


class ReLUConvBN(nn.Module):
    """Activation, convolution without bias, normalisation (NAS-Bench-201 and TransNAS-Bench-101).

    The class keeps its published name: code that looks for "ReLU" in class names counts it (see `activations.record_codes`).
    """

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, norm: str, activation: str) -> None:
        super().__init__()
        self.activation = activations.make(activation)
        self.conv = Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False)
        self.norm = rescaling.make(norm, c_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(self.activation(x)))


class EdgeCell(nn.Module):
    """A cell of four nodes, the first its input: node j is the sum over i < j of the operation on edge i>j of node i.

    `edges` are (i, j, operation or None, whether its output is needed): where it is not, only its activation is called,
    so that its code still counts. A node that nothing reaches is zero, with `c_out` channels and 1 / `stride` of the side.
    """

    def __init__(self, edges: Iterable[tuple[int, int, nn.Module | None, bool]], c_out: int, stride: int = 1) -> None:
        super().__init__()
        self.c_out, self.stride = c_out, stride
        self.edges = nn.ModuleDict()
        self.plan: list[tuple[int, int, str, bool]] = []
        for i, j, operation, needed in edges:
            if operation is not None:
                self.edges[f"{i}>{j}"] = operation
                self.plan.append((i, j, f"{i}>{j}", needed))

    def forward(self, x: Tensor) -> Tensor:
        nodes: list[Tensor | None] = [x, None, None, None]  # None stands for zeros
        for i, j, name, needed in self.plan:
            if nodes[i] is None:
                nodes[i] = self.zeros(x)
            operation = self.edges[name]
            if needed:
                y = operation(nodes[i])
                nodes[j] = y if nodes[j] is None else nodes[j] + y
            elif hasattr(operation, "activation"):
                operation.activation(nodes[i])
        return self.zeros(x) if nodes[3] is None else nodes[3]

    def zeros(self, x: Tensor) -> Tensor:
        """A node that nothing reaches."""
        return x.new_zeros(len(x), self.c_out, *(-(-side // self.stride) for side in x.shape[2:]))


def check_sizes(**sizes: int) -> None:
    """Raise ValueError unless every size is a whole number of at least 1."""
    for name, value in sizes.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")


@torch.no_grad()
def initialise(model: nn.Module, init: str = "default") -> None:
    """Draw the weights of all convolutions and linear layers of `model` from torch's global generator, in one fill.

    - `default`: PyTorch's own, U(-b, b) with b = 1 / sqrt(fan-in), biases too.
    - `kaiming`: N(0, 2 / fan-in) (He et al. 2015), biases zero. `normal`: N(0, 1), biases zero.

    Does nothing on the meta device.
    """
    if init not in INITS:
        raise ValueError(f"unknown initialisation {init!r}: use one of {', '.join(INITS)}")
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    drawn = [(p, layer.weight.numel() // len(layer.weight)) for layer in layers for p in layer.parameters() if not p.is_meta]
    total = sum(p.numel() for p, _ in drawn)
    fill = torch.empty(total).uniform_(-1, 1) if init == "default" else torch.empty(total).normal_()
    start = 0
    for parameter, fan_in in drawn:
        scale = {"default": fan_in**-0.5, "kaiming": (2 / fan_in) ** 0.5, "normal": 1.0}[init]
        if parameter.dim() == 1 and init != "default":
            scale = 0.0
        values = fill[start : start + parameter.numel()].view(parameter.shape)
        torch.mul(values, scale, out=parameter.data) if parameter.device.type == "cpu" else parameter.copy_(values * scale)
        start += parameter.numel()
