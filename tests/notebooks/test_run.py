"""The command line: what it refuses, and the environment that run_all.sh makes or takes."""

import os
import shutil
import subprocess
import sys

from engine import REPOSITORY, fingerprints, write
import pytest
import run as command


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["7"], "no notebook 7, only 01_good"),
        (["quik"], "unknown argument 'quik'"),
        (["quick", "smoke"], "one profile at a time"),
        (["--frsh"], "unrecognized arguments: --frsh"),
        (["--out", "new"], "paper works in place"),
        (["quick", "--out", "."], "is not empty"),
        (["quick", "--out", "notebooks/01_good.ipynb/below"], "cannot be written (Not a directory): name another folder"),
        (["quick", "--out", "notebooks/01_good.ipynb"], "cannot be written (File exists): name another folder"),
    ],
)
def test_bad_arguments_get_the_usage_and_leave_everything_as_it_was(argv, message, tmp_path, capsys, monkeypatch):
    write(tmp_path, "01_good", "1")
    monkeypatch.chdir(tmp_path)
    before = fingerprints(tmp_path)
    with pytest.raises(SystemExit) as stop:
        command.main(argv, tmp_path)
    said = capsys.readouterr().err
    assert stop.value.code == 2 and message in said and said.startswith("usage: ./run_all.sh")
    assert fingerprints(tmp_path) == before


def test_a_folder_without_notebooks_is_an_error(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        command.main([], tmp_path)
    assert stop.value.code == 2 and "there are no notebooks" in capsys.readouterr().err


def test_a_bad_argument_does_not_wait_for_torch():
    source = "import sys, run\ntry: run.main(['quik'])\nexcept SystemExit: print({'torch', 'papermill'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", source], cwd=REPOSITORY / "notebooks", capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n" and "unknown argument 'quik'" in done.stderr


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
        f'if [ "$3" = install ] && [ -e "{tmp_path}/offline" ]; then echo "no such package" >&2; exit 7; fi\n'
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
    install = f"-m pip install --disable-pip-version-check -c {root}/constraints.txt -e {root}[dev]"
    (root.parent / "offline").touch()
    done, calls = call("quick", "01")
    assert done.returncode == 7 and calls == [f"-m venv --clear {venv}", install]
    assert "no such package" in done.stderr and f"its whole output is in {venv}/install.log" in done.stderr
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
