"""Building blocks that the search spaces share, and the initialisations of a network."""

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


class ResidualBlock(nn.Module):
    """Two ReLU-Conv-BN 3x3, the first with the stride, added to a shortcut of the input."""

    def __init__(self, c_in: int, c_out: int, stride: int, norm: str, activation: str, shortcut: nn.Module) -> None:
        super().__init__()
        self.conv_a = ReLUConvBN(c_in, c_out, 3, stride, norm, activation)
        self.conv_b = ReLUConvBN(c_out, c_out, 3, 1, norm, activation)
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        return self.downsample(x) + self.conv_b(self.conv_a(x))


class FactorizedReduce(nn.Module):
    """A skip that changes the shape: activation, two 1x1 convolutions side by side, the second a pixel further, BN.

    With stride 2 no position is lost. In TransNAS-Bench-101 it takes the stride as given, also 1.
    """

    def __init__(self, c_in: int, c_out: int, stride: int, norm: str, activation: str) -> None:
        super().__init__()
        self.activation = activations.make(activation)
        self.even = Conv2d(c_in, c_out // 2, 1, stride, bias=False)
        self.odd = Conv2d(c_in, c_out // 2, 1, stride, bias=False)
        self.norm = rescaling.make(norm, c_out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(x)
        return self.norm(torch.cat([self.even(x), self.odd(self.shifted(x))], dim=1))

    def shifted(self, x: Tensor) -> Tensor:
        """x without its first row and column, with zeros after its last ones."""
        return nn.functional.pad(x, (-1, 1, -1, 1))


def conv_norm(c_in: int, c_out: int, kernel: int, stride: int, norm: str, groups: int = 1) -> nn.Sequential:
    """Convolution without bias, normalisation."""
    convolution = Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, rescaling.make(norm, c_out))


def drop_path(x: Tensor, p: float) -> Tensor:
    """x with each image set to zero with probability p and else divided by 1 - p (Huang et al. 2016, arXiv:1603.09382)."""
    return x if p == 0 else x * x.new_empty(len(x), *[1] * (x.dim() - 1)).bernoulli_(1 - p) / (1 - p)


def check_sizes(**sizes: int) -> None:
    """Raise ValueError unless every size is a whole number of at least 1."""
    for name, value in sizes.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
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
