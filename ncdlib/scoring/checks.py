"""The arguments of `score`, each checked, completed, and moved to the model's device."""

from collections.abc import Iterable
from numbers import Integral

import torch
from torch import Tensor, nn

from ncdlib import proxies


def whole_seed(seed: object) -> int:
    """A seed as an int, or ValueError."""
    if not isinstance(seed, Integral) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        raise ValueError(f"a seed is a whole number from 0 up to, not including, 2**63: got {seed!r}")
    return int(seed)


def checked_model(model: object) -> nn.Module:
    """The network inside nn.DataParallel or torch.compile; ValueError where hooks cannot reach it or it has no weights."""
    while isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel) or hasattr(model, "_orig_mod"):
        model = model._orig_mod if hasattr(model, "_orig_mod") else model.module
    if not isinstance(model, nn.Module):
        raise ValueError(f"the model must be a torch.nn.Module, got {type(model).__name__}")
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise ValueError("a scripted or traced model takes no hooks: score the nn.Module that it was made from")
    if any(nn.parameter.is_lazy(parameter) for parameter in model.parameters()):
        raise ValueError("the model has lazy layers, whose weights do not exist yet: run it once on a batch first")
    return model


def checked_proxies(names: object) -> dict[str, proxies.Proxy]:
    """The proxies of these names that can score one model, or ValueError."""
    if not isinstance(names, Iterable) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"proxy must be a name or a list of names, got {names!r}: use {', '.join(proxies.names())}")
    definitions = {name: proxies.get(name) for name in names}
    if not definitions:
        raise ValueError(f"no proxy asked for: use one or more of {', '.join(proxies.names())}")
    for name, p in definitions.items():
        if p.reads == "ranks":
            raise ValueError(f"{name!r} ranks a set of networks: use score_space, or ask for its parts, {', '.join(p.of)}")
    return definitions


def checked_images(images: object, model: nn.Module) -> Tensor:
    """The images on the model's device, or ValueError."""
    if not isinstance(images, Tensor):
        raise ValueError(f"images must be a torch tensor, got {type(images).__name__}")
    if images.dim() < 2 or len(images) < 2:
        raise ValueError(f"images must be a batch of at least 2, (n, ...): got shape {tuple(images.shape)}")
    weight = next(model.parameters(), images)
    if images.layout != torch.strided:
        raise ValueError(f"images are of the layout {images.layout}: convert with images.to_dense()")
    if images.is_meta and not weight.is_meta:
        raise ValueError("images are on the meta device, which holds no values: give images with values")
    if not images.is_floating_point() or images.dtype != weight.dtype:
        raise ValueError(f"images are {images.dtype}, the model is {weight.dtype}: convert with images.to({weight.dtype})")
    if not images.is_meta and not images.isfinite().all():
        bad = (~images.isfinite()).sum().item()
        raise ValueError(f"images hold {bad} values that are nan or infinite: clean them before scoring")
    return (images.clone() if images.is_inference() else images).to(weight.device)


def checked_labels(labels: object, images: Tensor, needing: list[str]) -> Tensor | None:
    """The labels on the images' device where a proxy needs them, or ValueError."""
    if not needing:
        return None
    if not isinstance(labels, Tensor):
        raise ValueError(f"{needing[0]!r} needs labels: pass labels=, the class of each image, e.g. from images.labels")
    is_whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    if labels.shape != images.shape[:1] or not is_whole:
        raise ValueError(
            f"labels must be {len(images)} whole numbers, one per image: got shape {tuple(labels.shape)} of {labels.dtype}"
        )
    return (labels.clone() if labels.is_inference() else labels).to(images.device, torch.int64)
