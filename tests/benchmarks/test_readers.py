"""Hostile files, and a user's own out-of-distribution accuracies."""

import io
import json
import math
import os
import pickle
import random
import shutil
import time
import zipfile

import numpy as np
from offline import DATA, needs
import pandas as pd
import pytest

from ncdlib import benchmarks
from ncdlib.benchmarks import readers

needs_data = needs("ood-vit-nas_tiny.json")

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
    with pytest.raises(ValueError, match=r"(?s)results\.yaml is not YAML of plain values: .*python/object/apply:os\.system"):
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
        (
            [{**GOOD, "performance": {"Imagenet": {"imagenet-A": "7,5"}}}],
            "Imagenet/imagenet-A must be a finite number, got '7,5'",
        ),
        (broken(embed_dim=math.inf), "embed_dim must be a list of 3 numbers"),
        (broken(mlp_ratio=[4, 4, 10**400]), "mlp_ratio must be a list of 3 numbers"),
        (broken(layer_num=True), "layer_num must be a whole number of at least 1, got True"),
        ([{**GOOD, "A": math.inf}], "A must be a finite number, got inf"),
        ([{**GOOD, "b": True}], "b must be a finite number, got True"),
        ('[{"performance": ' + '{"a": ' * 100_000, "Tiny.json holds dicts or lists that are nested too deeply"),
        ("[" * 100_000, "Tiny.json holds dicts or lists that are nested too deeply"),
        ([{**GOOD, "A": 2}], "gives a twice, as 2 and 1|gives a twice, as 1 and 2"),
        ([GOOD, GOOD], "'3_192_3-3-3_4-4-4' more than once"),
        ([vit([4, 4, 4], 4, a=1)], "shares no architecture with the public table, e.g. '3_192_4-4-4_4-4-4'"),
        ([vit([3, 3, 3], 4, params=1)], "holds no metric beyond the public ones"),
    ],
)
def test_a_malformed_own_file_says_what_is_wrong(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        own(tmp_path, content)


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "OoD-ViT-NAS-Tiny.json"
    path.write_bytes(np.random.default_rng(0).bytes(1000))
    with pytest.raises(ValueError, match="Tiny.json is not JSON"):
        readers.with_own(public_table(tmp_path), path)


def test_a_depth_that_no_memory_could_expand_is_refused_at_once(tmp_path):
    before = time.perf_counter()
    for width in (192, [192] * 3):
        with pytest.raises(
            ValueError, match=r"num_heads must be a list of 1000000000 numbers \(layer_num\), got \[3, 3, 3\]"
        ):
            own(tmp_path, broken(layer_num=10**9, embed_dim=width))
    assert time.perf_counter() - before < 5


@needs_data
def test_an_own_file_in_the_folder_is_picked_up(tmp_path, monkeypatch):
    public = benchmarks.load("autoformer_tiny")
    monkeypatch.setenv("NCDLIB_DATA_DIR", str(tmp_path))
    shutil.copy(DATA / "ood-vit-nas_tiny.json", tmp_path)
    records = json.loads((DATA / "ood-vit-nas_tiny.json").read_text())
    for record in records.values():
        record["performance"]["Imagenet"]["imagenet-A"] = record["params"] / 2
    keys = random.Random(0).sample(sorted(records), 1000)
    (tmp_path / "OoD-ViT-NAS-Tiny.json").write_text(json.dumps({key: records[key] for key in keys}))
    table = benchmarks.load("autoformer_tiny")
    pd.testing.assert_frame_equal(table[list(public)], public)
    assert table.imagenet_a.isna().sum() == 1
    assert (table.imagenet_a.dropna() == table.params[table.imagenet_a.notna()] / 2).all()
    assert "OoD-ViT-NAS-Tiny.json" in table.attrs["metrics"]["imagenet_a"]["description"]
    assert list(table.attrs["metrics"]) == list(table.columns[1:])
