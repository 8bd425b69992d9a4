"""Does the rank correlation of activation-based zero-cost proxies turn negative, and does NCD mend it?

A reproduction of "Beyond the Limits: Overcoming Negative Correlation of Activation-Based Training-Free NAS" (ICCV 2025).
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what __getattr__ gives, for editors and type checkers
    from ncdlib import benchmarks, images, proxies, search, spaces, statistics
    from ncdlib.scoring import score, score_space

__all__ = ["benchmarks", "images", "proxies", "score", "score_space", "search", "spaces", "statistics"]


def __getattr__(name: str) -> object:
    """A part of the library, imported when it is first used: a table of results needs no torch, a score no parquet."""
    if name in ("score", "score_space"):
        return getattr(import_module("ncdlib.scoring"), name)
    if not name.startswith("_") and find_spec(f"ncdlib.{name}"):
        return import_module(f"ncdlib.{name}")
    raise AttributeError(f"module 'ncdlib' has no attribute {name!r}: it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__
