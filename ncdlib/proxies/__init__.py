"""Zero-cost proxies: one name, one function. Larger is better, unless its docstring says otherwise."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from ncdlib.proxies import activation, complexity, expressivity, gradient, jacobian, robustness, transformer


@dataclass(frozen=True)
class Proxy:
    """A proxy: its definition, and what that is a function of.

    - `"codes"`: the activation codes of one forward pass, shared by all proxies of this kind; see `activation.REDUCTIONS`.
    - `"gradients"`: weights and their gradients of the loss, two lists, of one forward and backward pass that all
      proxies of this kind share; see `gradient.loss_gradients`.
    - `"network"`: the model and its images, and labels where it `labels`; it runs the model as it likes, with gradients on.
    - `"structure"`: the model and the shape of its images, so that the meta device serves.
    - `"scores"`: other proxies' scores, named by `of`.
    - `"ranks"`: the scores `of` other proxies over a whole set of networks, as columns: only `score_space` knows a set.
    """

    function: Callable[..., Any]
    reads: Literal["codes", "gradients", "network", "structure", "scores", "ranks"]
    of: tuple[str, ...] = ()
    labels: bool = False


PROXIES: dict[str, Proxy] = {
    "nwot": Proxy(activation.nwot, "codes"),
    "swap": Proxy(activation.swap, "codes"),
    "regularised_swap": Proxy(activation.regularised_swap, "scores", of=("swap", "params")),
    "hamming": Proxy(activation.hamming, "codes"),
    "units": Proxy(activation.units, "codes"),
    "linear_regions": Proxy(activation.linear_regions, "codes"),
    "grad_norm": Proxy(gradient.grad_norm, "gradients", labels=True),
    "snip": Proxy(gradient.snip, "gradients", labels=True),
    "plain": Proxy(gradient.plain, "gradients", labels=True),
    "l2_norm": Proxy(gradient.l2_norm, "network"),
    "grasp": Proxy(gradient.grasp, "network", labels=True),
    "fisher": Proxy(gradient.fisher, "network", labels=True),
    "synflow": Proxy(gradient.synflow, "network"),
    "gradsign": Proxy(gradient.gradsign, "network", labels=True),
    "zico": Proxy(gradient.zico, "network", labels=True),
    "croze": Proxy(robustness.croze, "network", labels=True),
    "jacov": Proxy(jacobian.jacov, "network"),
    "epe_nas": Proxy(jacobian.epe_nas, "network", labels=True),
    "ntk": Proxy(jacobian.ntk, "network"),
    "zen": Proxy(expressivity.zen, "network"),
    "meco": Proxy(expressivity.meco, "network"),
    "az_expressivity": Proxy(expressivity.az_expressivity, "network"),
    "az_progressivity": Proxy(expressivity.az_progressivity, "network"),
    "az_trainability": Proxy(expressivity.az_trainability, "network"),
    "az_nas": Proxy(expressivity.az_nas, "ranks", of=("az_expressivity", "az_progressivity", "az_trainability", "flops")),
    "params": Proxy(complexity.params, "structure"),
    "flops": Proxy(complexity.flops, "structure"),
    "dss": Proxy(transformer.dss, "network"),
    "auto_prox": Proxy(transformer.auto_prox, "network"),
}


def names() -> list[str]:
    """The names of all proxies."""
    return list(PROXIES)


def parts(names: Iterable[str]) -> list[str]:
    """The proxies that have to be computed for these: composites give way to what they are made of."""
    found = {name: get(name) for name in names}
    return list(dict.fromkeys(part for name, proxy in found.items() for part in proxy.of or (name,)))


def get(name: str) -> Proxy:
    """The proxy of this name."""
    if name not in names():
        raise ValueError(f"unknown proxy {name!r}: use one of {', '.join(PROXIES)}")
    return PROXIES[name]
