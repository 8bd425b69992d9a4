"""The process that scores: one thread, memory that it keeps, and an end with the run that started it."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
import ctypes
from functools import lru_cache
import gc
import multiprocessing
import os
import platform
import random
from threading import RLock, Thread
import time

import numpy as np
import torch

WATCH_SECONDS = 0.5
ALONE = RLock()  # random states, the number of threads and the hooks of a model belong to the process, not to a thread


def seed_all(seed: int) -> None:
    """Seed all that a model may draw from: torch, numpy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


@contextmanager
def random_states_kept(devices: Iterable[int]) -> Iterator[None]:
    """Give back the random states of torch, of these GPUs, of numpy and of Python afterwards."""
    numpys, pythons = np.random.get_state(), random.getstate()
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        np.random.set_state(numpys)
        random.setstate(pythons)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one torch thread: the sums, and so the scores, do not depend on the machine's cores.

    Freed memory stays with the process from here on (glibc only): activations come and go by the hundred megabytes, and a
    quarter of a pass would otherwise be spent on asking the system for pages.
    """
    threads, collects = torch.get_num_threads(), gc.isenabled()
    _keep_freed_memory()
    torch.set_num_threads(1)
    gc.disable()  # it would run many times while a network of some hundred modules is built, and find nothing
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if collects:
            gc.enable()


@lru_cache(maxsize=1)
def _keep_freed_memory() -> None:
    if platform.libc_ver()[0] == "glibc":
        m_trim_threshold, m_mmap_max = -1, -4  # malloc.h
        libc = ctypes.CDLL(None)
        libc.mallopt(m_trim_threshold, 2**31 - 1)
        libc.mallopt(m_mmap_max, 0)


@lru_cache(maxsize=1)
def end_with(parent: int) -> None:
    """In a local worker process of joblib: end as soon as the process that started it, `parent`, has ended.

    Without this the workers of a run that was killed keep their memory for minutes. The workers of a cluster have
    another parent, which looks after them.
    """
    if not multiprocessing.current_process().name.startswith("LokyProcess") or os.getpid() == parent:
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_SECONDS)
        os._exit(1)  # whatever the main thread is doing

    Thread(target=watch, daemon=True).start()
