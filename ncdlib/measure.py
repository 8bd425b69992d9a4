"""Score one model on one batch: the door to every proxy."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ncdlib import activations, masking, proxies, rescaling
from ncdlib.proxies.activation import REDUCTIONS


def score(
    model: nn.Module,
    images: Tensor,
    proxy: str | Sequence[str],
    *,
    labels: Tensor | None = None,
    alpha: float = 0.0,
    mask: str = "sample",
    norm: str | None = None,
    mode: str = "train",
    seed: int = 0,
    count: str = "once",
) -> float | dict[str, float]:
    """Score a model at hand on a batch of images: a number for one proxy, a dictionary for a list of them.

    - `images`: (n, channels, height, width), or whatever the model takes, n >= 2. A channels-last batch stays so, which
      is faster on a CPU; results then differ in the last bits of the activations.
    - `labels`: for proxies that need them; none of the present ones does.
    - `alpha`: the share of the inputs of each convolution and linear layer that SAM masks (Eq. 4); `mask`: what a draw of
      the mask is shared by, see `masking.masked`.
    - `norm`: what takes BatchNorm's place while scoring, see `rescaling.make`: "ln" is the paper's NIR. None keeps the
      network as it is.
    - `mode`: "train" normalises with the batch's own statistics, as the published code does; "eval" with the stored ones.
    - `seed`: decides the masks, and whatever the model itself draws.
    - `count`: "legacy" counts blocks named like ReLU twice, as published NWOT code does; see `activations.recorded`.

    The model is left as it was: parameters, buffers, training mode, hooks; so is the global random state. A score that a
    proxy does not define is nan. Raises ValueError for arguments that cannot be scored, and says why.
    """
    names = [proxy] if isinstance(proxy, str) else list(proxy)
    definitions = {name: proxies.get(name) for name in names}
    needed = dict.fromkeys(part for name, p in definitions.items() for part in (p.of if p.reads == "scores" else (name,)))
    if not names:
        raise ValueError(f"no proxy asked for: use one or more of {', '.join(proxies.names())}")
    if mode not in ("train", "eval"):
        raise ValueError(f"unknown mode {mode!r}: use 'train' or 'eval'")
    if count not in ("once", "legacy"):
        raise ValueError(f"unknown count {count!r}: use 'once' or 'legacy'")
    masking.check(alpha, mask)
    images = _checked(images, model)

    with (
        torch.inference_mode(False),  # inside a caller's own, tensors would have no version
        torch.no_grad(),
        _untouched(model, mode),
        rescaling.replaced(model, norm),
        masking.sam(model, alpha, mask, seed),
        _runs_on(images),
    ):
        scores: dict[str, float] = {}
        reductions = {name: REDUCTIONS[name] for name in needed if proxies.get(name).reads == "codes"}
        if reductions:
            torch.manual_seed(seed)
            summaries = list(dict.fromkeys(r.summarise for r in reductions.values()))  # proxies may share one
            with activations.recorded(model, summaries, len(images), count) as layers:
                model(images)
            if not layers:
                raise ValueError(
                    "the model ran no activation module: codes are read at modules such as nn.ReLU or nn.GELU, and a "
                    "function such as torch.relu is not seen; write activations as modules"
                )
            for name, (summarise, combine) in reductions.items():
                scores[name] = combine([(layer.summaries[summaries.index(summarise)], layer.times) for layer in layers])
        for name in [name for name in needed if name not in reductions]:
            torch.manual_seed(seed)
            scores[name] = proxies.get(name).function(model, images)
    for name, p in definitions.items():
        if p.reads == "scores":
            scores[name] = p.function(*(scores[part] for part in p.of))
    return scores[proxy] if isinstance(proxy, str) else {name: scores[name] for name in names}


def _checked(images: object, model: nn.Module) -> Tensor:
    """The images on the model's device, or ValueError."""
    if not isinstance(images, Tensor):
        raise ValueError(f"images must be a torch tensor, got {type(images).__name__}")
    if images.dim() < 2 or len(images) < 2:
        raise ValueError(f"images must be a batch of at least 2, (n, ...): got shape {tuple(images.shape)}")
    weight = next(model.parameters(), images)
    if not images.is_floating_point() or images.dtype != weight.dtype:
        raise ValueError(f"images are {images.dtype}, the model is {weight.dtype}: convert with images.to({weight.dtype})")
    if not images.is_meta and not images.isfinite().all():
        bad = (~images.isfinite()).sum().item()
        raise ValueError(f"images hold {bad} values that are nan or infinite: clean them before scoring")
    return (images.clone() if images.is_inference() else images).to(weight.device)


@contextmanager
def _runs_on(images: Tensor) -> Iterator[None]:
    """Turn what torch says of a model that cannot take the images into a ValueError that names them."""
    try:
        yield
    except RuntimeError as error:
        raise ValueError(f"the model cannot run on images of shape {tuple(images.shape)}: {error}") from error


@contextmanager
def _untouched(model: nn.Module, mode: str) -> Iterator[None]:
    """Put the model in a mode, and give it back its modes, buffers and the global random state afterwards."""
    modules = list(model.modules())
    training = [module.training for module in modules]
    # A normalisation layer that tracks no statistics uses the batch's own, and leaves its buffers alone.
    tracking = [m for m in modules if isinstance(m, nn.modules.batchnorm._NormBase) and m.track_running_stats]
    others = [m for m in modules if not isinstance(m, nn.modules.batchnorm._NormBase)]
    buffers = [(m, key, b, b._version, b.clone()) for m in others for key, b in m._buffers.items() if b is not None]
    devices = {p.device.index for p in model.parameters() if p.is_cuda} if torch.cuda.is_available() else ()
    with torch.random.fork_rng(devices):
        try:
            for module, was in zip(modules, training, strict=True):
                if was != (mode == "train"):  # setting an attribute of a module is dear
                    module.training = not was
            if mode == "train":
                for module in tracking:
                    module.track_running_stats = False
            yield
        finally:
            for module in tracking:
                module.track_running_stats = True
            for module, was in zip(modules, training, strict=True):
                if module.training != was:
                    module.training = was
            for module, key, buffer, version, copy in buffers:
                module._buffers[key] = buffer
                if buffer._version != version:
                    buffer.data.copy_(copy)
