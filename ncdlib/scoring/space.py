"""Score a search space into a table: parallel, resumable, the same whoever computes it."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
import ctypes
from functools import lru_cache
import gc
import inspect
from itertools import product
from pathlib import Path
import platform
from threading import Lock
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
from ncdlib.scoring.file import KEYS, opened
from ncdlib.scoring.model import score

SAVE_SECONDS = 5.0
_ALONE = Lock()  # the seed, the number of threads and the garbage collector belong to the process, not to a thread of it


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
    seeds: Sequence[int] | Mapping[str, Sequence[int]] = (0,),
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

    - `seeds`: the same for all, or a mapping from each architecture's string to its own.
    - None among norms, activations and inits is the space's own. `size` goes to `space.build`, `resolution` to the images.
    - `out`: a parquet file. Rows that stand in it are not computed again, new ones are added every few seconds, and the
      file is whole at any moment. A file made with other settings is refused, and so is one that another run is writing.
    - `jobs`: local processes of one thread each; by default one a core, or a single one with a GPU. Inside
      `joblib.parallel_config(backend=...)` the work goes to that backend, so that the same call runs on a cluster:

          client = dask.distributed.Client("tcp://scheduler:8786")  # the extra `dask`
          with joblib.parallel_config(backend="dask"):
              ncdlib.score_space(...)

          ray.init(address="auto"); ray.util.joblib.register_ray()  # the extra `ray`
          with joblib.parallel_config(backend="ray"):
              ncdlib.score_space(...)

      Give every core a worker process of one thread (`dask worker ... --nworkers auto --nthreads 1`): the networks of one
      process are scored one after another. Only the caller reads and writes `out`. Dask gives the unfinished networks of a
      worker that died to the others; a network that kills four workers, by its memory, is given up, and joblib waits for it
      for ever: interrupt the call, and what was computed is kept. Ray's rows come thirty networks a worker at a time.

    Proxies that need labels get those of `images.labels`. A proxy that combines the ranks of others, as az_nas, ranks the
    architectures of this call; the file holds what it combines.

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
    seeds_of = seeds if isinstance(seeds, Mapping) else dict.fromkeys(by_string, seeds)
    for arch in by_string.keys() - seeds_of.keys():
        raise ValueError(f"seeds name none for {arch}: give each architecture its own, by its string, or one list for all")
    networks = dict.fromkeys(
        Network(arch, *key, seed) for arch in by_string for key in product(*resolved, inputs) for seed in seeds_of[arch]
    )
    ranked = [proxy for proxy in proxies if registry.get(proxy).reads == "ranks"]
    if ranked and isinstance(seeds, Mapping):
        raise ValueError(f"{ranked[0]!r} ranks architectures scored with the same seed: give one list of seeds for all")
    computed = dict.fromkeys([proxy for proxy in proxies if proxy not in ranked] + registry.parts(ranked))
    settled = [(n, float(alpha)) for n in networks for alpha in alphas]

    def keys(names: Iterable[str]) -> list[tuple]:
        return [
            (space.name, n.arch, proxy, alpha, n.norm, n.activation, n.init, n.input, batch, n.seed)
            for n, alpha in settled
            for proxy in names
        ]

    wanted = dict.fromkeys(keys(computed))
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
        _compute(tasks, jobs, device, len(wanted) - len(standing & wanted.keys()), progress, file.add)
        scores = file.rows.set_index(list(KEYS)).loc[list(wanted)].reset_index()
    scores = pd.concat([scores, *(_ranks(scores, proxy) for proxy in ranked)])
    scores = scores.set_index(list(KEYS)).loc[list(dict.fromkeys(keys(proxies)))].reset_index()
    lost = scores[~np.isfinite(scores["score"])].groupby("proxy").size()
    if len(lost):
        told = ", ".join(f"{proxy}: {number}" for proxy, number in lost.items())
        warnings.warn(f"scores that are not finite, of {len(scores)}: {told}", stacklevel=2)
    return scores


def _ranks(scores: pd.DataFrame, proxy: str) -> pd.DataFrame:
    """The scores of a proxy that combines others over all architectures, for each setting by itself."""
    composite = registry.get(proxy)
    columns = scores.pivot(index=[key for key in KEYS if key != "proxy"], columns="proxy", values="score")
    settings = columns.groupby(level=[key for key in KEYS if key not in ("proxy", "arch")], sort=False)
    combined = [
        pd.Series(composite.function(*(group[part].to_numpy() for part in composite.of)), group.index, name="score")
        for _, group in settings
    ]
    return pd.concat(combined).reset_index().assign(proxy=proxy)[[*KEYS, "score"]]


def _compute(
    tasks: list, jobs: int | None, device: str, total: int, progress: bool, save: Callable[[list[tuple]], None]
) -> None:
    """Run the tasks and save their rows as they come, some seconds' worth at a time; any joblib backend serves."""
    if jobs is None:
        local = isinstance(joblib.parallel.get_active_backend()[0], joblib.parallel.LokyBackend)
        jobs = (1 if device == "cuda" else joblib.cpu_count()) if local else -1
    rows: list[tuple] = []
    saved = time.monotonic()
    with tqdm(total=total, unit="score", disable=not progress or not tasks) as bar:
        try:
            for result in _results(tasks, jobs):
                bar.update(len(result))
                rows += result
                if time.monotonic() - saved > SAVE_SECONDS:
                    save(rows)
                    rows, saved = [], time.monotonic()
        finally:
            if rows:  # what is computed is kept, whatever became of the rest
                save(rows)


def _results(tasks: list, jobs: int) -> Iterator[list[tuple]]:
    """What the tasks return, in the order in which they end where the joblib backend can tell, else some at a time (Ray)."""
    common = {"n_jobs": jobs, "batch_size": 1, "pre_dispatch": "3 * n_jobs"}
    if joblib.parallel.get_active_backend()[0].supports_return_generator:
        yield from joblib.Parallel(**common, return_as="generator_unordered")(tasks)
        return
    with joblib.Parallel(**common) as parallel:  # the workers stay from one portion to the next
        portion = 30 * joblib.effective_n_jobs(jobs)
        for start in range(0, len(tasks), portion):
            yield from parallel(tasks[start : start + portion])


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
    classes = {name: p.default for name, p in inspect.signature(space.build).parameters.items() if name == "classes"} | size
    labels = images_.labels(kind, batch, seed, classes["classes"])
    key = (norm, activation, init, kind, batch, seed)
    rows = []
    with _ALONE, one_thread():
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
            scores = score(net, images, run, labels=labels, alpha=alpha, seed=seed, **how) if run else {}
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
