"""The engine that runs notebooks, on small ones made here, and every notebook of the repository at the smoke profile."""

from dataclasses import dataclass
import hashlib
import importlib.util
import os
from pathlib import Path
import shutil
import subprocess
import sys

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
import pytest

from ncdlib.reproduction import workspace
from ncdlib.reproduction.workspace import Workspace

REPOSITORY = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))

spec = importlib.util.spec_from_file_location("notebook_engine", REPOSITORY / "notebooks" / "run.py")
engine = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = engine  # dataclasses look their module up
spec.loader.exec_module(engine)

PARAMETERS = 'profile = "paper"\nroot = ".."'
# Cells without ncdlib, whose import takes seconds a kernel: what `Workspace` does is tested without kernels.
WRITE = """\
from pathlib import Path
for name in ("data/scores/{0}.parquet", "data/results/{0}.csv", "figures/{0}.png"):
    Path(root, name).parent.mkdir(parents=True, exist_ok=True)
    Path(root, name).write_text(profile)"""
TALK = """\
import os, sys
print(Path.cwd(), sys.executable == {0!r}, flush=True)
print("progress", file=sys.stderr, flush=True)
print("end")
object()"""
STORED = f'print("{workspace.STORED}there is no such table")'


def write(root, name, *cells, parameters=PARAMETERS):
    first = [new_code_cell(parameters, metadata={"tags": ["parameters"]})] if parameters else []
    notebook = new_notebook(cells=[new_markdown_cell("# A notebook"), *first, *map(new_code_cell, cells)])
    path = root / "notebooks" / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


def texts(path):
    """What each code cell printed or returned."""
    outputs = [cell.outputs for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    return [[o.get("text") or o.data["text/plain"] for o in each] for each in outputs]


def fingerprints(*folders):
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@dataclass
class Run:
    before: dict  # fingerprints of the repository
    status: int
    lines: list
    table: dict  # notebook -> outcome and, where it failed, what remains


def run(root, *argv, capsys):
    before = fingerprints(root)
    status = engine.main(argv, root)
    lines = capsys.readouterr().out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("notebook "))
    rows = [line.split() for line in lines[start + 1 :] if line[:2].isdigit()]
    return Run(before, status, lines, {row[0]: row[2:] for row in rows})


@pytest.fixture
def temporary(tmp_path_factory, monkeypatch):
    """The folder in which the engine makes its temporary ones."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(engine.tempfile, "tempdir", str(folder))
    return folder


def test_one_failure_neither_stops_nor_hides(tmp_path, temporary, capsys):
    root = tmp_path
    good = write(root, "01_good", WRITE.format("good"), TALK.format(sys.executable))
    bad = write(root, "02_bad", "print('so far')", "raise KeyError('this very thing')", "print('never')")
    dead = write(root, "03_dead", "import os; os._exit(1)")
    bare = write(root, "04_bare", "1", parameters="")
    last = write(root, "11_last", STORED)
    end = run(root, capsys=capsys)

    assert end.status == 1
    outcomes = {name: rest[0] for name, rest in end.table.items()}
    assert outcomes == {
        "01_good": "built",
        "02_bad": "failed",
        "03_dead": "failed",
        "04_bare": "failed",
        "11_last": "stored",
    }
    assert any(line.startswith("KeyError: 'this very thing'") for line in end.lines)
    assert any("DeadKernelError" in line for line in end.lines)
    assert any("no cell tagged `parameters`" in line for line in end.lines)
    after = fingerprints(root)
    assert all(after[path] == end.before[path] for path in (bad, dead, bare))  # as they were
    assert all(after[path] != end.before[path] for path in (good, last))
    remains = Path(end.table["02_bad"][1])
    assert temporary in remains.parents and "so far" in remains.read_text()
    assert (root / "data/scores/good.parquet").read_text() == "paper"
    assert "ncdlib-kernel" not in os.environ.get("JUPYTER_PATH", "")


def test_what_is_committed_tells_of_the_result_alone(tmp_path, temporary, capsys):
    path = write(tmp_path, "01_good", WRITE.format("good"), TALK.format(sys.executable))
    assert run(tmp_path, "01", capsys=capsys).status == 0
    first = path.read_bytes()
    assert run(tmp_path, capsys=capsys).status == 0
    assert path.read_bytes() == first

    assert texts(path) == [[], [], ["../notebooks True\nend\n", "<object>"]]
    notebook = nbformat.read(path, as_version=4)
    assert [cell.source for cell in notebook.cells][1] == PARAMETERS
    assert [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"] == [1, 2, 3]
    assert [dict(cell.metadata) for cell in notebook.cells] == [{}, {"tags": ["parameters"]}, {}, {}]
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert b"papermill" not in first and str(tmp_path).encode() not in first
    assert not [file for file in tmp_path.rglob("*") if file.suffix in engine.UNFINISHED]
    assert not list(temporary.iterdir())


def test_cleaning_joins_streams_and_drops_widgets_and_private_places():
    view = nbformat.v4.new_output("display_data", {"application/vnd.jupyter.widget-view+json": {"model_id": "8f"}})
    cell = new_code_cell(
        "x", outputs=[stream("a /home/me/r/x\n"), stream("50 %", "stderr"), view, stream("/home/me /home/men\n")]
    )
    notebook = new_notebook(cells=[cell], metadata={"widgets": {"state": {}}})
    (cell,) = engine.cleaned(notebook, {"/home/me": "~", "/home/me/r": ".."}).cells
    assert [output.text for output in cell.outputs] == ["a ../x\n~ /home/men\n"]
    assert "widgets" not in notebook.metadata


def stream(text, name="stdout"):
    return nbformat.v4.new_output("stream", name=name, text=text)


def test_quick_touches_nothing_that_is_committed(tmp_path, capsys):
    root, out = tmp_path / "repository", tmp_path / "out"
    write(root, "01_good", WRITE.format("good"))
    write(root, "02_other", "1")
    for name in ("data/scores/good.parquet", "figures/good.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("committed")
    end = run(root, "quick", "1", "--out", str(out), capsys=capsys)
    assert end.status == 0 and list(end.table) == ["01_good"]
    assert fingerprints(root) == end.before
    assert {path.relative_to(out).as_posix(): path.read_text() for path in out.rglob("good.*")} == {
        "data/scores/good.parquet": "quick", "data/results/good.csv": "quick", "figures/good.png": "quick",
    }  # fmt: skip


def test_fresh_puts_in_place_only_what_a_notebook_made_that_succeeded(tmp_path, capsys):
    look = "print(Path(root, 'data/scores/{0}.parquet').exists(), Path(root, 'data/results/{0}.csv').exists())"
    good = write(tmp_path, "02_good", "from pathlib import Path", look.format("good"), WRITE.format("good"))
    write(tmp_path, "01_bad", WRITE.format("bad"), "1 / 0")  # first, so that its files lie there when the other ends
    for name in ("good", "bad", "other"):
        Workspace(tmp_path).scores(name).write_text("stored")
        Workspace(tmp_path).results(name).write_text("stored")
    end = run(tmp_path, "--fresh", "--out", str(tmp_path / "scratch"), capsys=capsys)
    assert end.status == 1
    assert texts(good)[2] == ["False True\n"]  # scores are not seen, results are: some notebooks read what others found
    held = {path.stem: path.read_text() for path in (tmp_path / "data/scores").iterdir()}
    assert held == {"good": "paper", "bad": "stored", "other": "stored"}
    assert Workspace(tmp_path).results("bad").read_text() == "stored"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["7"], "no notebook 7, only 01_good"),
        (["quik"], "unknown argument 'quik'"),
        (["quick", "smoke"], "one profile at a time"),
        (["--frsh"], "unrecognized arguments: --frsh"),
        (["--out", "new"], "paper works in place"),
        (["quick", "--out", "."], "is not empty"),
    ],
)
def test_bad_arguments_get_the_usage_and_leave_everything_as_it_was(argv, message, tmp_path, capsys, monkeypatch):
    write(tmp_path, "01_good", "1")
    monkeypatch.chdir(tmp_path)
    before = fingerprints(tmp_path)
    with pytest.raises(SystemExit) as stop:
        engine.main(argv, tmp_path)
    said = capsys.readouterr().err
    assert stop.value.code == 2 and message in said and said.startswith("usage: ./run_all.sh")
    assert fingerprints(tmp_path) == before


def test_a_folder_without_notebooks_is_an_error(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        engine.main([], tmp_path)
    assert stop.value.code == 2 and "there are no notebooks" in capsys.readouterr().err


def test_workspace_gives_paths_and_settings(tmp_path, monkeypatch, capsys):
    root, repository = tmp_path / "scratch", tmp_path / "repository"
    ws = Workspace(str(root), "quick")
    assert ws.scores("a") == root / "data/scores/a.parquet" and ws.scores("a").parent.is_dir()
    assert ws.results("a") == root / "data/results/a.csv"
    assert ws.figure("01_a.png") == root / "figures/01_a.png"
    assert [Workspace(root, p).pick(paper=1, quick=2, smoke=3) for p in engine.PROFILES] == [1, 2, 3]
    assert engine.PROFILES == workspace.PROFILES

    ws.results("a").write_text("the scratch root's own")
    (repository / "notebooks").mkdir(parents=True)
    monkeypatch.chdir(repository / "notebooks")  # where notebooks run
    with pytest.raises(FileNotFoundError, match=r"no stored result ../data/results/a.csv"):
        ws.stored_results("a")
    Workspace("..").results("a").write_text("committed")
    assert ws.stored_results("a").read_text() == "committed"

    ws.mark_stored("x.csv is not at hand")
    assert engine.draws_stored_result(new_notebook(cells=[new_code_cell("", outputs=[stream(capsys.readouterr().out)])]))
    with pytest.raises(ValueError, match="unknown profile 'fast': use one of paper, quick, smoke"):
        Workspace(root, "fast")


@pytest.fixture
def shell(tmp_path):
    """A copy of run_all.sh beside a stub of Python that notes how it was called."""
    root, stubs = tmp_path / "a repository", tmp_path / "stubs"
    root.mkdir()
    stubs.mkdir()
    for name in ("run_all.sh", "pyproject.toml", "constraints.txt"):
        shutil.copy(REPOSITORY / name, root)
    (stubs / "python3.11").write_text(
        f'#!/bin/bash\n[ "$*" = "-m pip --version" ] || echo "$@" >> "{tmp_path}/calls"\n'
        'if [ "$2" = venv ]; then mkdir -p "${@: -1}/bin"; cp "$0" "${@: -1}/bin/python"; fi\n'
        f'if [ "$3" = install ] && [ -e "{tmp_path}/offline" ]; then exit 7; fi\n'
    )
    (stubs / "python3.11").chmod(0o755)

    def call(*argv, **variables):
        (tmp_path / "calls").write_text("")
        clean = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "CONDA_PREFIX", "NCDLIB_VENV")}
        env = clean | {"PATH": f"{stubs}:{os.environ['PATH']}"} | variables
        done = subprocess.run([root / "run_all.sh", *argv], cwd=tmp_path, env=env, capture_output=True, text=True)
        calls = (tmp_path / "calls").read_text().splitlines()
        return done, [line for line in calls if not line.startswith("-c ") and line != "--version"]

    return root, call


def test_the_environment_is_made_once_and_renewed_when_its_pins_change(shell):
    root, call = shell
    venv, started = root / ".venv", f"{root}/notebooks/run.py quick 01"
    install = f"-m pip install -qq --disable-pip-version-check -c {root}/constraints.txt -e {root}[dev]"
    (root.parent / "offline").touch()
    done, calls = call("quick", "01")
    assert done.returncode == 7 and calls == [f"-m venv --clear {venv}", install]
    (root.parent / "offline").unlink()
    done, calls = call("quick", "01")  # what failed is tried again
    assert done.returncode == 0 and calls == [install, started]
    assert "Installing the project" in done.stdout
    done, calls = call("quick", "01")
    assert (done.stdout, calls) == ("", [started])
    with (root / "constraints.txt").open("a") as file:
        file.write("wheel==1\n")
    assert call("quick", "01")[1] == [install, started]
    assert call("quick", "01")[1] == [started]


def test_an_active_environment_is_used_as_it_is(shell, tmp_path):
    root, call = shell
    active = tmp_path / "active"
    (active / "bin").mkdir(parents=True)
    shutil.copy(tmp_path / "stubs" / "python3.11", active / "bin" / "python")
    done, calls = call("test", VIRTUAL_ENV=str(active))
    assert (done.returncode, done.stdout, calls) == (0, "", [f"{root}/notebooks/run.py test"])
    (active / "bin" / "python").write_text("#!/bin/bash\nexit 1\n")  # packages are missing
    done, calls = call("test", CONDA_PREFIX=str(active), CONDA_DEFAULT_ENV="mine")
    assert done.returncode == 1 and not calls and "pip install -c constraints.txt -e '.[dev]'" in done.stderr
    assert not (root / ".venv").exists()


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_passes_at_the_smoke_profile(path, tmp_path, capsys):
    committed = [REPOSITORY / name for name in ("notebooks", "data", "figures")]
    before = fingerprints(*committed)
    status = engine.main(["smoke", path.name[:2], "--out", str(tmp_path)])
    assert status == 0, capsys.readouterr().out
    assert fingerprints(*committed) == before


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_notebook_carries_the_outputs_of_a_whole_clean_run(path):
    notebook = nbformat.read(path, as_version=4)
    again = engine.cleaned(nbformat.read(path, as_version=4), {str(REPOSITORY): "..", **engine.private_places()})
    assert again == notebook, f"{path.name} was not written by ./run_all.sh {path.name[:2]}"
    assert any(cell.get("outputs") for cell in notebook.cells), (
        f"{path.name} carries no outputs: run ./run_all.sh {path.name[:2]}"
    )
