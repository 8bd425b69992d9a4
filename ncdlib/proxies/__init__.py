"""Zero-cost proxies: one name, one function. Larger is better, unless a proxy's page says otherwise."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ncdlib.proxies import activation, complexity


@dataclass(frozen=True)
class Proxy:
    """A proxy: its definition, and what that is a function of.

    - `"codes"`: the activation codes of one forward pass, shared by all proxies of this kind; see `activation.REDUCTIONS`.
    - `"structure"`: the model and the shape of its images, so that the meta device serves.
    - `"scores"`: other proxies' scores, named by `of`.
    """

    function: Callable[..., float]
    reads: Literal["codes", "structure", "scores"]
    of: tuple[str, ...] = ()


PROXIES: dict[str, Proxy] = {
    "nwot": Proxy(activation.nwot, "codes"),
    "swap": Proxy(activation.swap, "codes"),
    "regularised_swap": Proxy(activation.regularised_swap, "scores", of=("swap", "params")),
    "hamming": Proxy(activation.hamming, "codes"),
    "units": Proxy(activation.units, "codes"),
    "params": Proxy(complexity.params, "structure"),
    "flops": Proxy(complexity.flops, "structure"),
}


def names() -> list[str]:
    """The names of all proxies."""
    return list(PROXIES)


def get(name: str) -> Proxy:
    """The proxy of this name."""
    if name not in PROXIES:
        raise ValueError(f"unknown proxy {name!r}: use one of {', '.join(PROXIES)}")
    return PROXIES[name]
