"""Wall time of a call."""

from collections.abc import Callable
import time


def seconds(procedure: Callable[..., object], *arguments: object) -> float:
    """How long a call takes."""
    began = time.perf_counter()
    procedure(*arguments)
    return time.perf_counter() - began
