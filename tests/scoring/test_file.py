"""The score file and what every file that a run writes shares: one writer, and whole at any moment."""

import json
import os
import signal
import subprocess
import sys

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ncdlib.scoring import file as table
from ncdlib.scoring.file import locked, written

ROWS = [
    ("nasbench201", f"|cell {i}|", proxy, alpha, "bn", "relu", "default", "gaussian", 32, i, i / 3 - alpha)
    for i in range(20)
    for proxy in ("nwot", "swap")
    for alpha in (0.0, 0.95)
]
SETTINGS = {"size": {"channels": 16}, "mask": "sample"}


def stored(path, rows=ROWS, **metadata):
    """Write a table with this metadata, as files without a checksum are."""
    made = pa.Table.from_pandas(pd.DataFrame(rows, columns=table.SCHEMA.names), table.SCHEMA, preserve_index=False)
    pq.write_table(made.replace_schema_metadata({"ncdlib": json.dumps(metadata)} if metadata else None), path)
    return path


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "scores.parquet"
    with table.opened(path, SETTINGS) as file:
        file.add(ROWS[::-1])
    rows = table.read(path)
    assert list(rows.itertuples(index=False, name=None)) == sorted(ROWS)
    assert rows.attrs["settings"] == SETTINGS


def test_any_flipped_bit_that_changes_what_is_read_is_an_error(tmp_path):
    path, damaged = tmp_path / "scores.parquet", tmp_path / "damaged.parquet"
    with table.opened(path, SETTINGS) as file:
        file.add(ROWS)
    content, whole = path.read_bytes(), table.read(path)
    refused = 0
    for byte in range(0, len(content), 3):
        flipped = bytearray(content)
        flipped[byte] ^= 1 << byte % 8
        damaged.write_bytes(flipped)
        try:
            rows = table.read(damaged)
        except ValueError as error:
            assert "damaged.parquet" in str(error) and ("move it away" in str(error) or "not a score table" in str(error))
            refused += 1
        else:
            pd.testing.assert_frame_equal(rows, whole)
            assert rows.attrs["settings"] == SETTINGS
    assert refused > len(content) / 3 / 2


def test_a_file_without_a_checksum_is_read(tmp_path):
    rows = table.read(stored(tmp_path / "old.parquet", settings=SETTINGS, torch="2.13.0"))
    assert list(rows.itertuples(index=False, name=None)) == ROWS
    with table.opened(tmp_path / "old.parquet", SETTINGS) as file:
        assert file.missing([row[:-1] for row in ROWS]) == []


@pytest.mark.parametrize(
    ("rows", "metadata", "message"),
    [
        (
            [*ROWS, ROWS[3]],
            {"settings": SETTINGS},
            r"holds 1 rows twice, e.g. space = nasbench201, arch = \|cell 0\|, proxy = swap, alpha = 0.95, ",
        ),
        (ROWS, {"torch": "2.13.0"}, "does not say with which settings its scores were made: move it away"),
        (ROWS, {"settings": [1]}, "does not say with which settings"),
        (ROWS, {}, "does not say with which settings"),
        (ROWS, {"settings": SETTINGS, "checksum": "0"}, "is damaged: its rows do not have the checksum in it"),
    ],
)
def test_a_file_that_cannot_be_trusted_is_refused(tmp_path, rows, metadata, message):
    with pytest.raises(ValueError, match=message):
        table.read(stored(tmp_path / "scores.parquet", rows, **metadata))


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


def test_scores_of_another_torch_are_told_and_both_versions_are_kept(tmp_path):
    path = stored(tmp_path / "scores.parquet", settings=SETTINGS, torch="1.0.0")
    with pytest.warns(UserWarning, match="holds scores made by torch 1.0.0, this is "), table.opened(path, SETTINGS) as file:
        file.add([(*ROWS[0][:-2], 99, 0.5)])
    assert table.read(path).attrs["torch"] == f"1.0.0, {table.TORCH}"


def test_a_folder_that_takes_no_file_is_an_error(tmp_path):
    with (
        pytest.raises(ValueError, match="x.parquet cannot be written .*: choose another place"),
        locked("/proc/x.parquet", ""),
    ):
        pass
