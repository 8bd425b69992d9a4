"""Building blocks that the search spaces share, and the initialisations of a network."""

import torch
from torch import nn

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


class ReLUConvBN(nn.Module):
    """Activation, convolution without bias, normalisation (NAS-Bench-201 and TransNAS-Bench-101).

    The class keeps its published name: code that looks for "ReLU" in class names counts it (see `activations.recorded`).
    """

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, norm: str, activation: str) -> None:
        super().__init__()
        self.activation = activations.make(activation)
        self.conv = Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False)
        self.norm = rescaling.make(norm, c_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(self.activation(x)))


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
    drawn = [(p, layer.weight[0].numel()) for layer in layers for p in layer.parameters() if not p.is_meta]
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
