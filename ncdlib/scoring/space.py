"""Score a search space into a table: parallel, resumable, the same whoever computes it.

Inside `joblib.parallel_config(backend=...)` the work goes to that backend, so that the same call runs on a cluster:

    client = dask.distributed.Client("tcp://scheduler:8786")  # the extra `dask`
    with joblib.parallel_config(backend="dask"):
        ncdlib.score_space(...)

    ray.init(address="auto"); ray.util.joblib.register_ray()  # the extra `ray`
    with joblib.parallel_config(backend="ray"):
        ncdlib.score_space(...)

Give every core a worker process of one thread (`dask worker ... --nworkers auto --nthreads 1`): the networks of one process
are scored one after another. Only the caller reads and writes the score file.

- Dask gives the unfinished networks of a worker that died to the others. After a network has killed four workers (out of
  memory), Dask drops it and joblib hangs: interrupt the call, finished rows are saved.
- Ray returns rows in portions of thirty networks per worker.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
import math
import os
from pathlib import Path
import time
import warnings

import joblib
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from ncdlib import images as images_
from ncdlib import proxies as registry
from ncdlib import spaces
from ncdlib.scoring.file import KEYS, opened
from ncdlib.scoring.model import ALONE, Setting, evaluate
from ncdlib.scoring.process import end_with, one_thread
from ncdlib.scoring.request import Conditions, Network, Request, checked_jobs, request

SAVE_SECONDS = 5.0


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
    - `out`: a parquet file. Rows that it holds are not computed again, new ones are added every few seconds, and the file
      is whole at any moment. A file made with other settings is refused, and so is one that another run is writing.
    - `jobs`: local processes of one thread each; by default one for each core, or a single one with a GPU. For a cluster
      see the module's docstring.

    Proxies that need labels get those of `images.labels`. A proxy that combines the ranks of others, as az_nas, ranks the
    architectures of this call; the file holds what it combines.

    The result depends neither on `jobs` nor on the order of the architectures. Columns: `file.KEYS` and `score`, the rows
    in the order asked for.
    """
    choices = {"norm": norms, "activation": activations, "init": inits}
    asked = request(
        space, archs, proxies, alphas, seeds, choices, inputs, size, device,
        batch=batch, mask=mask, mode=mode, count=count, resolution=resolution, channels_last=channels_last,
    )  # fmt: skip
    wanted, jobs = asked.keys(asked.computed), checked_jobs(jobs)
    with opened(out, asked.conditions.settings, {"size": asked.space.sizes}, wanted) as file:
        missing = file.missing(wanted)
        _compute(_tasks(asked, missing), jobs, asked.conditions.device, len(missing), progress, file.add)
        scores = file.rows.set_index(list(KEYS)).loc[wanted].reset_index()
    scores = pd.concat([scores, *(_ranks(scores, proxy) for proxy in asked.ranked)])
    scores = scores.set_index(list(KEYS)).loc[asked.keys(asked.proxies)].reset_index()
    _warn_of_lost(scores)
    return scores


def _warn_of_lost(scores: pd.DataFrame) -> None:
    lost = scores[~np.isfinite(scores["score"])].groupby("proxy").size()
    if len(lost):
        told = ", ".join(f"{proxy}: {number}" for proxy, number in lost.items())
        warnings.warn(f"scores that are not finite, of {len(scores)}: {told}", stacklevel=3)


def _tasks(asked: Request, missing: Iterable[tuple]) -> list:
    """A call of `_score_network` for each network with missing rows, in the order asked for."""
    todo: dict[Network, dict[float, list[str]]] = {}
    for _, arch, proxy, alpha, norm, activation, init, kind, _, seed in missing:
        todo.setdefault(Network(arch, norm, activation, init, kind, seed), {}).setdefault(alpha, []).append(proxy)
    score = joblib.delayed(_score_network)
    common = asked.conditions, os.getpid()
    return [score(asked.space, asked.archs[n.arch], n, todo[n], *common) for n in asked.networks if n in todo]


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
    """Run the tasks with any joblib backend; save the first rows at once and the others every few seconds."""
    if jobs is None:
        local = isinstance(joblib.parallel.get_active_backend()[0], joblib.parallel.LokyBackend)
        jobs = (1 if device.startswith("cuda") else joblib.cpu_count()) if local else -1
    rows: list[tuple] = []
    saved = -math.inf  # the first rows are saved at once
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
    conditions: Conditions,
    caller: int,
) -> list[tuple]:
    """The rows of one network: it is built once and scored at each alpha."""
    end_with(caller)
    name, norm, activation, init, kind, seed = network
    batch, size, device = conditions.batch, conditions.size, conditions.device
    given = {"norm": norm, "activation": activation, "init": init, **size}
    images = _batch(kind, batch, seed, conditions.resolution, conditions.channels_last).to(device)
    labels = images_.labels(kind, batch, seed, size["classes"])
    rows = []
    with ALONE, one_thread(), torch.autocast(images.device.type, enabled=False):
        structure = {p for names in work.values() for p in names if registry.get(p).reads == "structure"}
        if structure:  # all of the network, but no memory and no arithmetic
            with torch.device("meta"):
                whole = space.build(arch, **given)
            counted = evaluate(whole, images.to("meta"), sorted(structure), None, Setting())
        if any(set(names) - structure for names in work.values()):
            torch.manual_seed(seed)
            # A network without dead ends serves all but the legacy count, which looks at whole blocks.
            net = space.build(arch, **given, complete=conditions.count == "legacy")
            net = net if device == "cpu" else net.to(device)
        for alpha, names in work.items():
            run = [proxy for proxy in names if proxy not in structure]
            setting = Setting(alpha, conditions.mask, None, conditions.mode, seed, conditions.count)
            scores = evaluate(net, images, run, labels, setting) if run else {}
            scores |= {proxy: counted[proxy] for proxy in names if proxy in structure}
            key = (alpha, norm, activation, init, kind, batch, seed)
            rows += [(space.name, name, proxy, *key, value) for proxy, value in scores.items()]
    return rows


@lru_cache(maxsize=16)
def _batch(kind: str, n: int, seed: int, resolution: int, channels_last: bool) -> Tensor:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return images_.batch(kind, n, seed, resolution).contiguous(memory_format=layout)
