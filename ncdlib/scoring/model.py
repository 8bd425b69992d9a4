"""Score one model on one batch, by any of the proxies."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
import math
from typing import NamedTuple
import warnings

import pandas as pd
import torch
from torch import Tensor, nn

from ncdlib import activations, masking, proxies, rescaling
from ncdlib.proxies.activation import REDUCTIONS
from ncdlib.proxies.gradient import NotFinite, loss_gradients
from ncdlib.scoring.checks import checked_images, checked_labels, checked_model, checked_proxies, whole_seed
from ncdlib.scoring.process import ALONE, random_states_kept, seed_all


class Method(NamedTuple):
    """How activations are changed before they are read: the share that SAM masks, and the normalisation."""

    alpha: float
    norm: str


def methods(alpha: float = 0.95) -> dict[str, Method]:
    """The paper's four ways to read a proxy: as it is, with SAM alone, with NIR alone, and with both, NCD."""
    return {"plain": Method(0.0, "bn"), "SAM": Method(alpha, "bn"), "NIR": Method(0.0, "ln"), "NCD": Method(alpha, "ln")}


def with_methods(table: pd.DataFrame, alpha: float = 0.95) -> pd.DataFrame:
    """The rows of a score table that belong to the four `methods`, in their order, with a column `method`.

    ValueError where the table has no row of a method, or is no score table.
    """
    if not isinstance(table, pd.DataFrame) or not {"alpha", "norm"} <= {*table.columns}:
        raise ValueError(f"with_methods takes a score table, as score_space gives: got {type(table).__name__}")
    found = []
    for name, method in methods(alpha).items():
        rows = table[(table.alpha == method.alpha) & (table.norm == method.norm)]
        if rows.empty:
            raise ValueError(f"the table has no score of {name}, alpha = {method.alpha} and norm = {method.norm!r}")
        found.append(rows.assign(method=name))
    return pd.concat(found, ignore_index=True)


@dataclass(frozen=True)
class Setting:
    """How a model runs while it is scored; see `score`. ValueError where a value is none of those that it lists."""

    alpha: float = 0.0
    mask: str = "sample"
    norm: str | None = None
    mode: str = "train"
    seed: int = 0
    count: str = "once"

    def __post_init__(self) -> None:
        masking.check(self.alpha, self.mask)
        if self.mode not in ("train", "eval"):
            raise ValueError(f"unknown mode {self.mode!r}: use 'train' or 'eval'")
        if self.count not in ("once", "legacy"):
            raise ValueError(f"unknown count {self.count!r}: use 'once' or 'legacy'")

    @contextmanager
    def applied(self, model: nn.Module, images: Tensor, masks: bool = True) -> Iterator[None]:
        """The model as it is to be scored, at the same draws each time: what runs before does not matter."""
        with (
            ALONE,
            torch.inference_mode(False),  # inside a caller's own, tensors would have no version
            torch.no_grad(),
            _untouched(model, self.mode),
            rescaling.nir(model, self.norm),
            masking.sam(model, self.alpha if masks else 0.0, self.mask, self.seed),
            _runs_on(model, images),
        ):
            seed_all(self.seed)
            yield


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
    """Score a model on a batch of images: a number for one proxy, a dictionary for a list of them.

    - `images`: (n, channels, height, width), or whatever the model takes, n >= 2. A channels-last batch stays so, which
      is faster on a CPU; results then differ in the last bits of the activations.
    - `labels`: (n,), the class of each image, for proxies that need them: see `proxies.PROXIES`.
    - `alpha`: the share of the inputs of each convolution, linear layer and attention that SAM masks (Eq. 4); `mask`: what
      a draw of the mask is shared by, see `masking.masked`.
    - `norm`: what takes BatchNorm's place while scoring, see `rescaling.make`: "ln" is the paper's NIR. None keeps the
      network as it is.
    - `mode`: "train" normalises with the batch's own statistics, as the published code does; "eval" with the stored ones.
    - `seed`: decides the masks, and whatever the model itself draws.
    - `count`: "legacy" counts blocks named like ReLU twice, as published NWOT code does; see `activations.record_codes`.

    The model is left as it was: parameters, buffers, training mode, hooks; so is the global random state of torch, numpy
    and Python. Threads that score wait for each other. A score that a proxy does not define is nan. Raises ValueError for
    arguments that cannot be scored, and says why; warns where codes miss activations, or masks miss convolutions, that the
    model calls as functions. The table "What models work" in `notebooks/reference.md` says which models can be scored.
    """
    names = [proxy] if isinstance(proxy, str) else proxy
    setting = Setting(alpha, mask, norm, mode, whole_seed(seed), count)
    scores = evaluate(checked_model(model), images, names, labels, setting, functions=count == "once")
    return scores[proxy] if isinstance(proxy, str) else scores


def evaluate(
    model: nn.Module,
    images: object,
    names: object,
    labels: object,
    setting: Setting,
    functions: bool = False,
) -> dict[str, float]:
    """`score` for a list of proxies; `functions` looks for activations that codes miss, which takes time."""
    definitions = checked_proxies(names)
    needed = {name: proxies.get(name) for name in proxies.parts(definitions)}
    images = checked_images(images, model)
    labels = checked_labels(labels, images, [name for name, p in needed.items() if p.labels])
    reads = {kind: [name for name, p in needed.items() if p.reads == kind] for kind in ("codes", "gradients")}
    scores: dict[str, float] = {}
    if reads["codes"]:
        with setting.applied(model, images):
            scores |= _by_codes(model, images, reads["codes"], setting, functions)
    if reads["gradients"]:
        with _nan_where_not_finite(scores, reads["gradients"]), setting.applied(model, images), torch.enable_grad():
            weights, gradients = loss_gradients(model, images, labels)
            scores |= {name: needed[name].function(weights, gradients) for name in reads["gradients"]}
    for name, p in needed.items():
        if p.reads == "structure":
            with setting.applied(model, images, masks=False):
                scores[name] = p.function(model, images)
        elif p.reads == "network":
            with _nan_where_not_finite(scores, [name]), setting.applied(model, images), torch.enable_grad():
                scores[name] = p.function(model, images, *([labels] if p.labels else []))
    for name, p in definitions.items():
        if p.reads == "scores":
            scores[name] = p.function(*(scores[part] for part in p.of))
    return {name: scores[name] for name in names}


def _by_codes(model: nn.Module, images: Tensor, names: list[str], setting: Setting, functions: bool) -> dict[str, float]:
    """The scores of the proxies that read activation codes, all from one forward pass."""
    reductions = {name: REDUCTIONS[name] for name in names}
    summaries = list(dict.fromkeys(r.summarise for r in reductions.values()))  # proxies may share one
    n = len(images)
    watch = activations.functions_called(model, n) if functions else nullcontext(())
    masks = functions and setting.alpha > 0
    watch_masks = activations.functions_called(model, n, masking.FUNCTIONS, masking.LAYERS) if masks else nullcontext(())
    with watch as unseen, watch_masks as unmasked, activations.record_codes(model, summaries, n, setting.count) as layers:
        model(images)
    if functions:  # neither codes nor masks reach into a recurrent layer
        recurrent = {type(m).__name__ for m in model.modules() if isinstance(m, nn.RNNBase | nn.RNNCellBase)}
        unseen, unmasked = recurrent.union(unseen), recurrent.union(unmasked) if masks else unmasked
    if not layers:
        called = f" (it called {', '.join(sorted(unseen))})" if unseen else ""
        raise ValueError(
            "the model ran no activation module: codes are read at modules such as nn.ReLU or nn.GELU, and a "
            f"function such as torch.relu is not seen{called}; write activations as modules"
        )
    if unseen:
        warnings.warn(
            f"the model calls activations as functions ({', '.join(sorted(unseen))}), which codes do not hold: the score "
            "reads its activation modules alone; write activations as modules such as nn.ReLU",
            stacklevel=4,
        )
    if unmasked:
        warnings.warn(
            f"the model calls layers as functions ({', '.join(sorted(unmasked))}), whose inputs SAM does not mask: write "
            "them as modules such as nn.Conv2d",
            stacklevel=4,
        )
    return {
        name: combine([(layer.summaries[summaries.index(summarise)], layer.times) for layer in layers])
        for name, (summarise, combine) in reductions.items()
    }


@contextmanager
def _nan_where_not_finite(scores: dict[str, float], names: list[str]) -> Iterator[None]:
    """Where a gradient is not finite, the proxies that read it have no score: say where, and go on."""
    try:
        yield
    except NotFinite as error:
        warnings.warn(f"{', '.join(names)}: {error}: the score is nan", stacklevel=5)
        scores.update(dict.fromkeys(names, math.nan))


@contextmanager
def _runs_on(model: nn.Module, images: Tensor) -> Iterator[None]:
    """Turn what torch says of a model that cannot take the images into a ValueError that names them."""
    try:
        yield
    except (RuntimeError, TypeError) as error:  # TypeError: a model that takes more than images
        told = "; on the meta device only params and flops can be scored" if images.is_meta else ""
        if any(p.is_inference() for p in model.parameters()):
            told = "; its weights were made in inference mode, where no gradient is taken: score copy.deepcopy(model)"
        raise ValueError(f"the model cannot run on images of shape {tuple(images.shape)}: {error}{told}") from error


@contextmanager
def _untouched(model: nn.Module, mode: str) -> Iterator[None]:
    """Put the model in a mode, and give it back its modes, buffers and the global random state afterwards."""
    modules = list(model.modules())
    training = [module.training for module in modules]
    holding = [module for module in modules if module._buffers]
    # A normalisation layer that tracks no statistics uses the batch's own, and leaves its buffers alone.
    tracking = [m for m in holding if isinstance(m, nn.modules.batchnorm._NormBase) and m.track_running_stats]
    others = [m for m in holding if not isinstance(m, nn.modules.batchnorm._NormBase)]
    buffers = [(m, key, b, b._version, b.clone()) for m in others for key, b in m._buffers.items() if b is not None]
    devices = {p.device.index for p in model.parameters() if p.is_cuda} if torch.cuda.is_available() else ()
    with random_states_kept(devices):
        try:
            for module, was in zip(modules, training, strict=True):
                if was != (mode == "train"):  # setting an attribute of a module is slow
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
