"""Search spaces: `get(name)` gives a space, `names()` lists them."""

from ncdlib.spaces import autoformer
from ncdlib.spaces.base import Space
from ncdlib.spaces.darts import DARTS
from ncdlib.spaces.mobilenet import MobileNet, MobileNetV2
from ncdlib.spaces.nasbench101 import NASBench101
from ncdlib.spaces.nasbench201 import NASBench201
from ncdlib.spaces.robustdarts import S1, S2, S3, S4
from ncdlib.spaces.transnas import TransNASMacro, TransNASMicro

__all__ = ["Space", "get", "names"]

_SPACES: dict[str, Space] = {
    space.name: space
    for space in (
        NASBench201(),
        NASBench101(),
        TransNASMicro(),
        TransNASMacro(),
        DARTS(),
        *(S1(), S2(), S3(), S4()),
        *(MobileNet(), MobileNetV2()),
        *(autoformer.AutoFormer(size) for size in autoformer.CHOICES),
    )
}


def names() -> list[str]:
    """The names of all search spaces."""
    return list(_SPACES)


def get(name: object) -> Space:
    """The search space of this name; a space is returned as it is."""
    if isinstance(name, Space):
        return name
    if name not in names():
        raise ValueError(f"unknown search space {name!r}: use one of {', '.join(_SPACES)}")
    return _SPACES[name]
