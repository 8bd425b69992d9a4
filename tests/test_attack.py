"""Attacks that take minutes: kills, full and read-only disks, damaged and hostile files, writers beside readers, bad calls.

Ordinary runs leave this module out: `./run_all.sh test -m attack` runs it. Single damages of score files, hostile
checkpoints, and bad values of further arguments are tried by the ordinary tests.
"""

from contextlib import suppress
import io
import os
from pathlib import Path
import pickle
import resource
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile

import numpy as np
import offline
from offline import DATA
import pandas as pd
import pytest
import torch

import ncdlib
from ncdlib import benchmarks, images, proxies, search, spaces, statistics
from ncdlib.benchmarks import __main__ as benchmarks_command
from ncdlib.benchmarks import files, readers
from ncdlib.scoring import file as score_file
from ncdlib.scoring import read_scores, with_methods

pytestmark = [pytest.mark.attack, pytest.mark.skipif(not Path("/proc").exists(), reason="reads /proc")]

SPACE = spaces.get("nasbench201")
ARCHS = [SPACE.sample(np.random.default_rng(seed)) for seed in range(8)]
SMALL = {"batch": 4, "resolution": 8, "size": {"channels": 4, "cells_per_stage": 1}, "progress": False}
RUN = """
import sys
import numpy as np
import ncdlib
from ncdlib import spaces
from ncdlib.scoring import space as scoring
score_network = scoring._score_network

def noted(*task):
    rows = score_network(*task)
    with open(sys.argv[2], "a") as log:
        log.write(f"{task[2].arch} {task[2].seed}\\n")
    return rows

out, _, jobs, seeds = sys.argv[1:]
scoring.SAVE_SECONDS = 0.05
if jobs == "1":
    scoring._score_network = noted  # a function of this script does not reach the workers
space = spaces.get("nasbench201")
archs = [space.sample(np.random.default_rng(seed)) for seed in range(8)]
ncdlib.score_space(space, archs, seeds=range(int(seeds)), jobs=int(jobs), out=out, progress=False,
                   batch=4, resolution=8, size={"channels": 4, "cells_per_stage": 1})
"""
KILLS = 40
WITH_WORKERS = 6  # of them; starting workers takes longest


def start(out, jobs=1, seeds=3000):
    command = [sys.executable, "-W", "ignore", "-c", RUN, out, out.with_suffix(".log"), str(jobs), str(seeds)]
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(Path(ncdlib.__file__).parents[1])})


def living():
    """The processes that run, and the parent of each."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            state, parent, *_ = stat.read_text().rpartition(")")[2].split()
            if state != "Z":
                found[int(stat.parent.name)] = int(parent)
    return found


def descendants(pid):
    parents, found = living(), {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def test_forty_kills_lose_no_row_compute_none_twice_and_leave_no_process(tmp_path):
    out, rng = tmp_path / "scores.parquet", np.random.default_rng(0)
    held = 0
    for kill in range(KILLS):
        workers = kill % (KILLS // WITH_WORKERS) == 0
        written = out.stat().st_mtime_ns if out.exists() else 0
        run = start(out, jobs=2 if workers else 1)
        if kill % 2:  # while it writes; else wherever it is, from its start on
            assert wait_for(lambda written=written: out.exists() and out.stat().st_mtime_ns > written)
        time.sleep(rng.uniform(0, 0.3 if kill % 2 else 3))
        children = descendants(run.pid)
        os.kill(run.pid, signal.SIGKILL)
        assert run.wait() == -signal.SIGKILL
        assert wait_for(lambda children=children: not children & living().keys()), "a process lives on"
        if out.exists():
            rows = read_scores(out)
            assert len(rows) >= held and not rows.duplicated(list(score_file.KEYS)).any()
            held = len(rows)
    stands = read_scores(out)
    computed = len(out.with_suffix(".log").read_text().splitlines())
    run = start(out, seeds=40)
    assert run.wait() == 0
    after = out.with_suffix(".log").read_text().splitlines()[computed:]
    there = {f"{arch} {seed}" for arch, seed in zip(stands.arch, stands.seed, strict=True)}
    assert not there & set(after) and len(after) == len(set(after))
    alone = ncdlib.score_space(SPACE, ARCHS, seeds=range(40), jobs=1, **SMALL)
    again = ncdlib.score_space(SPACE, ARCHS, seeds=range(40), jobs=1, out=out, **SMALL)
    pd.testing.assert_frame_equal(alone, again, check_exact=True)


def mounted(folder, *options):
    """A small file system in memory at this folder, or a skip where the system forbids it."""
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", folder], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"the system mounts no file system here: {made.stderr.strip()}")


def test_a_full_disk_keeps_the_last_table(tmp_path):
    """A limit on the size of files acts as a full disk: the system refuses to write more."""
    out = tmp_path / "scores.parquet"
    first = ncdlib.score_space(SPACE, ARCHS[:2], jobs=1, out=out, **SMALL)
    content, limits = out.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(content) // 2, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            ncdlib.score_space(SPACE, ARCHS, seeds=(0, 1), jobs=1, out=out, **SMALL)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert out.read_bytes() == content and not [*tmp_path.glob("*.partial")]
    assert ncdlib.score_space(SPACE, ARCHS[:2], jobs=1, out=out, **SMALL).equals(first)


def test_a_read_only_folder_is_an_error_and_its_complete_table_is_read(tmp_path):
    folder = tmp_path / "disk"
    mounted(folder, "-o", "size=2m")
    try:
        rows = ncdlib.score_space(SPACE, ARCHS[:2], jobs=1, out=folder / "scores.parquet", **SMALL)
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        assert ncdlib.score_space(SPACE, ARCHS[:2], jobs=1, out=folder / "scores.parquet", **SMALL).equals(rows)
        for name, archs in (("scores.parquet", ARCHS), ("new.parquet", ARCHS[:1])):
            with pytest.raises(
                ValueError, match=rf"{name} cannot be written \(Read-only file system\): choose another place"
            ):
                ncdlib.score_space(SPACE, archs, jobs=1, out=folder / name, **SMALL)
    finally:
        subprocess.run(["umount", folder], check=True)


class Payload:
    """What an unpickler that trusts its file would run."""

    def __reduce__(self):
        return Path.touch, (Path("executed"),)


def hostile():
    """Files that run a command or write outside, where they are trusted: a pickle, a zip, a tar, a torch archive."""
    zipped, tarred, saved = io.BytesIO(), io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Payload()))
        archive.writestr("../executed", "")
    with tarfile.open(fileobj=tarred, mode="w:gz") as archive:
        for name in ("../executed", "/executed", "cifar/data_batch_1.bin"):
            archive.addfile(tarfile.TarInfo(name))
    torch.save(Payload(), saved)
    return [pickle.dumps(Payload()), zipped.getvalue(), tarred.getvalue(), saved.getvalue()]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    return offline.use(tmp_path / "data", monkeypatch)


@pytest.mark.parametrize("name", [name for name in files.PUBLIC.registry if "/" not in name])
def test_ground_truth_that_was_tampered_with_is_refused_and_kept(folder, name):
    path = folder / name
    damages = hostile()
    if (DATA / name).exists():
        whole = (DATA / name).read_bytes()[: 1 << 22]  # the beginning of a large one is a truncation too
        at = int(np.random.default_rng(0).integers(len(whole)))
        damages += [whole[:-1], whole[: len(whole) // 2], whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :], b""]
    for damaged in damages:
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"is not the published {name}: expected .*Remove it, then"):
            benchmarks.fetch(name)
        assert path.read_bytes() == damaged
    assert not list(folder.parent.rglob("executed")) and not Path("/executed").exists()


READERS = (
    "analog_nasbench",
    "nats_bench",
    "nasbench201_robust",
    "nasbench101",
    "swap_darts",
    "nasbench_macro",
    "autoformer",
)


@pytest.mark.parametrize("read", [*(getattr(readers, name) for name in READERS), lambda path: readers.autoprox(*[path] * 3)])
def test_a_reader_that_meets_a_hostile_file_executes_nothing(folder, read):
    for content in hostile():
        (folder / "file").write_bytes(content)
        with pytest.raises(Exception):  # noqa: B017  its checksum is refused first: here only what runs matters
            read(folder / "file")
    assert not list(folder.parent.rglob("executed"))


def test_hostile_score_files_are_refused_and_kept(folder):
    for content in (*hostile(), b"PAR1", b"PAR1" * 1000, b"\x00" * 4096, os.urandom(4096)):
        out = folder / "scores.parquet"
        out.write_bytes(content)
        for call in (read_scores, lambda path: ncdlib.score_space(SPACE, ARCHS[:1], jobs=1, out=path, **SMALL)):
            with pytest.raises(ValueError, match=r"scores.parquet (cannot be read as parquet|is not a score table)"):
                call(out)
        assert out.read_bytes() == content
    assert not list(folder.parent.rglob("executed"))


def test_two_writers_and_five_hundred_reads(tmp_path):
    out = tmp_path / "scores.parquet"
    writer = start(out, seeds=3000)
    assert wait_for(out.exists)
    second = start(out, seeds=3000)
    lengths, failed = [], []

    def reads():
        try:
            lengths.extend(len(read_scores(out)) for _ in range(125))
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=reads) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert second.wait() == 1  # refused: another run is writing
    assert writer.poll() is None
    writer.kill()
    writer.wait()
    assert not failed and len(lengths) == 500 and max(lengths) > min(lengths)


TABLE = pd.DataFrame({"arch": ["a"], "seed": [0], "score": [1.0]})
RANKS = np.arange(5.0)
NETWORK = SPACE.build(ARCHS[0], channels=4, cells_per_stage=1)
X = torch.randn(4, 3, 8, 8)
BAD_CALLS = {
    "spaces.get": (spaces.get, None, [], "nasbench", 3),
    "proxies.get": (proxies.get, None, [], "nvot"),
    "build": (SPACE.build, None, 3, b"x", "", spaces.get("transnas_micro").sample(np.random.default_rng(0))),
    "build of a space of the same strings": (
        spaces.get("transnas_macro").build,
        spaces.get("transnas_micro").sample(np.random.default_rng(0)),
    ),
    "size": (lambda value: SPACE.build(ARCHS[0], channels=value), 0, True, -4),
    "parse": (SPACE.parse, "|", "(" * 5000, "\0"),
    "score: model": (lambda value: ncdlib.score(value, X, "nwot"), None, torch.nn.ReLU, "resnet18"),
    "score: images": (lambda value: ncdlib.score(NETWORK, value, "nwot"), None, X[:1], X.to_sparse(), X.to("meta"), X.int()),
    "score: seed": (lambda value: ncdlib.score(NETWORK, X, "nwot", seed=value), -1, 1.5, None, 2**63),
    "score: labels": (
        lambda value: ncdlib.score(NETWORK, X, "snip", labels=value),
        *(None, torch.zeros(4), torch.zeros(4, dtype=torch.complex64), torch.full((4,), 99)),
    ),
    "score_space: device": (lambda value: ncdlib.score_space(SPACE, ARCHS, device=value), "gpu", 3, "meta", "mps", []),
    "score_space: out": (lambda value: ncdlib.score_space(SPACE, ARCHS, out=value), "", "x.csv", "/proc/x.parquet"),
    "score_space: layout": (lambda value: ncdlib.score_space(SPACE, ARCHS, channels_last=value), "no", None),
    "images: n": (lambda value: images.batch(n=value), 0, True, 10**12, "3"),
    "images: resolution": (lambda value: images.batch(resolution=value), 0, 10**9, None),
    "benchmarks": (benchmarks.load, None, [], "x"),
    "sample": (SPACE.sample, 3, None, "seed"),
    "with_methods": (with_methods, None, pd.DataFrame(), [1]),
    "pilot": (lambda value: search.pilot(value, value), None, pd.DataFrame(), RANKS),
    "selection_probabilities": (search.selection_probabilities, None, 3.0, [[1, 2], [3, 4]], []),
    "spearman: resamples": (lambda value: statistics.spearman(RANKS, RANKS, resamples=value), 0, 2.5, 10**12, True),
    "search: samples": (lambda value: search.random_search(SPACE, samples=value), 0, 2.5, None),
    "search: seed": (lambda value: search.random_search(SPACE, samples=1, seed=value), -1, None, "a"),
    "search: space": (lambda value: search.random_search(value, samples=1), None, 3),
    "within_budget": (lambda value: search.within_budget(SPACE, params=value), None, "a", (1,), (5, 1), float("nan")),
    "simulate": (lambda value: search.simulate(RANKS, RANKS, value), 0, 2.5),
    "spearman: level": (lambda value: statistics.spearman(RANKS, RANKS, value), 95, -1, float("nan"), "a"),
    "spearman: scores": (lambda value: statistics.spearman(value, RANKS), None, list("abcde"), RANKS[:3]),
    "by_seed": (lambda value: statistics.by_seed(value, ["a"]), None, pd.DataFrame({"a": [1]})),
    "by_seed: archs": (lambda value: statistics.by_seed(TABLE, value), "a", ["b"]),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_a_bad_call_is_a_clear_error_and_writes_nothing(name, tmp_path, monkeypatch):
    from inspect import unwrap

    monkeypatch.chdir(tmp_path)
    call, *values = BAD_CALLS[name]
    for module in (ncdlib, spaces, proxies, images, benchmarks, search, statistics):  # past the tests' own check of types
        for public in dir(module):
            function = getattr(module, public)
            if callable(function) and hasattr(function, "__wrapped__"):
                monkeypatch.setattr(module, public, unwrap(function))
    if hasattr(call, "__wrapped__"):
        owner = getattr(call, "__self__", None)
        call = unwrap(call) if owner is None else unwrap(call.__func__).__get__(owner)
    for value in values:
        with pytest.raises(ValueError) as caught:
            call(value)
        assert len(str(caught.value)) > 20, value
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", [["fetch", "nats.csv"], ["verify", "x"], ["list", "x"], ["burn"]])
def test_a_bad_command_is_a_clear_error(command, capsys):
    with pytest.raises(SystemExit, match="2"):
        benchmarks_command.main(command)
    assert command[-1] in capsys.readouterr().err
