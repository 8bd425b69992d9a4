"""`python -m ncdlib.benchmarks`: list, fetch and verify."""

from dataclasses import replace
import hashlib
from pathlib import Path
import runpy
import sys

import offline
import pytest
import requests

from ncdlib.benchmarks import __main__ as command
from ncdlib.benchmarks import files
from ncdlib.benchmarks.registry import TABLES


@pytest.fixture
def folder(tmp_path, monkeypatch):
    return offline.use(tmp_path, monkeypatch)


def test_list(folder, capsys):
    (folder / "nats_bench.csv").touch()
    (folder / "OoD-ViT-NAS-Tiny.json").touch()
    assert command.main([]) == 0
    bare = capsys.readouterr().out
    assert command.main(["list"]) == 0 and capsys.readouterr().out == bare
    rows = {line.split()[0]: line for line in bare.splitlines() if line}
    for name, table in TABLES.items():
        assert str(table.rows) in rows[name] and ", ".join(table.metrics) in rows[name]
        assert (" yes " in rows[name]) == (name in ("nasbench201", "nasbench201_official"))
    assert (
        rows["OoD-ViT-NAS-Tiny.json:"].endswith("here") and "absent; out-of-distribution" in rows["OoD-ViT-NAS-Base.json:"]
    )
    assert str(folder) in bare


def test_verify(folder, capsys):
    assert command.main(["verify"]) == 0  # nothing here yet, and nothing wrong
    out = capsys.readouterr().out
    assert "ok      data.anb" in out and "absent  nats_bench.csv" in out and "absent  cifar-10-binary.tar.gz" in out
    assert out.count("absent  imagenet-sample/") == 128
    assert command.main(["verify", "darts"]) == 1
    assert capsys.readouterr().out == "absent  DARTS_archs_CIFAR10.csv\n"
    (folder / "robustdarts-archs.yaml").write_bytes(b"altered")
    assert command.main(["verify"]) == 1
    assert "FAILED  robustdarts-archs.yaml: " in capsys.readouterr().out
    assert command.main(["verify", "nasbench201"]) == 0


def test_fetch(folder, capsys, monkeypatch):
    def download(url, output_file, pooch):
        if url != "https://example.org/good":
            raise requests.exceptions.ConnectionError("no such address")
        Path(output_file).write_bytes(b"content")

    monkeypatch.setattr("pooch.core.choose_downloader", lambda *args, **kwargs: download)
    monkeypatch.setitem(files.PUBLIC.registry, "served.csv", "sha256:" + hashlib.sha256(b"content").hexdigest())
    monkeypatch.setitem(files.PUBLIC.urls, "served.csv", "https://example.org/good")
    monkeypatch.setitem(TABLES, "darts", replace(TABLES["darts"], files=("served.csv",)))
    assert command.main(["fetch", "darts", "served.csv"]) == 0
    assert capsys.readouterr().out == "ok      served.csv\n"
    (folder / "served.csv").unlink()
    monkeypatch.setitem(files.PUBLIC.urls, "served.csv", "https://example.org/absent")
    assert command.main(["fetch", "served.csv"]) == 1
    assert "FAILED  served.csv: " in capsys.readouterr().out


def test_fetch_without_names_leaves_out_the_images(folder, capsys):
    assert command.main(["fetch"]) == 1
    out = capsys.readouterr().out
    of_tables = {file for table in TABLES.values() for file in table.files}
    assert {line.split()[1].rstrip(":") for line in out.splitlines()} == of_tables  # the images are not asked for
    assert out.count("FAILED") == len(of_tables) - 1 and "ok      data.anb" in out


def test_an_unknown_name_on_the_command_line(capsys):
    with pytest.raises(SystemExit, match="2"):
        command.main(["fetch", "nasbench202"])
    assert "unknown name 'nasbench202'" in capsys.readouterr().err


def test_a_home_folder_that_does_not_exist(monkeypatch, capsys):
    monkeypatch.setenv("NCDLIB_DATA_DIR", "~nosuch/x")
    for arguments in ([], ["verify"], ["fetch", "darts"]):
        with pytest.raises(SystemExit, match="2"):
            command.main(arguments)
        assert "NCDLIB_DATA_DIR is '~nosuch/x'" in capsys.readouterr().err


def test_the_module_exits_with_the_status(folder, monkeypatch, capsys):
    (folder / "nats_bench.csv").write_bytes(b"altered")
    monkeypatch.delitem(sys.modules, command.__name__)  # as for python -m, where it is not imported yet
    for file, status in {"nats_bench.csv": 1, "data.anb": 0}.items():
        monkeypatch.setattr(sys, "argv", ["benchmarks", "verify", file])
        with pytest.raises(SystemExit) as caught:
            runpy.run_module("ncdlib.benchmarks", run_name="__main__")
        assert caught.value.code == status
    assert "FAILED  nats_bench.csv" in capsys.readouterr().out
