"""Proxies of robustness: how a network compares with itself under perturbation."""

from collections.abc import Callable
from contextlib import nullcontext

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cosine_similarity

from ncdlib.proxies.gradient import gradients_of, layers, loss, magnitudes, watched, without_batchnorm


def croze(
    model: nn.Module,
    images: Float[Tensor, "n ..."],
    labels: Int[Tensor, " n"],
    strength: float = 2.0,
    epsilon: float = 0.01,
) -> float:
    """sum over layers of F * W * G: how alike outputs, weights and gradients of a clean and a robust network are.

    Ha et al. 2023 (arXiv:2306.05031), Sec. 3, with the constants of their code. c(a, b) are the cosines of two tensors
    along their first dimension, one for each place in the others, 0 where a vector vanishes. For a layer,

    - W = sum of 1 + c(w, w'): w the weight's magnitude, w' = w + strength * ||w|| g / ||g||, g the gradient of the loss;
    - F = sum of 1 + c(f, f'), over the batch: f the output for the images x, f' the robust network's for perturbed images
      x' = clamp(x - epsilon * sign(gradient of the robust network's loss by x), 0, 1);
    - G = sum of |c(g, g')|: g' the sum of the robust network's gradients on x and on x'.

    In float64, all parameters at their magnitudes and BatchNorm taken out, as in `gradient.synflow`. Larger is more
    consistent, hence better. A layer without gradient adds zero. Three passes forward and back.

    Where the paper differs from its code, this follows the code, which made the published numbers: there x' lowers the
    loss, [0, 1] cuts off most of a standardised image, and g' still holds the gradient on x, never reset. The code takes f
    where the stages or cells of two search spaces end; here f is the layer's own output, as in the paper.
    """
    with without_batchnorm(model):
        clean = magnitudes(model)
        weights = {name: clean[name] for name in layers(model)}
        images = images.detach().double().contiguous()  # float64 gains nothing by channels-last
        outputs: list[Tensor] = []
        gradients = _gradients(
            model, clean, weights, images, labels, lambda *seen: outputs.append(seen[-1].detach().clone())
        )
        robust = {name: _moved(w, g, strength) for (name, w), g in zip(weights.items(), gradients, strict=True)}
        changed = clean | robust
        images = images.requires_grad_()
        *on_clean, by_pixel = _gradients(model, changed, robust | {"the images": images}, images, labels)
        perturbed = (images.detach() - epsilon * by_pixel.sign()).clamp(0, 1)
        features = dict.fromkeys(weights, 0.0)

        def compare(name: str, layer: nn.Module, output: Tensor) -> None:
            key = f"{name}.weight".lstrip(".")
            features[key] = features.get(key, 0.0) + (1 + cosine_similarity(outputs.pop(0), output.detach(), 0)).sum()

        on_perturbed = _gradients(model, changed, robust, perturbed, labels, compare)
    score = 0.0
    for (name, w), g, a, b in zip(weights.items(), gradients, on_clean, on_perturbed, strict=True):
        alike = (1 + cosine_similarity(w.detach(), robust[name].detach(), 0)).sum()
        score += float(features[name] * alike * cosine_similarity(g, a + b, 0).abs().sum())
    return score


def _gradients(
    model: nn.Module,
    held: dict[str, Tensor],
    by: dict[str, Tensor],
    images: Float[Tensor, "n ..."],
    labels: Int[Tensor, " n"],
    see: Callable[[str, nn.Module, Tensor], None] | None = None,
) -> list[Tensor]:
    """The gradients of the loss with these parameters; `see` meets the layers' outputs, see `gradient.watched`."""
    with watched(model, see) if see else nullcontext():
        value = loss(functional_call(model, held, (images,)), labels)
    return gradients_of(value, by)


def _moved(weight: Tensor, gradient: Tensor, strength: float) -> Tensor:
    """The weight and `strength` times its length along the gradient; where there is no gradient, the weight."""
    step = weight.norm() / (gradient.norm() + 1e-30) * gradient
    return (weight + strength * step).detach().requires_grad_()
