"""A data folder without network, for what happens to files that are absent or wrong."""

from pathlib import Path

import pytest
import requests


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
