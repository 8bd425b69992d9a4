"""SAM, stochastic activation masking: y = sum(W * M * X) with M ~ Bernoulli(1 - alpha), the paper's Eq. 4.

The kept inputs are not scaled up: masking makes the sums of activations smaller on purpose.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from numbers import Real
from typing import Any

from jaxtyping import Float
import torch
from torch import Tensor, nn

from ncdlib.activations import hooked

KINDS = ("sample", "shared", "channel", "channel_shared")
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
LAYERS = (*CONVOLUTIONS, nn.Linear)
FUNCTIONS = {
    getattr(nn.functional, name): name
    for name in ("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "bilinear")
}

Draw = Callable[..., Tensor]  # the masked input, from the input and `channels_last`


def check(alpha: object, kind: object) -> None:
    """Raise ValueError unless 0 <= alpha < 1 and the kind of mask exists."""
    if not isinstance(alpha, Real) or isinstance(alpha, bool) or not 0 <= alpha < 1:
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
    """While open, mask the input of every convolution, linear layer and attention of `model`; alpha = 0 changes nothing.

    Every layer draws from a generator of its own, seeded by `seed` and the layer's position among the layers, so that a
    layer's masks do not depend on which other layers run, or when. Further calls of a layer draw further masks.
    Raises ValueError where the model has run and no mask was drawn, and for quantised layers.
    """
    check(alpha, mask)
    if alpha == 0:
        yield
        return
    quantised = [name for name, module in model.named_modules() if hasattr(module, "_packed_params")]
    if quantised:
        raise ValueError(
            f"alpha = {alpha} masks no quantised layer, such as {quantised[0]!r}: score the model before it is quantised"
        )
    generators: dict[int, torch.Generator] = {}
    runs: list[nn.Module] = []

    def draw(index: int, x: Tensor, channels_last: bool) -> Tensor:
        if index not in generators:
            generators[index] = torch.Generator(x.device).manual_seed((seed * 1_000_003 + index) % 2**63)
        return masked(x, alpha, mask, generators[index], channels_last)

    def mask_input(index: int, layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (draw(index, inputs[0], isinstance(layer, nn.Linear)), *inputs[1:])

    layers = [module for module in model.modules() if isinstance(module, LAYERS)]
    attentions = [module for module in model.modules() if isinstance(module, nn.MultiheadAttention)]
    hooks = (layer.register_forward_pre_hook(partial(mask_input, i)) for i, layer in enumerate(layers))
    with ExitStack() as stack:
        stack.enter_context(hooked(hooks))
        stack.enter_context(hooked([model.register_forward_pre_hook(lambda *_: runs.append(model))]))
        for i, attention in enumerate(attentions, len(layers)):
            heads = layers.index(attention.out_proj)
            stack.enter_context(_attention_masked(attention, partial(draw, i), partial(draw, heads)))
        yield
    if runs and not generators:
        raise ValueError(
            f"alpha = {alpha} masked nothing: SAM masks the inputs of convolutions, nn.Linear and nn.MultiheadAttention "
            "that run as modules; write functions such as F.conv2d as modules, and score a model before it is compiled"
        )


@contextmanager
def _attention_masked(attention: nn.MultiheadAttention, draw_inputs: Draw, draw_heads: Draw) -> Iterator[None]:
    """While open, mask the inputs of an attention's projections, which it runs as functions.

    Query, key and value share a mask where they are one tensor, which one layer then projects. To reach the input of the
    output projection, the attention runs with the identity in its place, and the projection follows.
    """
    projection = attention.out_proj

    def draw(x: Tensor, drawn_by: Draw) -> Tensor:
        if attention.batch_first or x.dim() < 3:
            return drawn_by(x, channels_last=True)
        return drawn_by(x.transpose(0, 1), channels_last=True).transpose(0, 1)

    def before(module: nn.Module, args: tuple, named: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        inputs = (*args[:3], *(named[name] for name in ("query", "key", "value") if name in named))
        masks = {key: draw(x, draw_inputs) for key, x in {id(x): x for x in inputs}.items()}
        identity = attention._modules["out_proj"] = nn.Module()
        identity.weight = torch.eye(attention.embed_dim, dtype=inputs[0].dtype, device=inputs[0].device)
        identity.bias = inputs[0].new_zeros(attention.embed_dim)
        return tuple(masks.get(id(x), x) for x in args), {name: masks.get(id(x), x) for name, x in named.items()}

    def after(module: nn.Module, inputs: tuple, output: tuple[Tensor, Tensor | None]) -> tuple[Tensor, Tensor | None]:
        attention._modules["out_proj"] = projection
        return nn.functional.linear(draw(output[0], draw_heads), projection.weight, projection.bias), output[1]

    try:
        with hooked([attention.register_forward_pre_hook(before, with_kwargs=True), attention.register_forward_hook(after)]):
            yield
    finally:
        attention._modules["out_proj"] = projection  # the attention may have failed
