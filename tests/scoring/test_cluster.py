"""`score_space` on a cluster: the same table, and what stands is not computed again when a worker is killed."""

from collections import Counter
from functools import partial
import os
from pathlib import Path
import signal
import time

from distributed import Client, LocalCluster
import joblib
from joblib.parallel import ThreadingBackend
import numpy as np
import pytest

import ncdlib
from ncdlib import spaces
from ncdlib.scoring import file as table
from ncdlib.scoring import space as scoring

SPACE = spaces.get("nasbench201")
RNG = np.random.default_rng(0)
ARCHS = list(dict.fromkeys(SPACE.sample(RNG) for _ in range(24)))
FATAL = str(ARCHS[6])
ENOUGH = 14  # networks that stand in the file when the worker dies
SMALL = {"batch": 6, "resolution": 16, "size": {"channels": 4, "cells_per_stage": 1}, "progress": False}
score_network = scoring._score_network


def observed(folder, *task):
    """Score a network, noting its begin and end; the first worker that meets `FATAL` is killed in the middle of it."""
    arch = task[2].arch
    note(folder, "began", arch)
    rows = score_network(*task)
    if arch == FATAL and not (folder / "killed").exists():
        (folder / "killed").touch()
        while len(table.read(folder / "scores.parquet").arch.unique()) < ENOUGH:
            time.sleep(0.05)
        note(folder, "killed", arch)
        os.kill(os.getpid(), signal.SIGKILL)
    note(folder, "ended", arch)
    return rows


def note(folder, what, arch):
    with (folder / "log").open("a") as log:  # a line that is appended at once is whole, whoever else writes
        log.write(f"{what} {os.getpid()} {arch}\n")


def notes(folder):
    return [line.split() for line in (folder / "log").read_text().splitlines()]


def test_a_worker_killed_in_the_middle_loses_nothing_and_nothing_that_stands_is_computed_again(tmp_path, monkeypatch):
    local = ncdlib.score_space(SPACE, ARCHS, jobs=1, out=tmp_path / "local.parquet", **SMALL)
    monkeypatch.setattr(scoring, "_score_network", partial(observed, tmp_path))
    monkeypatch.setattr(scoring, "SAVE_SECONDS", 0.0)
    with (
        LocalCluster(n_workers=3, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        spread = ncdlib.score_space(SPACE, ARCHS, out=tmp_path / "scores.parquet", **SMALL)
    assert spread.equals(local)
    assert (tmp_path / "scores.parquet").read_bytes() == (tmp_path / "local.parquet").read_bytes()

    log = notes(tmp_path)
    (victim,) = [pid for what, pid, _ in log if what == "killed"]
    assert len({pid for _, pid, _ in log} - {victim}) >= 2  # the others took part
    assert Counter(arch for what, _, arch in log if what == "began") == dict.fromkeys(map(str, ARCHS), 1) | {FATAL: 2}
    assert Counter(arch for what, _, arch in log if what == "ended") == dict.fromkeys(map(str, ARCHS), 1)


def test_threads_of_one_process_give_the_same_scores():
    arguments = {"alphas": (0.0, 0.5), **SMALL}
    alone = ncdlib.score_space(SPACE, ARCHS, jobs=1, **arguments)
    with joblib.parallel_config(backend="threading"):
        assert ncdlib.score_space(SPACE, ARCHS, jobs=4, **arguments).equals(alone)


class InPortions(ThreadingBackend):
    """A backend that, like Ray's, returns nothing before all is done."""

    supports_return_generator = False


def test_a_backend_that_returns_all_at_once_gets_portions_which_are_saved(tmp_path, monkeypatch):
    alone = ncdlib.score_space(SPACE, ARCHS, seeds=range(3), jobs=1, **SMALL)
    out, fails = tmp_path / "scores.parquet", str(ARCHS[-1])

    def interrupted(*task):
        if task[2].arch == fails and task[2].seed == 2:
            raise ValueError("no luck")
        return score_network(*task)

    joblib.register_parallel_backend("in_portions", InPortions)
    monkeypatch.setattr(scoring, "_score_network", interrupted)
    with joblib.parallel_config(backend="in_portions"):
        with pytest.raises(ValueError, match="no luck"):
            ncdlib.score_space(SPACE, ARCHS, seeds=range(3), jobs=2, out=out, **SMALL)
        assert len(table.read(out)) == 2 * 30 * 2  # proxies, networks a worker, workers: the first portion, of two
        monkeypatch.setattr(scoring, "_score_network", score_network)
        assert ncdlib.score_space(SPACE, ARCHS, seeds=range(3), jobs=2, out=out, **SMALL).equals(alone)


def test_ray_gives_the_same_table(tmp_path):
    ray = pytest.importorskip("ray", reason="ray is an extra: pip install -c constraints.txt -e '.[ray]'")
    from ray.util.joblib import register_ray

    local = ncdlib.score_space(SPACE, ARCHS, jobs=1, **SMALL)
    path = os.pathsep.join([str(Path(ncdlib.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    ray.init(num_cpus=2, include_dashboard=False, runtime_env={"env_vars": {"PYTHONPATH": path}})
    try:
        register_ray()
        with joblib.parallel_config(backend="ray"):
            spread = ncdlib.score_space(SPACE, ARCHS, out=tmp_path / "scores.parquet", **SMALL)
    finally:
        ray.shutdown()
    assert spread.equals(local)
