"""SAM, stochastic activation masking: y = sum(W * M * X) with M ~ Bernoulli(1 - alpha), the paper's Eq. 4.

The kept inputs are not scaled up: masking makes the sums of activations smaller on purpose.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from jaxtyping import Float
import torch
from torch import Tensor, nn

KINDS = ("sample", "shared", "channel", "channel_shared")
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
LAYERS = (*CONVOLUTIONS, nn.Linear)


def check(alpha: float, kind: str) -> None:
    """Raise ValueError unless 0 <= alpha < 1 and the kind of mask exists."""
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not 0 <= alpha < 1:
        raise ValueError(f"alpha is the share of inputs masked, a number from 0 up to, not including, 1: got {alpha!r}")
    if kind not in KINDS:
        raise ValueError(f"unknown mask {kind!r}: use one of {', '.join(KINDS)}")


def bernoulli(shape: tuple[int, ...], keep: float, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """A tensor of ones with probability `keep` (to within 2^-16), else zeros.

    Four 16-bit draws come from one 64-bit number, and the mask is made in the dtype that it will multiply: together a
    tenth of the cost of `Tensor.bernoulli_` and a fifth of multiplying by a bool.
    """
    size = torch.Size(shape).numel()
    bits = torch.empty(-(-size // 4), dtype=torch.int64, device=generator.device)
    bits.random_(-(2**63), None, generator=generator)
    draws = bits.view(torch.int16)[:size].view(shape)  # uniform on [-2^15, 2^15)
    threshold = min(max(round(keep * 2**16), 1), 2**16 - 1) - 2**15  # 2^15 would wrap round and keep nothing
    return torch.lt(draws, threshold, out=torch.empty(shape, dtype=dtype, device=generator.device))


def masked(
    x: Float[Tensor, "n ..."], alpha: float, kind: str, generator: torch.Generator, channels_last: bool = False
) -> Float[Tensor, "n ..."]:
    """x with each entry set to zero with probability alpha.

    One draw an entry (`"sample"`), an entry shared by the images of the batch (`"shared"`), a channel of an image
    (`"channel"`), or a channel shared by the batch (`"channel_shared"`). The channel is dimension 1, or the last one with
    `channels_last=True`, as a linear layer has it. The draws follow the order (n, *space, channel) whatever the memory
    layout of x, so that both layouts get the same mask.
    """
    channels_last = channels_last or x.dim() < 3
    n, channels = len(x), x.shape[-1 if channels_last else 1]
    space = x.shape[1:-1] if channels_last else x.shape[2:]
    shape = (1 if "shared" in kind else n, *([1] * len(space) if "channel" in kind else space), channels)
    mask = bernoulli(shape, 1 - alpha, generator, x.dtype)
    if not channels_last:
        mask = mask.movedim(-1, 1)
    return mask.mul_(x) if mask.shape == x.shape else x * mask


@contextmanager
def sam(model: nn.Module, alpha: float, mask: str = "sample", seed: int = 0) -> Iterator[None]:
    """While open, mask the input of every convolution and linear layer of `model`; alpha = 0 changes nothing.

    Every layer draws from a generator of its own, seeded by `seed` and the layer's position among the layers, so that a
    layer's masks do not depend on which other layers run, or when. Further calls of a layer draw further masks.
    """
    check(alpha, mask)
    if alpha == 0:
        yield
        return
    generators: dict[nn.Module, torch.Generator] = {}

    def mask_input(index: int, layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x = inputs[0]
        if layer not in generators:
            generators[layer] = torch.Generator(x.device).manual_seed((seed * 1_000_003 + index) % 2**63)
        return (masked(x, alpha, mask, generators[layer], isinstance(layer, nn.Linear)), *inputs[1:])

    layers = [module for module in model.modules() if isinstance(module, LAYERS)]
    handles = [layer.register_forward_pre_hook(partial(mask_input, i)) for i, layer in enumerate(layers)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
