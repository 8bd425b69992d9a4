"""The workers of a run that is killed end with it."""

import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import pytest

RUN = """
import sys
import numpy as np
import ncdlib
space, rng = ncdlib.spaces.get("nasbench201"), np.random.default_rng(0)
archs = [space.sample(rng) for _ in range(20)]
ncdlib.score_space(space, archs, seeds=range(1000), jobs=2, out=sys.argv[1], progress=False,
                   batch=6, resolution=16, size={"channels": 4, "cells_per_stage": 1})
"""


def processes() -> dict[int, tuple[str, int]]:
    """State and parent of every process."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent, *_ = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            continue
        found[int(stat.parent.name)] = state, int(parent)
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc to see which processes run")
def test_workers_end_with_a_killed_run(tmp_path):
    run = subprocess.Popen([sys.executable, "-c", RUN, tmp_path / "scores.parquet"])
    while not (tmp_path / "scores.parquet").exists():
        assert run.poll() is None
        time.sleep(0.1)
    children = {pid for pid, (_, parent) in processes().items() if parent == run.pid}
    assert len(children) >= 2
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    end = time.monotonic() + 30
    while children & {pid for pid, (state, _) in processes().items() if state != "Z"} and time.monotonic() < end:
        time.sleep(0.1)
    assert not children & {pid for pid, (state, _) in processes().items() if state != "Z"}
