"""The public files behind the tables: where each comes from, its checksum, and how it gets into the data folder."""

from dataclasses import dataclass
import hashlib
from importlib import metadata
import os
from pathlib import Path

import pooch


class MissingData(OSError):
    """A public file is not in the data folder and cannot be had from its address now."""


@dataclass(frozen=True)
class PublicFile:
    """A file served at a public address, kept in the data folder under `name`."""

    name: str
    bytes: int
    sha256: str
    url: str

    @property
    def path(self) -> Path:
        return folder() / self.name

    @property
    def source(self) -> str:
        return f"download it from {self.url} to {self.path}"


@dataclass(frozen=True)
class PackagedFile:
    """A file that an installed package brings along; the package itself is never imported."""

    name: str
    bytes: int
    sha256: str
    package: str
    version: str
    inside: str  # its place among the package's files

    @property
    def path(self) -> Path:
        try:
            files = metadata.files(self.package) or []
        except metadata.PackageNotFoundError:
            raise MissingData(
                f"{self.name} comes with the package {self.package}, which is not installed: {self.source}"
            ) from None
        for file in files:
            if file.as_posix() == self.inside and Path(file.locate()).exists():
                return Path(file.locate())
        raise MissingData(f"the installed {self.package} holds no {self.inside}: {self.source}")

    @property
    def source(self) -> str:
        return f"pip install --force-reinstall {self.package}=={self.version}"


File = PublicFile | PackagedFile


def _github(name: str, size: int, sha256: str, repository: str, commit: str, path: str) -> PublicFile:
    return PublicFile(name, size, sha256, f"https://raw.githubusercontent.com/{repository}/{commit}/{path}")


_OOD = ("vovantuan1999a/OoD-ViT-NAS", "037c8e0aeb053759cbbdd82c9bdab2dfb424aaa2")
_AUTOPROX = ("lliai/Auto-Prox-AAAI24", "90ed458eff6948a6f0d23e440a8d21bbec50d091")
_ROBUST = ("automl/RobustDARTS", "f83f0a82e56e81f4ae0aba810c07ab64dfba7044")

_ALL: tuple[File, ...] = (
    PackagedFile(
        "data.anb", 5610467, "85f3435b877aa2d36268d55ce07f6ff6d73643d17a840f1941745da5eb80db32",
        "analog-nasbench", "0.1.3", "analognasbench/data.anb",
    ),
    _github(
        "nats_bench.csv", 3024008, "cb5d777ec3368be83c8f9b3aa4d520696051cb0eb8d94b8f85b519f9ea4afa3e",
        "v-tao/nats-bench-landscape", "312680307c44fd111146b2be0d0148194fbb2ca8", "nats_bench.csv",
    ),
    _github(
        "nasbench101-20k.json", 2862972, "7eaca9658aebf16443d3df5b38e61fe75d85787abc485cfc9a2088328443c3e9",
        "tiga1231/nasbench-vis", "7aec0e76fbcd963371799af25f78223069897b58", "static/data/data-20k.json",
    ),
    _github(
        "naslib-all_benchmarks_zen.zip", 1016797, "d70d3ddcda2264806a467d3fb3840e8ce04c5b0129776110a62018ea68e6d7f2",
        "automl/NASLib", "7a5496e2211d8ab65da40e0e2d5333aba87df614", "naslib/data/zc_benchmarks/all_benchmarks_zen.zip",
    ),
    _github(
        "naslib-tnb101_macro_zen.zip", 870234, "c34526c4f37f06205e61efeeb80bce5340dbce555ad558a10d6a897258d0de7b",
        "automl/NASLib", "eba9f98038440ba2f246f6054ebd7ba55ad38b3a", "run/results/benchmarks/tnb101_macro_zen.zip",
    ),
    _github(
        "DARTS_archs_CIFAR10.csv", 423509, "d28d263aa7dd4103b6a1da1775b1b03ae16ffd2516409ca3bd493c8784abe6b0",
        "pym1024/SWAP_Universal", "13b65704296e941cd8bf9a5c4d82f329fb472c21", "datasets/DARTS_archs_CIFAR10.csv",
    ),
    _github(
        "nas-bench-macro_cifar10.json", 1178821, "686dee8363cc21cca8c1f321ad5749454f2d9b9ca5972682e137e539bc522297",
        "xiusu/NAS-Bench-Macro", "61a2bfc2ca0dce04d0997e6cf498047c27d6acf2", "data/nas-bench-macro_cifar10.json",
    ),
    _github(
        "ood-vit-nas_tiny.json", 391651, "5e07b49782d4f808c81fa565bcff5432293f832b8822224469f69edb380a1e70",
        *_OOD, "architecture_infors/1k_Vit_Architecture_from_AutoFM_tiny.json",
    ),
    _github(
        "ood-vit-nas_small.json", 358361, "d70fb30822848d71ce88efcff071973dce7f2256bc1a5eb663fcc138ca6ee789",
        *_OOD, "architecture_infors/1k_Vit_Architecture_from_AutoFM_small.json",
    ),
    _github(
        "ood-vit-nas_base.json", 393335, "b7ab49e1411c890f4372a50552c98b7589e75e66b4b42274738a1e07e2cc03ff",
        *_OOD, "architecture_infors/1k_Vit_Architecture_from_AutoFM_base.json",
    ),
    _github(
        "autoprox-gt_autoformer.pth", 26671, "712ad277546d9f7f565ce07885be7e0b98dcd8d0724fdd1120f595b517436eca",
        *_AUTOPROX, "gt_results/gt_autoformer.pth",
    ),
    _github(
        "autoprox-gt_autoformer_2.pth", 23983, "05f5df6a41f338fb5f47eafebfc8758c75e451606856b278ccda1c60b26e7bca",
        *_AUTOPROX, "gt_results/gt_autoformer_2.pth",
    ),
    _github(
        "autoprox-gt_pit.pth", 12271, "bdda89841d4105f99ab759e3243e7a2402929ba7a8430dac12a50256aa533bb2",
        *_AUTOPROX, "gt_results/gt_pit.pth",
    ),
    _github(
        "robustdarts-results.yaml", 1267, "406eb2221ca9313e23f8d13203cc29e875706abfb2942cd7a40c586c7e6557af",
        *_ROBUST, "src/evaluation/results.yaml",
    ),
    _github(
        "robustdarts-archs.yaml", 15429, "0e519993691e31efed728b76d0d017ffd069e6f1a3136bbde91d5d01785414a0",
        *_ROBUST, "src/evaluation/archs.yaml",
    ),
    _github(
        "robustdarts-config.yaml", 1406, "6adf821ae32e56ff3ffd841ce75c4edaa9fb6ca0caa39212d17ac7577e714938",
        *_ROBUST, "src/evaluation/config.yaml",
    ),
    PublicFile(
        "cifar-10-binary.tar.gz", 170052171, "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    ),
)  # fmt: skip

FILES: dict[str, File] = {file.name: file for file in _ALL}


def folder() -> Path:
    """Where the public files lie: NCDLIB_DATA_DIR where it is set, else the user's cache."""
    return Path(os.environ.get("NCDLIB_DATA_DIR") or pooch.os_cache("ncdlib")).expanduser()


def fetch(name: str, *, progress: bool = False) -> Path:
    """The path of a file whose checksum holds, downloaded first where the data folder lacks it.

    A file that stands in the folder is verified and used without network; it is never replaced.

    Raises ValueError for an unknown name and for a file that was altered or cut short, MissingData where the file is
    absent and cannot be downloaded. Each says what to put where.
    """
    if name not in FILES:
        raise ValueError(f"unknown file {name!r}: use one of {', '.join(FILES)}")
    file = FILES[name]
    path = file.path
    if isinstance(file, PublicFile) and not path.exists():
        _download(file, progress)
    found = checksum(path)
    if found != file.sha256:
        raise ValueError(
            f"{path} is not the published {name}: expected sha256 {file.sha256} ({file.bytes} bytes), "
            f"found {found} ({path.stat().st_size} bytes). Remove it, then {file.source}"
        )
    return path


def checksum(path: Path) -> str:
    """The sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _download(file: PublicFile, progress: bool) -> None:
    # pooch writes to a temporary file beside the target, verifies it and only then gives it its name.
    try:
        pooch.retrieve(file.url, f"sha256:{file.sha256}", fname=file.name, path=file.path.parent, progressbar=progress)
    except (OSError, ValueError) as error:  # no network, no such address, no room; ValueError: other bytes than published
        raise MissingData(
            f"{file.name} is not in {file.path.parent} and could not be downloaded ({error}). By hand: {file.source} "
            f"(sha256 {file.sha256}, {file.bytes} bytes); the folder can be chosen by NCDLIB_DATA_DIR"
        ) from error
