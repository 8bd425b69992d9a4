"""Proxies that only count: the controls that every other proxy must beat."""

from collections.abc import Callable, Sequence
import math

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

Shape = Sequence[int]


def params(model: nn.Module, images: Tensor) -> float:
    """Number of parameters, those of normalisation and classifier included."""
    return float(sum(parameter.numel() for parameter in model.parameters()))


def flops(model: nn.Module, images: Tensor) -> float:
    """Floating-point operations of the layers in a forward pass for one image.

    Two for each multiply-accumulate of convolutions, linear layers and matrix products, as `torch.utils.flop_counter` counts
    them. Besides, two for each value that is normalised, one for each that is activated, and for each value that is pooled
    as many as its window holds: without these, cells that differ only in pooling would tie. Sums of branches do not count.
    """
    with FlopCounterMode(display=False, custom_mapping=BESIDES) as counter, torch.no_grad():
        model(images.contiguous())  # the layout in memory changes which kernels run, not what is counted
    return counter.get_total_flops() / len(images)


def each_value(times: int) -> Callable[..., int]:
    """Count so many operations for each value of an operator's first input."""

    def count(shape: Shape, *rest: object, **options: object) -> int:
        return times * math.prod(shape)

    return count


def each_window(
    shape: Shape, kernel: Sequence[int], *rest: object, out_shape: Shape | tuple[Shape, ...], **options: object
) -> int:
    """Count a window for each output of a pooling; the first output, where it also gives indices."""
    out = out_shape[0] if isinstance(out_shape[0], Sequence) else out_shape
    return math.prod(out) * math.prod(kernel if len(kernel) > 1 else (*kernel, *kernel))


NORMS = ("native_batch_norm", "native_group_norm", "native_layer_norm")
ACTIVATIONS = ("relu", "gelu", "silu", "leaky_relu", "hardswish", "hardtanh", "elu", "mish", "sigmoid", "tanh", "softplus")
POOLS = ("avg_pool2d", "max_pool2d_with_indices")
COUNTS = {
    **dict.fromkeys(NORMS, each_value(2)),
    **dict.fromkeys([*ACTIVATIONS, *(f"{name}_" for name in ACTIVATIONS)], each_value(1)),
    **dict.fromkeys(POOLS, each_window),
}
OPERATORS = {getattr(torch.ops.aten, name): count for name, count in COUNTS.items() if hasattr(torch.ops.aten, name)}
# The counter counts an operator by its name, but takes apart one whose overload it does not know, as batch normalisation.
BESIDES = OPERATORS | {operator.default: count for operator, count in OPERATORS.items()}
