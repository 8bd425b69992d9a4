"""The engine that runs notebooks, on small ones made here, and every notebook of the repository at the smoke profile."""

import os
from pathlib import Path
import signal
import subprocess
import sys
import threading
import time

from engine import NOTEBOOKS, REPOSITORY, fingerprints, run, stream, texts, write
import nbformat
from nbformat.v4 import new_code_cell, new_notebook
import outputs
import pytest
import rebuild
import run as command

from ncdlib.reproduction import workspace

# Cells without ncdlib, whose import takes seconds: what `Workspace` does is tested without kernels.
WRITE = """\
from pathlib import Path
for name in ("data/scores/{0}.parquet", "data/results/{0}.csv", "figures/{0}.png"):
    Path(root, name).parent.mkdir(parents=True, exist_ok=True)
    Path(root, name).write_text(f"{{published}} {{size}}\\n")"""
TALK = """\
import os, sys
print(Path.cwd(), sys.executable == {0!r}, os.environ["OMP_NUM_THREADS"], flush=True)
print("progress", file=sys.stderr, flush=True)
print(f"end {{Path(root).resolve()}}")
object()"""
STORED = f'print("{workspace.STORED}there is no such table")'


@pytest.fixture
def temporary(tmp_path_factory, monkeypatch):
    """The folder in which the engine makes its temporary ones."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(rebuild.tempfile, "tempdir", str(folder))
    return folder


def test_one_failure_neither_stops_nor_hides(tmp_path, temporary, capsys):
    root = tmp_path
    good = write(root, "01_good", WRITE.format("good"), TALK.format(sys.executable))
    bad = write(
        root, "02_bad", WRITE.format("bad"), "print('so far')", "raise KeyError('this very thing')", "print('never')"
    )
    dead = write(root, "03_dead", "import os; os._exit(1)")
    bare = write(root, "04_bare", "1", parameters="")
    typo = write(root, "05_typo", "1", parameters="root = = 1")
    (root / "notebooks/06_torn.ipynb").write_text('{"cells": [')
    end = run(root, capsys=capsys)

    assert end.status == 1
    assert {name: rest[0] for name, rest in end.table.items()} == {
        "01_good": "built", "02_bad": "failed", "03_dead": "failed", "04_bare": "failed", "05_typo": "failed",
        "06_torn": "failed",
    }  # fmt: skip
    assert any(line.startswith("KeyError: 'this very thing'") for line in end.lines)
    assert any("DeadKernelError" in line for line in end.lines)
    assert any("0 cells tagged `parameters`" in line for line in end.lines)
    after = fingerprints(root)
    assert all(after[path] == end.before[path] for path in (bad, dead, bare, typo)) and after[good] != end.before[good]
    remains = Path(end.table["02_bad"][1])
    assert temporary in remains.parents and "so far" in remains.read_text()
    assert (root / "data/results/good.csv").read_text() == "True 100\n"
    assert not (root / "data/results/bad.csv").exists()  # its results are no results; its scores may be used again
    assert (root / "data/scores/bad.parquet").exists()
    assert "ncdlib-kernel" not in os.environ.get("JUPYTER_PATH", "")


def test_what_is_committed_tells_of_the_result_alone(tmp_path, temporary, capsys):
    path = write(tmp_path, "01_good", WRITE.format("good"), TALK.format(sys.executable), after=["07"])
    assert run(tmp_path, "01", capsys=capsys).status == 0
    first = path.read_bytes()
    assert run(tmp_path, capsys=capsys).status == 0
    assert path.read_bytes() == first

    assert texts(path) == [[], [], ["../notebooks True 1\nend ..\n", "<object>"]]
    notebook = nbformat.read(path, as_version=4)
    assert [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"] == [1, 2, 3]
    assert [dict(cell.metadata) for cell in notebook.cells] == [{}, {"tags": ["parameters"]}, {}, {}]
    assert notebook.metadata.ncdlib == {"after": ["07"]}
    assert set(notebook.metadata) == {"kernelspec", "language_info", "ncdlib"}
    assert b"papermill" not in first and str(tmp_path).encode() not in first
    assert not [file for file in tmp_path.rglob("*") if file.suffix in rebuild.UNFINISHED]
    assert not list(temporary.iterdir())


def test_a_rebuild_with_other_last_digits_changes_nothing_and_a_changed_number_does(tmp_path, temporary, capsys):
    """Notebook 02 finds the same up to round-off the second time, notebook 01 something else."""
    cell = """\
import os, numpy as np, matplotlib.pyplot as plt
from pathlib import Path
value = 0.6 + {} * int(os.environ["AGAIN"])
for folder in ("data/results", "figures"):
    Path(root, folder).mkdir(parents=True, exist_ok=True)
Path(root, "data/results/{}.csv").write_text(f"rho,n\\n{{value:.17f}},3\\n")
plt.plot([0, value, 1])
plt.savefig(Path(root, "figures/{}.png")); plt.savefig(Path(root, "figures/{}.svg"))
plt.show()
print(f"rho = {{value!r}}")"""
    for name, change in (("01_moved", 0.1), ("02_same", 1e-9)):
        write(tmp_path, name, cell.format(change, *[name] * 3))
    os.environ["AGAIN"] = "0"
    assert run(tmp_path, capsys=capsys).status == 0
    os.environ["AGAIN"] = "1"
    end = run(tmp_path, capsys=capsys)
    del os.environ["AGAIN"]
    changed = {path.name for path, content in fingerprints(tmp_path).items() if end.before.get(path) != content}
    assert end.status == 0
    assert changed == {"01_moved.ipynb", "01_moved.csv", "01_moved.png", "01_moved.svg"}
    assert "0.7" in texts(tmp_path / "notebooks/01_moved.ipynb")[1][-1]


def test_a_stored_result_replaces_nothing(tmp_path, temporary, capsys):
    path = write(tmp_path, "01_stored", WRITE.format("old"), WRITE.format("new"), STORED)
    (tmp_path / "data/results").mkdir(parents=True)
    (tmp_path / "data/results/old.csv").write_text("from the ground truth")
    end = run(tmp_path, capsys=capsys)
    assert end.status == 0 and end.table == {"01_stored": ["stored"]}
    assert path in end.before and fingerprints(tmp_path)[path] == end.before[path]
    assert (tmp_path / "data/results/old.csv").read_text() == "from the ground truth"
    assert (tmp_path / "data/results/new.csv").read_text() == "True 100\n"
    assert (tmp_path / "data/scores/old.parquet").read_text() == "True 100\n"


def test_a_notebook_that_was_edited_while_it_ran_keeps_the_edit(tmp_path, temporary, capsys):
    path = tmp_path / "notebooks/01_edited.ipynb"
    write(tmp_path, "01_edited", f"with open({str(path)!r}, 'a') as file: file.write(' ')")
    original = path.read_text()
    end = run(tmp_path, capsys=capsys)
    assert end.status == 1 and path.read_text() == original + " "
    assert any("01_edited.ipynb was edited while it ran" in line for line in end.lines)


def test_quick_takes_its_own_parameters_and_touches_nothing_that_is_committed(tmp_path, capsys):
    root, out = tmp_path / "repository", tmp_path / "out"
    write(root, "01_good", WRITE.format("good"), quick={"size": 7}, smoke={"size": 1})
    write(root, "02_other", "1")
    for name in ("data/scores/good.parquet", "figures/good.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("committed")
    end = run(root, "quick", "1", "--out", str(out), capsys=capsys)
    assert end.status == 0 and list(end.table) == ["01_good"]
    assert fingerprints(root) == end.before
    assert {path.relative_to(out).as_posix(): path.read_text() for path in out.rglob("good.*")} == dict.fromkeys(
        ("data/scores/good.parquet", "data/results/good.csv", "figures/good.png"), "False 7\n"
    )


def test_fresh_puts_in_place_only_what_a_notebook_made_that_succeeded(tmp_path, capsys):
    look = "print(Path(root, 'data/scores/{0}.parquet').exists(), Path(root, 'data/results/{0}.csv').exists())"
    good = write(tmp_path, "02_good", "from pathlib import Path", look.format("good"), WRITE.format("good"))
    write(tmp_path, "01_bad", WRITE.format("bad"), "1 / 0")
    for folder, suffix in (("data/scores", "parquet"), ("data/results", "csv")):
        (tmp_path / folder).mkdir(parents=True)
        for name in ("good", "bad", "other"):
            (tmp_path / folder / f"{name}.{suffix}").write_text("stored")
    end = run(tmp_path, "--fresh", "--out", str(tmp_path / "scratch"), capsys=capsys)
    assert end.status == 1
    assert texts(good)[2] == ["False True\n"]  # scores are not seen, results are: some notebooks read what others found
    found = {path.name: path.read_text() for path in (tmp_path / "data").rglob("*.*")}
    assert found.pop("good.parquet") == found.pop("good.csv") == "True 100\n"
    assert found == dict.fromkeys(("bad.parquet", "other.parquet", "bad.csv", "other.csv"), "stored")
    assert (tmp_path / "scratch/01_bad/data/scores/bad.parquet").is_file()  # hours of scores are not thrown away


@pytest.fixture
def order(tmp_path, monkeypatch):
    """Call with the notebooks' `after`: in which order they started and ended. Those `together` wait for each other."""

    def call(at_once, together=(), **after):
        paths = [write(tmp_path, name, after=numbers) for name, numbers in after.items()]
        events, meeting = [], threading.Barrier(max(1, len(together)))

        def run_one(path, _):
            events.append(("start", path.name[:2]))
            if path.name[:2] in together:
                meeting.wait(timeout=60)  # an error where they do not run at one time
            events.append(("end", path.name[:2]))
            return rebuild.Result(path.stem, 0.1, "failed" if path.name.startswith("02") else "built")

        monkeypatch.setattr(rebuild, "run_one", run_one)
        ended = rebuild.side_by_side(paths, at_once, rebuild.Run(tmp_path, tmp_path, "smoke", False))
        assert sorted(result.notebook for result in ended) == sorted(path.stem for path in paths)
        return events

    return call


def test_notebooks_run_side_by_side_but_after_those_they_read(order):
    events = order(3, together=("01", "02"), **{"00_last": "all", "01_a": [], "02_b": [], "03_c": ["02", "09"]})
    place = {event: i for i, event in enumerate(events)}
    assert place["start", "03"] > place["end", "02"]  # which failed: what it stored earlier is there
    assert place["start", "00"] > max(place["end", number] for number in ("01", "02", "03"))


def test_no_more_notebooks_run_than_asked_for(order):
    events = order(2, **{f"0{i}_x": [] for i in range(6)})
    running = 0
    for kind, _ in events:
        running += 1 if kind == "start" else -1
        assert running <= 2


def test_notebooks_that_wait_for_each_other_are_an_error(order):
    with pytest.raises(ValueError, match="cycle"):
        order(2, **{"01_a": ["02"], "02_b": ["01"]})


@pytest.mark.parametrize(
    ("profile", "fresh", "notebooks", "cores", "wanted"),
    [
        ("paper", False, 14, 8, (8, 8)),
        ("paper", False, 1, 8, (1, 8)),
        ("paper", True, 14, 8, (2, 8)),  # no more than two times the cores, each with its memory
        ("quick", False, 14, 8, (8, 1)),
        ("quick", False, 2, 8, (2, 4)),
        ("smoke", False, 1, 8, (1, 1)),
    ],
)
def test_cores_are_shared_out(profile, fresh, notebooks, cores, wanted, monkeypatch):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", str(cores))
    monkeypatch.setattr(rebuild.joblib, "cpu_count", lambda: cores)
    assert rebuild.shares(rebuild.Run(Path(), Path(), profile, fresh), notebooks) == wanted


@pytest.mark.parametrize(
    ("source", "metadata", "profile", "wanted"),
    [
        ("root = None\nn = 5", {"smoke": {"n": 1}}, "smoke", {"root": "w", "n": 1}),
        ("root = None\nn = 5", {"smoke": {"n": 1}}, "paper", {"root": "w"}),
        ("root = None\npublished = False", {}, "paper", {"root": "w", "published": True}),
        ("root = None\npublished: bool = False", {}, "quick", {"root": "w", "published": False}),
        ('profile = "paper"\nroot = ".."', {}, "quick", {"root": "w", "profile": "quick"}),
    ],
)
def test_parameters_are_those_of_the_profile(source, metadata, profile, wanted):
    cell = new_code_cell(source, metadata={"tags": ["parameters"]})
    notebook = new_notebook(cells=[cell], metadata={"ncdlib": metadata})
    assert rebuild.parameters(notebook, profile, Path("w")) == wanted


def test_a_parameter_that_the_notebook_does_not_have_is_an_error():
    cell = new_code_cell("root = None", metadata={"tags": ["parameters"]})
    notebook = new_notebook(cells=[cell], metadata={"ncdlib": {"quick": {"alhpa": 1}}})
    with pytest.raises(ValueError, match="does not assign alhpa, which quick sets"):
        rebuild.parameters(notebook, "quick", Path("w"))


def test_the_line_of_a_stored_result_is_seen():
    printed = f"before\n{workspace.STORED}x.csv could not be had\n"
    assert outputs.draws_stored_result(new_notebook(cells=[new_code_cell("", outputs=[stream(printed)])]))
    assert not outputs.draws_stored_result(new_notebook(cells=[new_code_cell("", outputs=[stream("no " + printed[7:])])]))


def test_progress_bars_are_shown_now_and_then_with_the_number_of_the_notebook(capsys):
    progress = rebuild.Progress("03")
    for i in range(100):
        progress.write(f"\r{i}%|#    | {i}/100")
    progress.write("a warning\nof two lines\n")
    assert capsys.readouterr().err.splitlines() == ["03: 0%|#    | 0/100", "03: a warning", "03: of two lines"]


def test_an_interrupt_ends_the_run_and_its_kernels(tmp_path):
    pid = tmp_path / "pid"
    sleep = f"import os, time\nopen({str(pid)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)"
    path = write(tmp_path, "01_long", sleep)
    original = path.read_bytes()
    for source in ("run.py", "rebuild.py", "outputs.py"):
        (tmp_path / "notebooks" / source).write_bytes((REPOSITORY / "notebooks" / source).read_bytes())
    engine = subprocess.Popen([sys.executable, "notebooks/run.py"], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: pid.exists() and pid.read_text(), 200)
    engine.send_signal(signal.SIGINT)
    _, said = engine.communicate(timeout=60)
    assert engine.returncode == 130 and "stopped: the notebooks that had ended are in place" in said
    wait_until(lambda: not Path("/proc", pid.read_text()).exists(), 60)
    assert path.read_bytes() == original


def wait_until(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.1)


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_passes_at_the_smoke_profile(path, tmp_path, capsys):
    committed = [REPOSITORY / name for name in ("notebooks", "data", "figures")]
    before = fingerprints(*committed)
    status = command.main(["smoke", path.name[:2], "--out", str(tmp_path)])
    assert status == 0, capsys.readouterr().out
    assert fingerprints(*committed) == before


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_notebook_carries_the_outputs_of_a_whole_clean_run(path):
    notebook = nbformat.read(path, as_version=4)
    again = outputs.cleaned(nbformat.read(path, as_version=4), {str(REPOSITORY): "..", **outputs.private_places()})
    written = nbformat.writes(again) + "\n"
    assert path.read_text(encoding="utf-8") == written, f"{path.name} was not written by ./run_all.sh {path.name[:2]}"
    assert any(cell.get("outputs") for cell in notebook.cells), (
        f"{path.name} has no outputs: run ./run_all.sh {path.name[:2]}"
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.parametrize("profile", command.PROFILES)
def test_every_profile_sets_parameters_that_the_notebook_has(path, profile):
    assert rebuild.parameters(nbformat.read(path, as_version=4), profile, Path("w"))["root"] == "w"
