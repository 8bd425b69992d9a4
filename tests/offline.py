"""The public files that tests read where they are in the data folder, and a data folder without network."""

import os
from pathlib import Path

import pytest
import requests

DATA = Path(os.environ.get("NCDLIB_DATA_DIR") or "absent")


def needs(name: str) -> pytest.MarkDecorator:
    """Skips a test where the data folder lacks this file or folder."""
    return pytest.mark.skipif(not (DATA / name).exists(), reason=f"no {name} in NCDLIB_DATA_DIR")


def use(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This folder as the data folder. Every download fails."""

    def refuse(*args, **kwargs):
        raise requests.exceptions.ConnectionError("no network in this test")

    monkeypatch.setenv("NCDLIB_DATA_DIR", str(folder))
    monkeypatch.setattr("pooch.core.choose_downloader", lambda *args, **kwargs: refuse)
    return folder


def files_in(folder: Path) -> list[Path]:
    """Every file in the folder and below."""
    return [path for path in folder.rglob("*") if path.is_file()]
