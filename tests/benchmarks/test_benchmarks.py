"""Ground truth: every table against its normalised form, and what happens to files that are wrong, missing or hostile."""

from dataclasses import replace
import functools
import http.server
import io
import json
import math
import os
from pathlib import Path
import pickle
import random
import runpy
import shutil
import sys
import threading
import zipfile

import numpy as np
import pandas as pd
import pytest
import requests
from scipy.stats import spearmanr

from ncdlib import benchmarks, spaces
from ncdlib.benchmarks import __main__ as command
from ncdlib.benchmarks import files, readers
from ncdlib.benchmarks.registry import TABLES

DATA = os.environ.get("NCDLIB_DATA_DIR")
needs_data = pytest.mark.skipif(not DATA, reason="NCDLIB_DATA_DIR is unset: no public files to read")
NORMALISED = Path(DATA or "absent").parent
needs_normalised = pytest.mark.skipif(
    not (NORMALISED / "nasbench201_accuracy.csv.gz").exists(), reason="no normalised tables beside NCDLIB_DATA_DIR"
)
PUBLIC = [name for name, file in files.FILES.items() if isinstance(file, files.PublicFile)]

load = functools.cache(benchmarks.load)  # the tests only read


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty data folder, and no network."""

    def refuse(*args, **kwargs):
        raise requests.exceptions.ConnectionError("no network in this test")

    monkeypatch.setenv("NCDLIB_DATA_DIR", str(tmp_path))
    monkeypatch.setattr("pooch.core.choose_downloader", lambda *args, **kwargs: refuse)
    return tmp_path


# --- the tables against their normalised form -----------------------------------------------------------------------


def same(table, oracle, on, columns):
    """Each column of `table` equals the oracle's, row by row, for exactly the same architectures."""
    left, right = table.set_index(on), oracle.set_index(on)
    assert left.index.is_unique and set(left.index) == set(right.index)
    right = right.loc[left.index]
    for ours, theirs in columns.items():
        if pd.api.types.is_numeric_dtype(left[ours]):
            np.testing.assert_allclose(left[ours], right[theirs], rtol=1e-7, err_msg=ours)  # 8 digits are written
        else:
            assert (left[ours] == right[theirs]).all(), ours


def normalised(name, **columns):
    return pd.read_csv(NORMALISED / name, dtype={"arch": str}).rename(columns=columns)


@needs_normalised
def test_nasbench201_official():
    columns = {name: f"{name}_test_200ep" for name in ("cifar10", "cifar100", "imagenet16_120")}
    oracle = normalised("nasbench201_accuracy.csv.gz", arch_str="arch")
    same(load("nasbench201_official"), oracle, "arch", columns)
    assert (load("nasbench201_official").arch == oracle.arch).all()  # in the official order


@needs_data
def test_nasbench201_official_has_the_published_optima_and_functions():
    table = load("nasbench201_official")
    assert table[["cifar10", "cifar100", "imagenet16_120"]].max().round(2).tolist() == [94.37, 73.51, 47.31]
    assert table.function.nunique() == 6466  # unique cells, Dong & Yang 2020


@needs_data
def test_the_two_trainings_of_nasbench201_agree():
    both = benchmarks.load("nasbench201").merge(load("nasbench201_official"), on="arch", validate="1:1")
    assert len(both) == 15625
    assert spearmanr(both.cifar10_x, both.cifar10_y).statistic > 0.99


@needs_normalised
def test_nasbench101():
    oracle = normalised("nasbench101_20k.csv.gz", module_hash="hash")
    columns = {f"cifar10_{e}ep": f"valid_acc_{e}ep" for e in (4, 12, 36)}
    columns |= {"cifar10": "valid_acc_108ep", "train_seconds": "train_seconds_108ep", "params": "trainable_params"}
    same(load("nasbench101"), oracle, "hash", columns)


@needs_normalised
@pytest.mark.parametrize("kind", ["micro", "macro"])
def test_transnas(kind):
    oracle = normalised(f"transnas101_{kind}.csv.gz", arch_str="arch")
    finals = {column.partition("_valid_")[0]: column for column in oracle if column.endswith("_final")}
    assert set(finals) == set(readers.TRANSNAS_TASKS)
    same(load(f"transnas_{kind}"), oracle, "arch", finals)


@needs_normalised
def test_darts():
    table, oracle = load("darts"), normalised("darts1000_swap.csv", genotype="arch")
    oracle["arch"] = oracle.arch.str.replace("[2, 3, 4, 5]", "range(2, 6)")
    assert (table.arch == oracle.arch).all()
    np.testing.assert_allclose(table.cifar10, oracle.cifar10_acc_200ep, rtol=1e-7)


@needs_normalised
def test_s1_to_s4():
    names = {
        "search_regulariser": "regulariser",
        "search_regulariser_value": "strength",
        "eval_init_channels": "channels",
        "eval_layers": "layers",
    }
    oracle = normalised("robustdarts_evaluated.csv", genotype="arch", test_acc="accuracy", **names)
    oracle["arch"] = oracle.arch.str.replace("[2, 3, 4, 5]", "range(2, 6)")
    key = ["space", "dataset", "regulariser", "strength"]
    same(load("s1_s4"), oracle, key, {column: column for column in ("arch", "channels", "layers", "accuracy")})


@needs_normalised
def test_nasbench_macro():
    oracle = normalised("nasbench_macro_cifar10.csv")
    columns = {"cifar10": "test_acc_mean", "cifar10_std": "test_acc_std", "params": "params", "flops": "flops"}
    columns |= {f"cifar10_run{i}": f"test_acc_run{i}" for i in (1, 2, 3)}
    same(load("nasbench_macro"), oracle, "arch", columns)


@needs_normalised
@pytest.mark.parametrize("size", ["tiny", "small", "base"])
def test_autoformer(size):
    oracle = normalised("ood_vit_nas_autoformer.csv").query("supernet == @size")
    fields = zip(oracle.depth, oracle.embed_dim, oracle.num_heads, oracle.mlp_ratio, strict=True)
    oracle = oracle.assign(arch=["_".join(map(str, row)) for row in fields])
    columns = {"imagenet": "imagenet_top1", "params": "params_m", "flops": "flops_m"}
    if size == "tiny":
        columns["imagenet_c_gaussian_noise_1"] = "imagenet_c_gaussian_noise_sev1_top1"
    same(load(f"autoformer_{size}"), oracle, "arch", columns)


@needs_normalised
def test_autoprox():
    oracle = normalised("autoprox_vit_small_datasets.csv")
    subset = oracle["set"].str.replace("set", "")
    table = load("autoprox")
    assert (table.subset == subset).all()
    for ours, text in zip(table.itertuples(), oracle.arch_json, strict=True):
        arch = json.loads(text)
        if ours.space == "pit":
            assert json.loads(ours.arch) == arch
        else:
            vit = spaces.get("autoformer_tiny").parse(ours.arch)
            assert (vit.depth, vit.embed) == (arch["depth"], arch["hidden_dim"])
            assert list(vit.heads) == arch["num_heads"] and list(vit.ratios) == arch["mlp_ratio"]
    for dataset, theirs in {"cifar100": "c100", "flowers": "flower", "chaoyang": "chaoyang"}.items():
        for ending, how in {"": "base", "_distilled": "kd"}.items():
            np.testing.assert_allclose(table[dataset + ending], oracle[f"{theirs}_{how}_acc"], rtol=1e-7)
    np.testing.assert_allclose(table.imagenet, oracle.imagenet_super_acc, rtol=1e-7)


# --- the registry ---------------------------------------------------------------------------------------------------


@needs_data
@pytest.mark.parametrize("name", benchmarks.names())
def test_a_table_is_what_the_registry_says(name):
    facts, table = benchmarks.get(name), load(name)
    assert list(table) == [*facts.labels, *facts.metrics]
    assert len(table) == facts.rows
    assert all(pd.api.types.is_numeric_dtype(table[metric]) for metric in facts.metrics)
    described = benchmarks.describe(name)
    assert list(described) == ["metric", "unit", "direction", "description"]
    assert table.attrs["metrics"] == described.set_index("metric").to_dict("index")
    assert json.loads(json.dumps(table.attrs)) == table.attrs  # plain, so that it survives in a Parquet file


@needs_data
@pytest.mark.parametrize("name", [name for name in benchmarks.names() if name != "nasbench101"])
def test_architectures_are_native_strings_of_their_space(name):
    table = load(name).sample(200, random_state=0) if len(load(name)) > 1000 else load(name)
    space = table.space if "space" in table else pd.Series(benchmarks.get(name).space, table.index)
    for arch, space_name in zip(table.arch, space, strict=True):
        if space_name != "pit":
            assert str(spaces.get(space_name).parse(arch)) == arch


@needs_data
def test_percent_is_percent_and_better_is_the_right_way_round():
    for name in benchmarks.names():
        for metric, facts in benchmarks.get(name).metrics.items():
            if facts.unit == "%" and facts.direction == "higher":
                values = load(name)[metric].dropna()
                assert values.between(0, 100).all() and values.max() > 45, (name, metric)  # fractions would stop at 1
    for name in ("transnas_micro", "transnas_macro"):
        table = load(name)
        assert (table.room_layout < 0).all()  # a loss with its sign turned
        ranks = table[list(readers.TRANSNAS_TASKS)].corr("spearman")
        assert (ranks.loc["room_layout", ["class_scene", "class_object"]] > 0.5).all()  # so higher is better there too


@pytest.mark.skipif(not Path(DATA or "absent", "MANIFEST.tsv").exists(), reason="no MANIFEST.tsv in NCDLIB_DATA_DIR")
def test_the_files_are_those_of_the_manifest():
    for row in pd.read_csv(Path(DATA, "MANIFEST.tsv"), sep="\t").itertuples():
        url = f"https://raw.githubusercontent.com/{row.repository}/{row.commit}/{row.path}"
        assert files.FILES[row.file] == files.PublicFile(row.file, row.bytes, row.sha256, url)


def test_every_file_belongs_to_a_table_and_every_table_to_files():
    used = {file for table in TABLES.values() for file in table.files}
    assert used == set(files.FILES) - {"cifar-10-binary.tar.gz"}


def test_unknown_names_list_the_known_ones():
    for call in (benchmarks.load, benchmarks.get, benchmarks.describe):
        with pytest.raises(ValueError, match=r"'nasbench202'.*nasbench201, .*autoprox"):
            call("nasbench202")
    with pytest.raises(ValueError, match=r"'nats\.csv'.*nats_bench\.csv"):
        benchmarks.fetch("nats.csv")


def test_the_folder_is_the_variable_or_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("NCDLIB_DATA_DIR", str(tmp_path))
    assert benchmarks.folder() == tmp_path
    for unset in (lambda: monkeypatch.setenv("NCDLIB_DATA_DIR", ""), lambda: monkeypatch.delenv("NCDLIB_DATA_DIR")):
        unset()
        assert benchmarks.folder().name == "ncdlib" and benchmarks.folder().is_absolute()


# --- files that are wrong or missing --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLIC)
def test_an_absent_file_says_where_it_goes(folder, name):
    file = files.FILES[name]
    with pytest.raises(benchmarks.MissingData) as caught:
        benchmarks.fetch(name)
    for fact in (name, file.sha256, file.url, str(folder), "no network in this test"):
        assert fact in str(caught.value)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", PUBLIC)
def test_another_file_of_that_name_is_refused_and_kept(folder, name):
    file, path = files.FILES[name], folder / name
    path.write_bytes(b"something else")
    with pytest.raises(ValueError) as caught:
        benchmarks.fetch(name)
    for fact in (str(path), file.sha256, files.checksum(path), file.url, "14 bytes", str(file.bytes)):
        assert fact in str(caught.value)
    assert path.read_bytes() == b"something else" and list(folder.iterdir()) == [path]


@needs_data
@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda b: b""])
def test_a_truncated_or_altered_file_is_refused_and_kept(folder, damage):
    damaged = damage(Path(DATA, "DARTS_archs_CIFAR10.csv").read_bytes())
    path = folder / "DARTS_archs_CIFAR10.csv"
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match="expected sha256"):
        benchmarks.load("darts")
    assert path.read_bytes() == damaged


@needs_data
def test_a_file_that_is_here_needs_no_network(folder):
    shutil.copy(Path(DATA, "DARTS_archs_CIFAR10.csv"), folder)
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
            expected = tmp_path / "expected"
            expected.write_bytes(Handler.CONTENT)
            url = f"http://127.0.0.1:{server.server_port}{path}"
            file = files.PublicFile("served.csv", len(Handler.CONTENT), files.checksum(expected), url)
            monkeypatch.setitem(files.FILES, file.name, file)
            return file

        server.serve = serve
        monkeypatch.setenv("NCDLIB_DATA_DIR", str(tmp_path / "data"))  # made on first use
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield server
        server.shutdown()


@pytest.mark.parametrize("progress", [False, True])
def test_a_download_is_verified_kept_and_not_repeated(server, progress, capsys):
    file = server.serve("/good")
    path = benchmarks.fetch(file.name, progress=progress)
    assert path == benchmarks.folder() / file.name and path.read_bytes() == Handler.CONTENT
    assert ("100%" in capsys.readouterr().err) == progress
    assert benchmarks.fetch(file.name) == path and server.asked == 1
    assert list(benchmarks.folder().iterdir()) == [path]


@pytest.mark.parametrize("path, reason", [("/absent", "404"), ("/other", "does not match"), ("/cut", "IncompleteRead")])
def test_a_failed_download_leaves_nothing(server, path, reason):
    file = server.serve(path)
    with pytest.raises(benchmarks.MissingData, match=f"(?s){reason}.*{file.sha256}"):
        benchmarks.fetch(file.name)
    assert list(benchmarks.folder().iterdir()) == []


# --- hostile files --------------------------------------------------------------------------------------------------


class Hostile:
    """Unpickled by the plain loader, it makes the file `marker`."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_runs_a_command_is_refused(tmp_path, protocol):
    marker = tmp_path / "marker"
    content = pickle.dumps({(0, 0, 0, 0, 0, 0): Hostile(marker)}, protocol)
    (tmp_path / "data.anb").write_bytes(content)
    with pytest.raises(ValueError, match=r"(posix|nt)\.system.*analognasbench\.data\.Architecture"):
        readers.analog_nasbench(tmp_path / "data.anb")
    with zipfile.ZipFile(tmp_path / "gt.pth", "w") as archive:
        archive.writestr("archive/data.pkl", content)
    with pytest.raises(ValueError, match=r"(posix|nt)\.system.*no class at all"):
        readers.autoprox(*[tmp_path / "gt.pth"] * 3)
    assert not marker.exists()
    pickle.loads(content)  # the command would have worked
    assert marker.exists()


@pytest.mark.parametrize(
    "module, name",
    [
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("importlib", "import_module"),
        ("torch.serialization", "load"),
        ("collections", "OrderedDict"),
        ("analognasbench.data", "AnalogNASBench"),
        ("analognasbench.data", "os.system"),
        ("analognasbench", "data.Architecture.__init__"),
    ],
)
def test_every_other_name_is_refused_by_name(module, name):
    names = ("analognasbench.data.Architecture", "analognasbench.data.DriftMeasurement")
    as_global = f"c{module}\n{name}\n.".encode()
    as_stack_global = b"\x80\x04" + b"".join(b"\x8c" + bytes([len(s)]) + s.encode() for s in (module, name)) + b"\x93."
    as_inst = f"(i{module}\n{name}\n.".encode()
    for content in (as_global, as_stack_global, as_inst):
        with pytest.raises(ValueError, match=f"{module}.{name}"):
            readers.PlainUnpickler(io.BytesIO(content), names).load()


def test_yaml_that_runs_a_command_is_refused(tmp_path):
    marker = tmp_path / "marker"
    path = tmp_path / "results.yaml"
    path.write_text(f"!!python/object/apply:os.system ['touch {marker}']")
    with pytest.raises(readers.yaml.YAMLError, match=r"python/object/apply:os\.system"):
        readers.robust_darts(path, path, path)
    assert not marker.exists()


# --- a user's own out-of-distribution accuracies --------------------------------------------------------------------


def vit(heads, ratio, **metrics):
    """A record as in the benchmark's files; three blocks keep it short."""
    setting = {"layer_num": 3, "embed_dim": [192] * 3, "num_heads": heads, "mlp_ratio": [ratio] * 3}
    return {"net_setting": setting, **metrics}


def public_table(tmp_path):
    records = [vit([3, 3, 3], 4, performance={"Imagenet": {"clean": 75.0}}), vit([3, 4, 3], 3.5, params=6.0)]
    (tmp_path / "public.json").write_text(json.dumps(records))
    return readers.autoformer(tmp_path / "public.json")


def own(tmp_path, content):
    path = tmp_path / "OoD-ViT-NAS-Tiny.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return readers.with_own(public_table(tmp_path), path)


def test_own_metrics_are_joined_by_architecture_whatever_the_form(tmp_path):
    nested = {
        "clean": 1.0,
        "imagenet-A": 7.5,
        "imagenet-C": {"Gaussian Noise": {"5": 40}},
        "sketch": None,
        "A": math.nan,
        "raw": [1, 2],
    }
    records = [
        vit([3, 4, 3], 3.5, performance={"Imagenet": nested}),
        vit([3, 3, 3], 4.0, performance={"Imagenet": {"imagenet-A": 6}}),
    ]
    flat = [
        {**record["net_setting"], "embed_dim": 192, "imagenet-a": value}
        for record, value in zip(records, (7.5, 6), strict=True)
    ]
    flat[0]["imagenet_c"] = {"gaussian noise": {"5": 40}}
    expected = pd.DataFrame(
        {
            "arch": ["3_192_3-3-3_4-4-4", "3_192_3-4-3_3.5-3.5-3.5"],
            "imagenet": [75.0, np.nan],  # the public value stays
            "params": [np.nan, 6.0],
            "imagenet_a": [6.0, 7.5],
            "imagenet_c_gaussian_noise_5": [np.nan, 40.0],
        }
    )
    for content in (records, records[::-1], {"0": records[0], "9": records[1]}, flat):
        pd.testing.assert_frame_equal(own(tmp_path, content), expected, check_like=True)


def test_an_architecture_that_only_the_own_file_holds_gets_a_row(tmp_path):
    joined = own(tmp_path, [vit([4, 4, 4], 4, a=1), vit([3, 3, 3], 4, a=2)])
    assert joined.arch.tolist() == ["3_192_3-3-3_4-4-4", "3_192_3-4-3_3.5-3.5-3.5", "3_192_4-4-4_4-4-4"]
    np.testing.assert_array_equal(joined.a, [2, np.nan, 1])
    np.testing.assert_array_equal(joined.imagenet, [75, np.nan, np.nan])


GOOD = vit([3, 3, 3], 4, a=1)


def broken(**setting):
    return [{**GOOD, "net_setting": {**GOOD["net_setting"], **setting}}]


@pytest.mark.parametrize(
    "content, message",
    [
        ("[{", "Tiny.json is not JSON"),
        ("[]", r"list or a dict of records, got \[\]"),
        ("3", "list or a dict of records, got 3"),
        ([GOOD, 7], "record 1 must be a dict, got 7"),
        ({"x": {"performance": {}}}, "record x lacks layer_num, embed_dim, num_heads, mlp_ratio"),
        ([{"net_setting": [1]}], "record 0 lacks layer_num"),
        ([{"net_setting": {"layer_num": 3, "num_heads": [3, 3, 3]}}], "record 0 lacks embed_dim, mlp_ratio"),
        (broken(layer_num="3"), "layer_num must be a whole number of at least 1, got '3'"),
        (broken(num_heads=[3, 3]), r"num_heads must be a list of 3 numbers \(layer_num\), got \[3, 3\]"),
        (broken(mlp_ratio="4-4-4"), "mlp_ratio must be a list of 3 numbers"),
        (broken(embed_dim=[192, 192, 216]), "embed_dim must be the same in all blocks"),
        ([{**GOOD, "performance": 75.0}], "performance must be a dict, got 75.0"),
        ([{**GOOD, "performance": {"Imagenet": {"imagenet-A": "7,5"}}}], "Imagenet/imagenet-A must be a number, got '7,5'"),
        ([{**GOOD, "A": 2}], "gives a twice, as 2 and 1|gives a twice, as 1 and 2"),
        ([GOOD, GOOD], "'3_192_3-3-3_4-4-4' more than once"),
        ([vit([4, 4, 4], 4, a=1)], "shares no architecture with the public table, e.g. '3_192_4-4-4_4-4-4'"),
        ([vit([3, 3, 3], 4, params=1)], "holds no metric beyond the public ones"),
    ],
)
def test_a_malformed_own_file_says_what_is_wrong(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        own(tmp_path, content)


@needs_data
def test_an_own_file_in_the_folder_is_picked_up(folder):
    public = load("autoformer_tiny")
    shutil.copy(Path(DATA, "ood-vit-nas_tiny.json"), folder)
    records = json.loads(Path(DATA, "ood-vit-nas_tiny.json").read_text())
    for record in records.values():
        record["performance"]["Imagenet"]["imagenet-A"] = record["params"] / 2
    keys = random.Random(0).sample(sorted(records), 1000)
    (folder / "OoD-ViT-NAS-Tiny.json").write_text(json.dumps({key: records[key] for key in keys}))
    table = benchmarks.load("autoformer_tiny")
    pd.testing.assert_frame_equal(table[list(public)], public)
    assert table.imagenet_a.isna().sum() == 1
    assert (table.imagenet_a.dropna() == table.params[table.imagenet_a.notna()] / 2).all()
    assert "OoD-ViT-NAS-Tiny.json" in table.attrs["metrics"]["imagenet_a"]["description"]
    assert list(table.attrs["metrics"]) == list(table.columns[1:])


# --- the command line -----------------------------------------------------------------------------------------------


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
    assert command.main(["verify", "darts"]) == 1
    assert capsys.readouterr().out == "absent  DARTS_archs_CIFAR10.csv\n"
    (folder / "robustdarts-archs.yaml").write_bytes(b"altered")
    assert command.main(["verify"]) == 1
    assert "FAILED  robustdarts-archs.yaml: " in capsys.readouterr().out
    assert command.main(["verify", "nasbench201"]) == 0


def test_fetch(folder, server, capsys, monkeypatch):
    monkeypatch.undo()  # of the network's refusal; the server's folder and file are set anew
    monkeypatch.setenv("NCDLIB_DATA_DIR", str(folder))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    file = server.serve("/good")
    monkeypatch.setitem(TABLES, "darts", replace(TABLES["darts"], files=(file.name,)))
    assert command.main(["fetch", "darts", file.name]) == 0
    assert capsys.readouterr().out == "ok      served.csv\n"
    file.path.unlink()
    file = server.serve("/absent")
    assert command.main(["fetch", file.name]) == 1
    assert "FAILED  served.csv: " in capsys.readouterr().out


def test_fetch_without_names_leaves_out_the_images(folder, capsys):
    assert command.main(["fetch"]) == 1
    out = capsys.readouterr().out
    assert out.count("FAILED") == len(files.FILES) - 2 and "ok      data.anb" in out  # the images are not asked for
    assert "cifar-10-binary" not in out


def test_an_unknown_name_on_the_command_line(capsys):
    with pytest.raises(SystemExit, match="2"):
        command.main(["fetch", "nasbench202"])
    assert "unknown name 'nasbench202'" in capsys.readouterr().err


def test_the_module_exits_with_the_status(folder, monkeypatch, capsys):
    (folder / "nats_bench.csv").write_bytes(b"altered")
    monkeypatch.delitem(sys.modules, command.__name__)  # as for python -m, where it is not imported yet
    for file, status in {"nats_bench.csv": 1, "data.anb": 0}.items():
        monkeypatch.setattr(sys, "argv", ["benchmarks", "verify", file])
        with pytest.raises(SystemExit) as caught:
            runpy.run_module("ncdlib.benchmarks", run_name="__main__")
        assert caught.value.code == status
    assert "FAILED  nats_bench.csv" in capsys.readouterr().out
