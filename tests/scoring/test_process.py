"""The workers of a run that is killed end with it."""

import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import pytest

RUN = """
import os, sys, time
import joblib
import ncdlib
from ncdlib.scoring import process

def work(parent):
    process.end_with(parent)
    print(os.getpid(), flush=True)
    time.sleep(120)

joblib.Parallel(n_jobs=2)(joblib.delayed(work)(os.getpid()) for _ in range(2))
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc to see which processes run")
def test_workers_end_with_a_killed_run():
    run = subprocess.Popen([sys.executable, "-c", RUN], stdout=subprocess.PIPE, text=True)
    workers = [int(run.stdout.readline()) for _ in range(2)]
    assert len(set(workers)) == 2 and run.pid not in workers and all(map(alive, workers))
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    end = time.monotonic() + 20
    while any(map(alive, workers)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(map(alive, workers))
