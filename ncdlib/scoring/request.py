"""What a call of `score_space` asks for: its arguments, checked and completed before anything is computed."""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from numbers import Integral
from typing import Any, NamedTuple

import torch

from ncdlib import masking, spaces
from ncdlib import proxies as registry
from ncdlib.scoring.checks import whole_seed
from ncdlib.scoring.model import Setting


class Network(NamedTuple):
    """A network to build: everything that a row's key says of it."""

    arch: str
    norm: str
    activation: str
    init: str
    input: str
    seed: int


@dataclass(frozen=True)
class Conditions:
    """What all rows of a call share."""

    batch: int
    size: dict[str, Any]  # complete
    mask: str
    mode: str
    count: str
    resolution: int
    channels_last: bool
    device: str

    @property
    def settings(self) -> dict[str, Any]:
        """What a row's key does not say."""
        return {name: value for name, value in vars(self).items() if name not in ("batch", "device")}


@dataclass(frozen=True)
class Request:
    """The rows that a call asks for: every proxy at every alpha on every network."""

    space: spaces.Space
    archs: dict[str, Hashable]  # by their strings
    proxies: tuple[str, ...]
    alphas: tuple[float, ...]
    networks: tuple[Network, ...]
    conditions: Conditions

    @property
    def ranked(self) -> list[str]:
        """The proxies that rank the architectures of the call by others' scores."""
        return [proxy for proxy in self.proxies if registry.get(proxy).reads == "ranks"]

    @property
    def computed(self) -> list[str]:
        """The proxies that are scored network by network: those asked for, and what the ranked ones combine."""
        asked = [proxy for proxy in self.proxies if proxy not in self.ranked]
        return list(dict.fromkeys(asked + registry.parts(self.ranked)))

    def keys(self, proxies: Iterable[str]) -> list[tuple]:
        """The distinct keys of the rows of these proxies, in the order asked for."""
        keys = (
            (self.space.name, n.arch, proxy, alpha, n.norm, n.activation, n.init, n.input, self.conditions.batch, n.seed)
            for n in self.networks
            for alpha in self.alphas
            for proxy in proxies
        )
        return list(dict.fromkeys(keys))


def request(
    space: object,
    archs: object,
    proxies: object,
    alphas: object,
    seeds: object,
    choices: Mapping[str, object],
    inputs: object,
    size: object,
    device: object,
    **shared: object,
) -> Request:
    """The request of a call, or ValueError that names the argument and says what it takes.

    `choices`: the norms, activations and inits, by the names that `Space.build` has for them. `shared`: the fields of
    `Conditions` that are left.
    """
    space = spaces.get(space)
    by_string = {str(arch): arch for arch in (space.checked(arch) for arch in _several("archs", archs))}
    resolved = [
        [getattr(space, name) if value is None else value for value in _names(f"{name}s", values, none=True)]
        for name, values in choices.items()
    ]
    seeds_of = _seeds(seeds, by_string)
    networks = dict.fromkeys(
        Network(arch, *key, seed)
        for arch in by_string
        for key in product(*resolved, _names("inputs", inputs))
        for seed in seeds_of[arch]
    )
    proxies = _names("proxies", proxies)
    for name in proxies:
        if registry.get(name).reads == "ranks" and isinstance(seeds, Mapping):
            raise ValueError(f"{name!r} ranks architectures scored with the same seed: give one list of seeds for all")
    for name, least in {"batch": 2, "resolution": 1}.items():
        shared[name] = _whole(name, shared[name], least)
    if not isinstance(shared["channels_last"], bool):
        raise ValueError(f"channels_last must be True or False, got {shared['channels_last']!r}")
    conditions = Conditions(**shared, size=_size(space, size), device=_device(device))
    found = Request(space, by_string, proxies, _alphas(alphas, conditions), tuple(networks), conditions)
    if not found.keys(proxies):
        raise ValueError("nothing to score: give at least one architecture, proxy, alpha, norm and seed")
    return found


def checked_jobs(jobs: object) -> int | None:
    """A number of processes as joblib takes it, or ValueError."""
    if jobs is None:
        return None
    if not isinstance(jobs, Integral) or isinstance(jobs, bool) or jobs == 0:
        raise ValueError(f"jobs must be a number of processes, or -1 for one a core, or None: got {jobs!r}")
    return int(jobs)


def _several(name: str, values: object) -> tuple:
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise ValueError(f"{name} takes a list, got {values!r}: write {name}=[{values!r}]")
    return tuple(values)


def _names(name: str, values: object, none: bool = False) -> tuple:
    values = _several(name, values)
    for value in values:
        if not isinstance(value, str) and not (none and value is None):
            raise ValueError(f"{name} takes names{' or None' if none else ''}, got {value!r}")
    return values


def _whole(name: str, value: object, least: int) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return int(value)


def _seeds(seeds: object, archs: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """The seeds of each architecture."""
    if not isinstance(seeds, Mapping):
        return dict.fromkeys(archs, tuple(whole_seed(seed) for seed in _several("seeds", seeds)))
    for arch in archs:
        if arch not in seeds:
            raise ValueError(
                f"seeds name none for {arch}: give each architecture its own, by its string, or one list for all"
            )
    return {arch: tuple(whole_seed(seed) for seed in _several("seeds", seeds[arch])) for arch in archs}


def _alphas(alphas: object, conditions: Conditions) -> tuple[float, ...]:
    """Masked shares, to 12 digits, so that 0.1 * 3 and 0.3 are one; the setting of each is checked."""
    alphas = _several("alphas", alphas)
    for alpha in alphas:
        masking.check(alpha, conditions.mask)
    rounded = tuple(round(float(alpha), 12) for alpha in alphas)
    for alpha in rounded:
        Setting(alpha, conditions.mask, mode=conditions.mode, count=conditions.count)
    return rounded


def _size(space: spaces.Space, size: object) -> dict[str, Any]:
    """All sizes as `build` takes them."""
    size = {} if size is None else size
    if not isinstance(size, Mapping):
        raise ValueError(f"size must be a dictionary, of {', '.join(space.sizes)}: got {size!r}")
    for name in size:
        if name not in space.sizes:
            raise ValueError(f"{space.name} has no size {name!r}: use {', '.join(space.sizes)}")
    own = {name: int(v) if isinstance(v, Integral) and not isinstance(v, bool) else v for name, v in size.items()}
    return {**space.sizes, **own}


def _device(device: object) -> str:
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except (RuntimeError, TypeError):
        raise ValueError(f"unknown device {device!r}: use 'cpu' or 'cuda'") from None
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"device {device!r} cannot score: use 'cpu' or 'cuda'")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {device!r} asked for, but torch sees no GPU: use device='cpu'")
    return str(torch.device(device))
