"""Score a search space into a table: parallel, resumable, the same whoever computes it."""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
import ctypes
from functools import lru_cache
import gc
import inspect
from itertools import product
from pathlib import Path
import platform
import time
from typing import Any, NamedTuple
import warnings

import joblib
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from ncdlib import images as images_
from ncdlib import masking, spaces
from ncdlib import proxies as registry
from ncdlib.measure import score
from ncdlib.table import KEYS, opened

WAVE_SECONDS = 5.0


class Network(NamedTuple):
    """A network to build: everything that a row's key says of it."""

    arch: str
    norm: str
    activation: str
    init: str
    input: str
    seed: int


def score_space(
    space: str | spaces.Space,
    archs: Iterable[Hashable],
    proxies: Sequence[str] = ("nwot", "swap"),
    alphas: Sequence[float] = (0.0,),
    norms: Sequence[str | None] = (None,),
    seeds: Sequence[int] = (0,),
    *,
    activations: Sequence[str | None] = (None,),
    inits: Sequence[str | None] = (None,),
    inputs: Sequence[str] = ("gaussian",),
    batch: int = 32,
    resolution: int = 32,
    size: dict[str, int] | None = None,
    mask: str = "sample",
    mode: str = "train",
    count: str = "once",
    channels_last: bool = True,
    device: str | None = None,
    out: str | Path | None = None,
    jobs: int | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Score architectures of a space: one row for each combination of architecture, proxy and setting.

    A network is built once for each (arch, norm, activation, init, input, seed), its weights decided by the seed, and
    scored at every alpha. A row is what `torch.manual_seed(seed)`, `space.build`, `images.batch` and `score` give by hand,
    in one thread, on a channels-last batch (or not, with `channels_last=False`).

    - None among norms, activations and inits is the space's own. `size` goes to `space.build`, `resolution` to the images.
    - `out`: a parquet file. Rows that stand in it are not computed again, new ones are added every few seconds, and the
      file is whole at any moment. A file made with other settings is refused, and so is one that another run is writing.
    - `jobs`: local processes of one thread each; by default one a core, or a single one with a GPU. Inside
      `joblib.parallel_config(backend=...)` the work goes to that backend.

    The result depends neither on `jobs` nor on the order of the architectures. Columns: `table.KEYS` and `score`, the rows
    in the order asked for.
    """
    space = spaces.get(space) if isinstance(space, str) else space
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    size = size or {}
    for name in proxies:
        registry.get(name)
    for alpha in alphas:
        masking.check(alpha, mask)
    if batch < 2:
        raise ValueError(f"a batch has at least 2 images, got {batch}")
    parsed = [space.parse(arch) if isinstance(arch, str) else arch for arch in archs]
    by_string = {str(arch): arch for arch in parsed}
    own = {name: p.default for name, p in inspect.signature(space.build).parameters.items()}
    sizes = [name for name in own if name not in ("arch", "norm", "activation", "init", "complete")]
    for name in size.keys() - set(sizes):
        raise ValueError(f"{space.name} has no size {name!r}: use {', '.join(sizes)}")
    choices = {"norm": norms, "activation": activations, "init": inits}
    resolved = [[own[name] if value is None else value for value in values] for name, values in choices.items()]
    networks = [Network(*key) for key in product(by_string, *resolved, inputs, seeds)]
    wanted = {
        (space.name, n.arch, proxy, float(alpha), n.norm, n.activation, n.init, n.input, batch, n.seed): None
        for n in networks
        for alpha in alphas
        for proxy in proxies
    }
    if not wanted:
        raise ValueError("nothing to score: give at least one architecture, proxy, alpha, norm and seed")
    shape = {"resolution": resolution, "channels_last": channels_last}
    settings = {"size": size, "mask": mask, "mode": mode, "count": count, **shape}
    with opened(out, settings) as file:
        standing = file.keys()
        todo: dict[Network, dict[float, list[str]]] = {}
        for key in (key for key in wanted if key not in standing):
            todo.setdefault(Network(key[1], *key[4:8], key[9]), {}).setdefault(key[3], []).append(key[2])
        work = [(by_string[network.arch], network, todo[network]) for network in networks if network in todo]
        how = {"mask": mask, "mode": mode, "count": count}
        tasks = [joblib.delayed(_score_network)(space, *item, batch, size, shape, how, device) for item in work]
        for rows in _in_waves(tasks, jobs, device, len(wanted) - len(standing & wanted.keys()), progress):
            file.add(rows)
        scores = file.rows.set_index(list(KEYS)).loc[list(wanted)].reset_index()
    lost = scores[~np.isfinite(scores["score"])].groupby("proxy").size()
    if len(lost):
        told = ", ".join(f"{proxy}: {number}" for proxy, number in lost.items())
        warnings.warn(f"scores that are not finite, of {len(scores)}: {told}", stacklevel=2)
    return scores


def _in_waves(tasks: list, jobs: int | None, device: str, total: int, progress: bool) -> Iterator[list[tuple]]:
    """Run the tasks, some seconds' worth at a time, and yield each wave's rows; any joblib backend serves."""
    if jobs is None:
        local = isinstance(joblib.parallel.get_active_backend()[0], joblib.parallel.LokyBackend)
        jobs = (1 if device == "cuda" else joblib.cpu_count()) if local else -1
    wave = 8 * joblib.effective_n_jobs(jobs)
    done = 0
    with (
        joblib.Parallel(n_jobs=jobs, batch_size=1, pre_dispatch="all") as parallel,
        tqdm(total=total, unit="score", disable=not progress or not tasks) as bar,
    ):
        while done < len(tasks):
            began = time.monotonic()
            rows = [row for result in parallel(tasks[done : done + wave]) for row in result]
            yield rows
            bar.update(len(rows))
            done += wave
            wave = max(joblib.effective_n_jobs(jobs), min(4 * wave, int(wave * WAVE_SECONDS / (time.monotonic() - began))))


def _score_network(
    space: spaces.Space,
    arch: Hashable,
    network: Network,
    work: dict[float, list[str]],
    batch: int,
    size: dict[str, int],
    shape: dict[str, Any],
    how: dict[str, Any],
    device: str,
) -> list[tuple]:
    """The rows of one network: it is built once and scored at each alpha."""
    name, norm, activation, init, kind, seed = network
    given = {"norm": norm, "activation": activation, "init": init, **size}
    images = _batch(kind, batch, seed, **shape).to(device)
    key = (norm, activation, init, kind, batch, seed)
    rows = []
    with one_thread():
        structure = {p for names in work.values() for p in names if registry.get(p).reads == "structure"}
        if structure:  # all of the network, but no memory and no arithmetic
            with torch.device("meta"):
                whole = space.build(arch, **given)
            counted = score(whole, images.to("meta"), sorted(structure))
        if any(set(names) - structure for names in work.values()):
            torch.manual_seed(seed)
            # A network without dead ends serves all but the legacy count, which looks at whole blocks.
            net = space.build(arch, **given, complete=how["count"] == "legacy")
            net = net if device == "cpu" else net.to(device)
        for alpha, names in work.items():
            run = [proxy for proxy in names if proxy not in structure]
            scores = score(net, images, run, alpha=alpha, seed=seed, **how) if run else {}
            scores |= {proxy: counted[proxy] for proxy in names if proxy in structure}
            rows += [(space.name, name, proxy, alpha, *key, value) for proxy, value in scores.items()]
    return rows


@lru_cache(maxsize=16)
def _batch(kind: str, n: int, seed: int, resolution: int, channels_last: bool) -> Tensor:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return images_.batch(kind, n, seed, resolution).contiguous(memory_format=layout)


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
