"""The score file and what every file that a run writes shares: one writer, and whole at any moment."""

import os
import signal
import subprocess
import sys

import pytest

from ncdlib.scoring.file import locked, written

HOLDS = """
import sys, time
from ncdlib.scoring.file import locked
with locked(sys.argv[1], "taken"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_process_holds_a_lock_under_any_name_until_it_ends(tmp_path):
    file, link = tmp_path / "scores.parquet", tmp_path / "link.parquet"
    link.symlink_to(file)  # the file need not exist
    process = subprocess.Popen([sys.executable, "-c", HOLDS, file], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    for name in (file, link):
        with pytest.raises(RuntimeError, match="^taken by another$"), locked(name, "taken by another"):
            pass
    with locked(tmp_path / "other.parquet", "another file has a lock of its own"):
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with locked(link, "a killed process holds nothing"):
        pass


def test_an_error_in_the_middle_leaves_the_file_as_it_was(tmp_path):
    file = tmp_path / "a.txt"
    with written(file) as partial:
        partial.write_text("first")
        assert not file.exists()
    assert file.read_text() == "first"
    with pytest.raises(OSError, match="full"), written(file) as partial:
        partial.write_text("half")
        raise OSError("the disk is full")
    assert file.read_text() == "first"
    assert list(tmp_path.iterdir()) == [file]


def test_a_link_is_written_through(tmp_path):
    (tmp_path / "there").mkdir()
    link, file = tmp_path / "link.txt", tmp_path / "there" / "file.txt"
    link.symlink_to(file)
    with written(link) as partial:
        assert partial.parent == file.parent
        partial.write_text("text")
    assert link.is_symlink() and file.read_text() == "text"
