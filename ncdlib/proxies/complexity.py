"""Proxies that only count: the controls that every other proxy must beat."""

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


def params(model: nn.Module, images: Tensor) -> float:
    """Number of parameters, those of normalisation and classifier included."""
    return float(sum(parameter.numel() for parameter in model.parameters()))


def flops(model: nn.Module, images: Tensor) -> float:
    """Floating-point operations of a forward pass for one image: two for each multiply-accumulate.

    Convolutions, linear layers and matrix products, as `torch.utils.flop_counter` counts them.
    """
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(images.contiguous())  # the layout in memory changes which kernels run, not what is counted
    return counter.get_total_flops() / len(images)
