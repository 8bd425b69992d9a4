"""Search spaces: `get(name)` gives a space, `names()` lists them."""

from ncdlib.spaces.base import Space
from ncdlib.spaces.nasbench201 import NASBench201

_SPACES: dict[str, Space] = {space.name: space for space in (NASBench201(),)}


def names() -> list[str]:
    """The names of all search spaces."""
    return list(_SPACES)


def get(name: str) -> Space:
    """The search space of this name."""
    if name not in _SPACES:
        raise ValueError(f"unknown search space {name!r}: use one of {', '.join(_SPACES)}")
    return _SPACES[name]
