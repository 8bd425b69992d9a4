"""Record which activations fire while a network runs.

An activation's *code* is one bit a unit and image: does its input exceed zero? Codes are taken at the input of every
activation module, summarised at once while they are still in cache, and never kept.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
import weakref

from jaxtyping import Float, Int8
import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakTensorKeyDictionary

MODULES: tuple[type[nn.Module], ...] = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish,
    nn.Hardswish, nn.Hardtanh, nn.Tanh, nn.Sigmoid, nn.Hardsigmoid, nn.Softplus, nn.LogSigmoid, nn.Softsign,
)  # fmt: skip

BY_NAME: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU, "relu6": nn.ReLU6, "leaky_relu": nn.LeakyReLU, "elu": nn.ELU, "gelu": nn.GELU, "silu": nn.SiLU,
    "hardswish": nn.Hardswish,
}  # fmt: skip

FUNCTIONS = {
    function: name
    for name in (
        "relu", "relu_", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "celu", "selu", "gelu", "silu", "mish",
        "hardswish", "hardtanh", "tanh", "sigmoid", "hardsigmoid", "softplus", "logsigmoid", "softsign", "leaky_relu_",
        "rrelu_", "elu_", "celu_", "selu_", "hardtanh_", "tanh_", "sigmoid_", "threshold", "threshold_", "glu", "softshrink",
        "hardshrink", "tanhshrink", "clamp", "clamp_", "clamp_min", "clamp_min_", "expit",
    )
    for home in (torch, nn.functional, Tensor, torch.special)
    if (function := getattr(home, name, None)) is not None
}  # fmt: skip

Summary = Callable[[Int8[Tensor, "n d"]], Any]

DEFERRED_BYTES = 1 << 29  # codes that a GPU keeps before it summarises them together


def make(name: str) -> nn.Module:
    """A new activation module by its name, e.g. `"relu"`."""
    if name not in BY_NAME:
        raise ValueError(f"unknown activation {name!r}: use one of {', '.join(BY_NAME)}")
    return BY_NAME[name]()


@dataclass
class Layer:
    """What was recorded at one distinct tensor that activation modules read."""

    summaries: tuple[Any, ...]  # one for each summary asked for
    times: int = 1  # activation modules that read this very tensor


def codes(x: Float[Tensor, "n ..."], scratch: Int8[Tensor, " bytes"] | None = None) -> Int8[Tensor, "n d"]:
    """1 where an input exceeds zero, else 0: one row per image, in the order in which the units lie in memory.

    The order of the units is the same for every image, and no proxy depends on it. `scratch` is memory that the codes
    may take, until it is used again.
    """
    if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        x = x.permute(0, 2, 3, 1)
    x = x.detach().reshape(len(x), -1)
    if x.device.type != "cpu" or x.dtype == torch.bfloat16:
        return torch.gt(x, 0, out=torch.empty(x.shape, dtype=torch.int8, device=x.device))
    out = torch.empty(x.shape, dtype=torch.int8) if scratch is None else scratch[: x.numel()].view(x.shape)
    np.greater(x.numpy(), 0, out=out.numpy().view(np.bool_))  # torch's own comparison takes ten times as long
    return out


@contextmanager
def record_codes(model: nn.Module, summaries: Sequence[Summary], n: int, count: str = "once") -> Iterator[list[Layer]]:
    """While open, fill the list that it yields with a `Layer` for each distinct tensor that activation modules read.

    Modules that read the same tensor have the same code: it is summarised once and counted in `Layer.times`.

    - `n`: images in the batch, the first dimension that every recorded tensor must have.
    - On a GPU, where it is the number of calls that costs, the codes of many layers are summarised together: the layers that
      it yields are then fewer and wider, and every sum over them is the same.
    - `count="once"` records each activation module. `"legacy"` records each module whose class name holds "ReLU", as the
      published NWOT code does: a block named ReLUConvBN is then counted beside the ReLU inside it, on the same input.
    """
    layers: list[Layer] = []
    seen = WeakTensorKeyDictionary()  # a living tensor -> its version, its layer
    deferred: list[tuple[Layer, Int8[Tensor, "n d"]]] = []
    scratch = torch.empty(0, dtype=torch.int8)

    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        with torch._C.DisableTorchFunction():  # `functions_called` watches the model: watching this too would take longer
            record(module, inputs[0])

    def record(module: nn.Module, x: Tensor) -> None:
        nonlocal scratch
        version, layer = seen.get(x, (None, None))
        if version == x._version:
            layer.times += 1
            return
        if x.dim() < 2 or len(x) != n:
            raise _no_batch(model, module, x, n)
        layer = Layer(())
        seen[x] = x._version, layer
        if x.device.type == "cpu":
            if x.numel() > scratch.numel():
                scratch = torch.empty(x.numel(), dtype=torch.int8)
            code = codes(x, scratch)
            layer.summaries = tuple(summarise(code) for summarise in summaries)
            layers.append(layer)
        else:
            deferred.append((layer, codes(x)))
            if sum(code.numel() for _, code in deferred) > DEFERRED_BYTES:
                summarise_deferred()

    def summarise_deferred() -> None:
        for times in sorted({layer.times for layer, _ in deferred}):
            code = torch.cat([code for layer, code in deferred if layer.times == times], dim=1)
            layers.append(Layer(tuple(summarise(code) for summarise in summaries), times))
        deferred.clear()
        seen.clear()  # a module that reads one of these tensors later counts as a layer of its own

    def is_recorded(module: nn.Module) -> bool:
        return isinstance(module, MODULES) if count == "once" else "ReLU" in type(module).__name__

    with hooked(module.register_forward_pre_hook(hook) for module in model.modules() if is_recorded(module)):
        yield layers
        summarise_deferred()


def _no_batch(model: nn.Module, module: nn.Module, x: Tensor, n: int) -> ValueError:
    name = next(name for name, child in model.named_modules() if child is module)
    return ValueError(
        f"activation module {name!r} reads a tensor of shape {tuple(x.shape)}, but the batch has {n} images: "
        "codes need the batch in the first dimension"
    )


@contextmanager
def hooked(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """While open, hooks are registered: `handles` registers them, one after another."""
    registered: list[RemovableHandle] = []
    try:
        registered.extend(handles)
        yield
    finally:
        for handle in registered:
            handle.remove()


@contextmanager
def functions_called(
    model: nn.Module,
    n: int,
    functions: Mapping[Callable, str] = FUNCTIONS,
    modules: tuple[type[nn.Module], ...] = MODULES,
) -> Iterator[set[str]]:
    """While open, fill the set that it yields with the names of the `functions` that `model` calls outside of `modules`.

    `record_codes` sees modules only. What one of `modules` calls itself does not count, nor does what is applied to a
    tensor without the `n` images in its first dimension, such as a parameter, or with a second tensor that is no
    parameter, such as the constant kernel of a pooling. Costs some microseconds for each operation.
    """
    names: set[str] = set()
    read: weakref.ref[Tensor] | None = None  # what the module that runs at present reads

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal read
        read = weakref.ref(inputs[0])

    class Watch(TorchFunctionMode):
        def __torch_function__(self, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None) -> object:
            x = next(iter((*args, *(kwargs or {}).values())), None) if func in functions else None
            of_batch = isinstance(x, Tensor) and x.dim() > 1 and len(x) == n and (read is None or read() is not x)
            if of_batch and not any(type(kernel) is Tensor for kernel in args[1:2]):
                names.add(functions[func])
            return func(*args, **(kwargs or {}))

    with hooked(m.register_forward_pre_hook(note) for m in model.modules() if isinstance(m, modules)), Watch():
        yield names
