"""Proxies that read gradients of the loss at initialisation.

They read the weights of convolutions and linear layers, not biases, normalisation or tokens; a weight that takes no part
has the gradient zero. BatchNorm runs as the model has it, on the batch's own statistics in training mode, except where a
proxy says otherwise. The loss is the mean cross entropy. Larger is better, as returned; no sign is changed afterwards.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
import math

from jaxtyping import Float, Int
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from ncdlib import masking, rescaling
from ncdlib.activations import hooked

Weights = list[Tensor]


def grad_norm(weights: Weights, gradients: Weights) -> float:
    """sum over layers of ||gradient||: Abdelfattah et al. 2021 (arXiv:2101.08134), Sec. 3.2."""
    return float(sum(gradient.norm() for gradient in gradients))


def snip(weights: Weights, gradients: Weights) -> float:
    """sum of |weight * gradient|: Lee et al. 2019 (arXiv:1810.02340), summed as in Abdelfattah et al. 2021, Sec. 3.2."""
    return float(sum((w * g).abs().sum() for w, g in zip(weights, gradients, strict=True)))


def plain(weights: Weights, gradients: Weights) -> float:
    """sum of weight * gradient, signed: Mozer & Smolensky 1988, as `plain` in the code of Abdelfattah et al. 2021.

    BatchNorm undoes the scale of the weights before it, so that their sum is zero but for rounding and BatchNorm's
    epsilon (Euler's identity for degree 0): what is left comes from the other layers.
    """
    return float(sum((w * g).sum() for w, g in zip(weights, gradients, strict=True)))


def l2_norm(model: nn.Module, images: Float[Tensor, "n ..."]) -> float:
    """sum over layers of ||weight||: `l2_norm` in the code of Abdelfattah et al. 2021. Reads no data, and runs nothing."""
    weights = parameters(model)
    norms = {name: weights[name].detach().norm() for name in layers(model)}
    for name, norm in norms.items():
        if not norm.isfinite():
            raise NotFinite(f"the norm of {name} is not finite")
    return float(sum(norms.values()))


def grasp(model: nn.Module, images: Float[Tensor, "n ..."], labels: Int[Tensor, " n"]) -> float:
    """-sum of weight * (H gradient), H the Hessian of the loss: Wang et al. 2020 (arXiv:2002.07376).

    Summed and signed as in Abdelfattah et al. 2021, Sec. 3.2 and code, with temperature 1: positive where the gradient
    grows as all weights shrink together. They run the model twice on one batch, for the gradient and for H; one pass
    serves both here, so that random layers and masks draw once. Needs operations that can be differentiated twice:
    fused attention kernels may not be.
    """
    held = parameters(model)
    weights = {name: held[name] for name in layers(model)}
    value = loss(functional_call(model, held, (images,)), labels)
    gradients = gradients_of(value, weights, create_graph=True)
    along = sum((g.detach() * g).sum() for g in gradients)  # its derivative is H times the gradient
    curved = gradients_of(along, weights)
    return -float(sum((w.detach() * hg).sum() for w, hg in zip(weights.values(), curved, strict=True)))


def fisher(model: nn.Module, images: Float[Tensor, "n ..."], labels: Int[Tensor, " n"]) -> float:
    """sum over layers and their channels c of (weights a channel) * mean over images of (sum over positions of a g)^2 / 2.

    a is the output of the layer, g its gradient of the loss. Theis et al. 2018 (arXiv:1801.05787), summed as in the code
    of Abdelfattah et al. 2021: it gives each weight of a layer its channel's value, so that a channel counts fan-in times,
    which their paper does not say. Channels are dimension 1, of a linear layer the last dimension: that code would take a
    transformer's tokens for channels. A layer that runs twice counts twice.
    """
    gates: dict[str, Tensor] = {}
    fans: list[int] = []

    def gated(name: str, layer: nn.Module, output: Tensor) -> Tensor:
        """The output times a gate of 1 for each image and channel: the gate's gradient is the sum over positions of a g.

        Unlike a note of the output, it stands when an operation in place, as nn.ReLU(inplace=True), overwrites that.
        """
        channel = output.dim() - 1 if isinstance(layer, nn.Linear) else 1
        shape = [size if axis in (0, channel) else 1 for axis, size in enumerate(output.shape)]
        gate = gates[f"output {len(gates)}, of {name},"] = output.new_ones(shape).requires_grad_()
        fans.append(layer.weight.numel() // output.shape[channel])
        return output * gate

    with watched(model, gated):
        value = loss(model(images), labels)
    if not gates:
        raise ValueError("the model ran no convolution or linear layer: fisher needs one, called as a module")
    sums = gradients_of(value, gates)
    return float(sum(fan * s.double().square().sum() / len(s) / 2 for fan, s in zip(fans, sums, strict=True)))


def synflow(model: nn.Module, images: Float[Tensor, "n ..."]) -> float:
    """log of the sum of |w dR/dw|, R the sum of the outputs for one image of ones, all parameters at their magnitudes.

    Tanaka et al. 2020 (arXiv:2006.05467), Eq. 2, in one step; summed as in Abdelfattah et al. 2021, Sec. 3.2. In float64,
    with BatchNorm taken out and the logarithm taken, as the tables of NASLib have it: the sum grows by orders of magnitude
    with the layers, beyond float32. Other normalisation stays, and so does what `norm` puts in BatchNorm's place. Biases
    take part in R, but not in the sum. Reads the images' shape only. -inf where nothing flows, so that it ranks last; NASLib
    leaves 0 there.
    """
    with without_batchnorm(model):
        held = magnitudes(model)
        weights = {name: held[name] for name in layers(model)}
        output = run(model, held, torch.ones_like(images[:1], dtype=torch.float64))
    flows = gradients_of(output.sum(), weights)
    return float(sum((w.detach() * f).abs().sum() for w, f in zip(weights.values(), flows, strict=True)).log())


def gradsign(model: nn.Module, images: Float[Tensor, "n ..."], labels: Int[Tensor, " n"]) -> float:
    """sum over weights of |sum over images of sign(gradient of that image's loss)|: a whole number.

    Zhang & Jia 2022 (arXiv:2110.08616), Algorithm 1. The paper counts all parameters; its code those of convolutions
    and linear layers. As there, each image is a batch of its own: BatchNorm normalises an image by itself, masks are drawn
    for each anew, and n passes are needed.
    """
    held = parameters(model)
    weights = {name: held[name] for name in layers(model)}
    votes = [torch.zeros_like(w, dtype=torch.float32) for w in weights.values()]
    for image, label in zip(images.split(1), labels.split(1), strict=True):
        try:
            output = functional_call(model, held, (image,))
        except ValueError as error:  # BatchNorm refuses a single value a channel
            raise ValueError(f"gradsign runs single images, use larger ones or norm='ln': {error}") from error
        for vote, gradient in zip(votes, gradients_of(loss(output, label), weights), strict=True):
            vote += gradient.sign()
    return float(sum(vote.abs().sum(dtype=torch.float64) for vote in votes))


def zico(model: nn.Module, images: Float[Tensor, "n ..."], labels: Int[Tensor, " n"]) -> float:
    """sum over layers of log(sum over weights of mean |g| / std g), mean and deviation over two batches.

    Li et al. 2023 (arXiv:2301.11300). The two batches are the halves of the one given, so that the order of the
    images matters. With two values, mean |g| / std g = (|g1| + |g2|) / |g1 - g2|. The deviation is of g, as in their
    code; their paper prints that of |g|. A weight where it is zero, and a layer of such weights, count nothing; nan where
    that leaves no layer, for which their code returns 0. A few weights whose two gradients happen to agree carry most of a
    layer's sum, which has no mean over draws of the batches: expect noise.
    """
    half = len(images) // 2
    _, first = loss_gradients(model, images[:half], labels[:half])
    _, second = loss_gradients(model, images[half:], labels[half:])
    scores = []
    for a, b in zip(first, second, strict=True):
        gap = (a - b).abs()
        total = torch.where(gap > 0, (a.abs() + b.abs()) / gap, 0).sum(dtype=torch.float64)
        if total > 0:
            scores.append(float(total.log()))
    return sum(scores) if scores else math.nan


class NotFinite(ArithmeticError):
    """A gradient or a weight that is nan or infinite; the message names the layer."""


def gradients_of(
    value: Tensor, weights: dict[str, Tensor], *, create_graph: bool = False, retain_graph: bool | None = None
) -> list[Tensor]:
    """The gradient of a value by each weight, zeros where one took no part. NotFinite names the first layer that fails."""
    found = torch.autograd.grad(
        value,
        list(weights.values()),
        create_graph=create_graph,
        retain_graph=retain_graph,
        allow_unused=True,
        materialize_grads=True,
    )
    for name, gradient in zip(weights, found, strict=True):
        if not gradient.isfinite().all():
            raise NotFinite(f"the gradient of {name} is not finite")
    return list(found)


def parameters(model: nn.Module) -> dict[str, Tensor]:
    """The parameters of a model by name, free to be differentiated by: the model's own, its flags and .grad, stay out."""
    found = {name: parameter.detach().requires_grad_() for name, parameter in model.named_parameters()}
    if not found:
        raise ValueError("the model has no parameters: a proxy of gradients needs some")
    return found


def magnitudes(model: nn.Module) -> dict[str, Tensor]:
    """|parameters| and |buffers| in float64 by name, as `functional_call` takes them; buffers of whole numbers stay out."""
    stored = model.state_dict()  # a buffer that is not stored may be a table of constants, as an attention mask
    buffers = {name: b.double().abs() for name, b in model.named_buffers() if b.is_floating_point() and name in stored}
    return buffers | {name: p.detach().double().abs().requires_grad_() for name, p in parameters(model).items()}


def run(model: nn.Module, held: dict[str, Tensor], images: Float[Tensor, "n ..."]) -> Tensor:
    """What the model makes of the images with these parameters, or ValueError where that has no row for each."""
    output = functional_call(model, held, (images,))
    if not isinstance(output, Tensor) or output.dim() < 1 or len(output) != len(images):
        given = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(f"the output must be a tensor with a row for each of {len(images)} images, the model gives {given}")
    return output


def layers(model: nn.Module) -> list[str]:
    """The names of the weights of convolutions and linear layers, in the order of the model; a shared weight has one."""
    own = {name for name, _ in model.named_parameters()}  # a weight that is computed, as under weight_norm, is no parameter
    found = (f"{name}.weight".lstrip(".") for name, m in model.named_modules() if isinstance(m, masking.LAYERS))
    names = [name for name in found if name in own]
    if not names:
        raise ValueError("the model has no convolution or linear layer with a weight of its own: such proxies read those")
    return names


@contextmanager
def watched(model: nn.Module, see: Callable[[str, nn.Module, Tensor], Tensor | None]) -> Iterator[None]:
    """While open, `see(name, layer, output)` meets every output of a convolution or linear layer, and may replace it."""

    def meet(name: str, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        return see(name, layer, output)

    found = [(name, m) for name, m in model.named_modules() if isinstance(m, masking.LAYERS)]
    with hooked(layer.register_forward_hook(partial(meet, name)) for name, layer in found):
        yield


def without_batchnorm(model: nn.Module) -> AbstractContextManager[None]:
    """While open, the identity stands in the place of every BatchNorm layer, if there is one."""
    found = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())
    return rescaling.nir(model, "none" if found else None)


def loss(output: Tensor, labels: Int[Tensor, " n"]) -> Float[Tensor, ""]:
    """Mean cross entropy of a classifier's output, or ValueError where it is none."""
    if not isinstance(output, Tensor) or output.dim() != 2:
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(f"the loss needs a classifier's output of shape (n, classes), but the model gives {shape}")
    if labels.min() < 0 or labels.max() >= output.shape[1]:
        raise ValueError(f"labels must lie in 0..{output.shape[1] - 1}, the model's classes: got {labels.tolist()}")
    return cross_entropy(output, labels)


def loss_gradients(model: nn.Module, images: Float[Tensor, "n ..."], labels: Int[Tensor, " n"]) -> tuple[Weights, Weights]:
    """Weights of convolutions and linear layers, and their gradients of the loss; zeros where a layer took no part."""
    held = parameters(model)
    weights = {name: held[name] for name in layers(model)}
    gradients = gradients_of(loss(functional_call(model, held, (images,)), labels), weights)
    return [weight.detach() for weight in weights.values()], gradients
