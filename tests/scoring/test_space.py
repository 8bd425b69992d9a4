"""The score table: the same by hand, by one worker or several, and after any interruption."""

import inspect
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import ncdlib
from ncdlib import images, spaces
from ncdlib.scoring import file as table
from ncdlib.scoring import space as scoring
from ncdlib.spaces.nasbench201 import Cell201

SPACE = spaces.get("nasbench201")
RNG = np.random.default_rng(0)
ARCHS = [SPACE.sample(RNG) for _ in range(6)]
SMALL = {"batch": 6, "resolution": 16, "size": {"channels": 4, "cells_per_stage": 1}, "progress": False}


def test_a_row_is_what_the_parts_give_by_hand():
    rows = ncdlib.score_space(
        SPACE, ARCHS[:2], ["swap", "nwot", "flops"], alphas=(0.0, 0.7), norms=("bn", "ln"), seeds=(0, 5),
        activations=("relu", "gelu"), inits=("default", "kaiming"), inputs=("gaussian", "digits"), jobs=1, **SMALL,
    )  # fmt: skip
    assert list(rows.columns) == [*table.KEYS, "score"]
    assert len(rows) == 2 * 3 * 2 * 2 * 2 * 2 * 2 * 2 == len(rows.drop_duplicates(list(table.KEYS)))
    for row in rows.sample(20, random_state=0).itertuples():
        torch.manual_seed(row.seed)
        network = SPACE.build(row.arch, row.norm, row.activation, init=row.init, **SMALL["size"])
        batch = images.batch(row.input, row.batch, row.seed, 16).contiguous(memory_format=torch.channels_last)
        assert row.score == ncdlib.score(network, batch, row.proxy, alpha=row.alpha, seed=row.seed)


def test_the_result_does_not_depend_on_workers_order_or_resumption(tmp_path):
    arguments = {"proxies": ["nwot", "swap"], "alphas": (0.0, 0.5), "norms": (None, "ln"), "seeds": (0, 1), **SMALL}
    alone = ncdlib.score_space("nasbench201", ARCHS, jobs=1, out=tmp_path / "alone.parquet", **arguments)
    together = ncdlib.score_space("nasbench201", ARCHS[::-1], jobs=2, out=tmp_path / "two.parquet", **arguments)
    ncdlib.score_space("nasbench201", ARCHS[2:4], jobs=1, out=tmp_path / "parts.parquet", **arguments | {"seeds": (1,)})
    in_parts = ncdlib.score_space("nasbench201", ARCHS, jobs=1, out=tmp_path / "parts.parquet", **arguments)
    keys = list(table.KEYS)
    pd.testing.assert_frame_equal(alone, in_parts)
    pd.testing.assert_frame_equal(alone.sort_values(keys, ignore_index=True), together.sort_values(keys, ignore_index=True))
    assert (tmp_path / "alone.parquet").read_bytes() == (tmp_path / "parts.parquet").read_bytes()
    assert (tmp_path / "alone.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


def test_a_row_that_stands_is_not_computed_again(tmp_path, monkeypatch):
    out = tmp_path / "scores.parquet"
    ncdlib.score_space(SPACE, ARCHS[:3], jobs=1, out=out, **SMALL)
    computed = []
    original = scoring._score_network
    monkeypatch.setattr(scoring, "_score_network", lambda *a: computed.append(a[1:4]) or original(*a))
    ncdlib.score_space(SPACE, ARCHS[:3], jobs=1, out=out, **SMALL)
    assert computed == []
    ncdlib.score_space(SPACE, ARCHS[:4], ["nwot", "units"], jobs=1, out=out, **SMALL)
    assert [(arch, work) for arch, _, work in computed] == [
        *((arch, {0.0: ["units"]}) for arch in ARCHS[:3]),
        (ARCHS[3], {0.0: ["nwot", "units"]}),
    ]
    assert len(table.read(out)) == 3 * 2 + 3 + 2


SWEEP = """
import sys
import numpy as np
import ncdlib
from ncdlib import spaces
space, rng = spaces.get("nasbench201"), np.random.default_rng(0)
archs = [space.sample(rng) for _ in range(40)]
ncdlib.scoring.space.SAVE_SECONDS = 0.2
ncdlib.score_space(space, archs, seeds=range(40), jobs=1, out=sys.argv[1], progress=False,
                   batch=6, resolution=16, size={"channels": 4, "cells_per_stage": 1})
"""


def test_killed_in_the_middle_the_file_stands_and_a_rerun_completes_it(tmp_path):
    out = tmp_path / "scores.parquet"
    lengths = []
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", SWEEP, out])
        before = out.stat().st_mtime_ns if out.exists() else 0
        while process.poll() is None and (not out.exists() or out.stat().st_mtime_ns == before):
            time.sleep(0.01)
        time.sleep(0.13 * len(lengths))
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        lengths.append(len(table.read(out)))
    assert 0 < lengths[0] < lengths[1] < lengths[2] < 40 * 40 * 2  # work goes on from where it stood
    rng = np.random.default_rng(0)
    archs = [SPACE.sample(rng) for _ in range(40)]
    stands = table.read(out)
    some = stands[stands.seed < 2]
    fresh = ncdlib.score_space(SPACE, archs, seeds=(0, 1), jobs=1, **SMALL).set_index(list(table.KEYS)).score
    assert (some.set_index(list(table.KEYS)).score == fresh.reindex(some.set_index(list(table.KEYS)).index)).all()
    resumed = ncdlib.score_space(SPACE, archs, seeds=(0, 1), jobs=1, out=out, **SMALL).set_index(list(table.KEYS)).score
    assert resumed.equals(fresh)


def test_two_runs_do_not_write_one_file(tmp_path):
    out = tmp_path / "scores.parquet"
    process = subprocess.Popen([sys.executable, "-c", SWEEP, out])
    while not out.exists() and process.poll() is None:
        time.sleep(0.02)
    with pytest.raises(RuntimeError, match="another run is writing"):
        ncdlib.score_space(SPACE, ARCHS, seeds=(99,), jobs=1, out=out, **SMALL)
    process.kill()
    process.wait()
    ncdlib.score_space(SPACE, ARCHS[:1], jobs=1, out=out, **SMALL)  # a killed run holds nothing


def test_a_file_of_other_settings_is_refused_and_kept(tmp_path):
    out = tmp_path / "scores.parquet"
    ncdlib.score_space(SPACE, ARCHS[:1], jobs=1, out=out, **SMALL)
    before = out.read_bytes()
    for change in ({"mask": "shared"}, {"resolution": 8}, {"size": {}}, {"mode": "eval"}, {"count": "legacy"}):
        with pytest.raises(ValueError, match=f"holds scores of other settings .*{next(iter(change))} = "):
            ncdlib.score_space(SPACE, ARCHS[:1], jobs=1, out=out, **SMALL | change)
    assert out.read_bytes() == before


def test_a_file_that_is_no_score_table_is_refused_and_kept(tmp_path):
    out = tmp_path / "scores.parquet"
    ncdlib.score_space(SPACE, ARCHS[:1], jobs=1, out=out, **SMALL)
    for damaged in (out.read_bytes()[:-20], b"", b"PAR1 nonsense PAR1"):
        out.write_bytes(damaged)
        with pytest.raises(ValueError, match="cannot be read as parquet; move it away and score again"):
            ncdlib.score_space(SPACE, ARCHS[:1], jobs=1, out=out, **SMALL)
        assert out.read_bytes() == damaged
    pq.write_table(pa.table({"a": [1]}), out)
    with pytest.raises(ValueError, match=r"is not a score table: it has columns \['a'\]"):
        ncdlib.score_space(SPACE, ARCHS[:1], jobs=1, out=out, **SMALL)


def test_an_error_in_the_middle_keeps_what_was_computed(tmp_path, monkeypatch):
    out = tmp_path / "scores.parquet"
    original = scoring._score_network
    rng = np.random.default_rng(1)
    archs = [SPACE.sample(rng) for _ in range(20)]  # more than are handed out at first

    def fails_at_the_last(space, arch, *rest):
        if arch == archs[-1]:
            raise ValueError("no luck")
        return original(space, arch, *rest)

    monkeypatch.setattr(scoring, "_score_network", fails_at_the_last)
    with pytest.raises(ValueError, match="no luck"):
        ncdlib.score_space(SPACE, archs, jobs=1, out=out, **SMALL)
    assert len(table.read(out)) >= 2 * 8
    assert not list(Path(tmp_path).glob("*.partial"))


def test_scores_that_are_not_finite_are_counted(tmp_path):
    dead = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
    with pytest.warns(UserWarning, match="scores that are not finite, of 2: nwot: 1"):
        rows = ncdlib.score_space(SPACE, [dead], jobs=1, out=tmp_path / "scores.parquet", **SMALL)
    assert rows.set_index("proxy").score.isna().to_dict() == {"nwot": True, "swap": False}
    with pytest.warns(UserWarning, match="nwot: 1"):  # told again when the score stands already
        ncdlib.score_space(SPACE, [dead], jobs=1, out=tmp_path / "scores.parquet", **SMALL)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"space": "nasbench301"}, "unknown search space 'nasbench301': use one of nasbench201"),
        ({"archs": ["|nor_conv_9x9~0|+|none~0|none~1|+|none~0|none~1|none~2|"]}, "unknown operation 'nor_conv_9x9'"),
        ({"archs": []}, "nothing to score"),
        ({"proxies": ["synflaw"]}, "unknown proxy 'synflaw'"),
        ({"alphas": (0.5, 1.0)}, "alpha is the share"),
        ({"norms": ("bm",)}, "unknown norm 'bm'"),
        ({"activations": ("rely",)}, "unknown activation 'rely'"),
        ({"inits": ("xavier",)}, "unknown initialisation 'xavier'"),
        ({"inputs": ("noise",)}, "unknown input 'noise'"),
        ({"batch": 1}, "batch must be a whole number of at least 2, got 1"),
        ({"mask": "dot"}, "unknown mask 'dot'"),
        ({"mode": "off"}, "unknown mode 'off'"),
        ({"size": {"channels": 0}}, "channels must be a whole number of at least 1, got 0"),
        ({"size": {"depth": 3}}, "nasbench201 has no size 'depth': use channels, cells_per_stage, classes"),
        ({"size": 3}, "size must be a dictionary, of channels, cells_per_stage, classes: got 3"),
        ({"space": None}, "unknown search space None: use one of nasbench201"),
        ({"archs": 3}, r"archs takes a list, got 3: write archs=\[3\]"),
        ({"archs": str(ARCHS[0])}, r"archs takes a list, got '\|.*: write archs=\["),
        ({"archs": [3]}, "3 is no architecture of nasbench201: .*a NAS-Bench-201 cell looks like"),
        ({"archs": [None]}, "None is no architecture of nasbench201: .*a NAS-Bench-201 cell looks like"),
        ({"archs": [b"|none~0|"]}, r"b'\|none~0\|' is no architecture of nasbench201: .*a NAS-Bench-201 cell looks like"),
        ({"proxies": "nwot"}, r"proxies takes a list, got 'nwot': write proxies=\['nwot'\]"),
        ({"proxies": [3]}, "proxies takes names, got 3"),
        ({"alphas": 0.95}, r"alphas takes a list, got 0.95: write alphas=\[0.95\]"),
        ({"alphas": ("0.5",)}, "alpha is the share of inputs masked.*got '0.5'"),
        ({"alphas": (1 - 1e-14,)}, "alpha is the share of inputs masked.*got 1.0"),
        ({"norms": "ln"}, "norms takes a list, got 'ln'"),
        ({"norms": (3,)}, "norms takes names or None, got 3"),
        ({"inputs": (None,)}, "inputs takes names, got None"),
        ({"seeds": 3}, r"seeds takes a list, got 3: write seeds=\[3\]"),
        *(
            ({"seeds": (bad,)}, rf"a seed is a whole number from 0 up to, not including, 2\*\*63: got {bad!r}")
            for bad in (-1, 1.5, "ab", True, 2**63)
        ),
        ({"batch": "8"}, "batch must be a whole number of at least 2, got '8'"),
        ({"batch": 8.0}, "batch must be a whole number of at least 2, got 8.0"),
        ({"resolution": 0}, "resolution must be a whole number of at least 1, got 0"),
        ({"count": "twice"}, "unknown count 'twice'"),
        ({"device": "gpu"}, "unknown device 'gpu': use 'cpu' or 'cuda'"),
        ({"device": "meta"}, "device 'meta' cannot score: use 'cpu' or 'cuda'"),
        ({"channels_last": "no"}, "channels_last must be True or False, got 'no'"),
        ({"jobs": 0}, "jobs must be a number of processes, or -1 for one a core, or None: got 0"),
        ({"jobs": "2"}, "jobs must be a number of processes.*got '2'"),
    ],
)
def test_bad_input_writes_nothing(tmp_path, change, message):
    arguments = {"space": "nasbench201", "archs": ARCHS[:1], "jobs": 1, "out": tmp_path / "scores.parquet", **SMALL} | change
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(ncdlib.score_space)(**arguments)  # past the tests' own check of types
    assert not (tmp_path / "scores.parquet").exists()


def test_a_table_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for out, message in (
        ("scores.csv", "scores are written as parquet: use .*scores.parquet, not .*scores.csv"),
        ("file/scores.parquet", "file/scores.parquet cannot be written .*file: File exists.: choose another place"),
    ):
        with pytest.raises(ValueError, match=message):
            ncdlib.score_space(SPACE, ARCHS[:1], jobs=1, out=tmp_path / out, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "pair", ["transnas_micro transnas_macro", "s4 s1", "autoformer_base autoformer_tiny", "s1 nasbench201"]
)
def test_an_architecture_of_another_space_is_refused(pair):
    theirs, ours = (spaces.get(name) for name in pair.split())
    arch = theirs.sample(np.random.default_rng(0))
    with pytest.raises(ValueError, match=f"is no architecture of {ours.name}"):
        ncdlib.score_space(ours, [arch], ["params"], jobs=1, progress=False)


def test_kernels_outside_the_benchmark_are_scored():
    cells = [Cell201((f"nor_conv_{k}x{k}",) * 6) for k in (3, 5)]
    scores = ncdlib.score_space(SPACE, cells, ["params"], jobs=1, progress=False, size={"channels": 4, "cells_per_stage": 1})
    assert np.diff(scores["score"]) == 6 * (25 - 9) * (4**2 + 8**2 + 16**2)  # weights of one cell in each stage


def test_numpy_numbers_are_numbers():
    score_space = inspect.unwrap(ncdlib.score_space)
    plain = score_space(SPACE, ARCHS[:1], alphas=(0.5,), seeds=(0, 1), jobs=1, **SMALL)
    sizes = {"batch": np.int64(6), "size": {"channels": np.int32(4), "cells_per_stage": 1}}
    numpy = score_space(
        SPACE, np.array(ARCHS[:1]), alphas=np.array([0.5]), seeds=np.arange(2), jobs=np.int64(1), **SMALL | sizes
    )
    pd.testing.assert_frame_equal(plain, numpy)


def test_default_sizes_spelled_out_or_not_are_the_same_settings(tmp_path):
    out, arguments = tmp_path / "scores.parquet", {"jobs": 1, "progress": False, "proxies": ["params"]}
    first = ncdlib.score_space(SPACE, ARCHS[:1], out=out, **arguments)
    spelled = ncdlib.score_space(SPACE, ARCHS[:1], out=out, size={"cells_per_stage": 5, "channels": 16}, **arguments)
    assert first.equals(spelled)
    rows = table.read(out)
    rows.attrs["settings"]["size"] = {}  # as files had it
    old = pa.Table.from_pandas(rows, table.SCHEMA, preserve_index=False)
    pq.write_table(old.replace_schema_metadata({"ncdlib": json.dumps(rows.attrs)}), out)
    assert ncdlib.score_space(SPACE, ARCHS[:1], out=out, size={"classes": 10}, **arguments).equals(first)
    with pytest.raises(ValueError, match="holds scores of other settings .size = .*'classes': 10.*'classes': 9"):
        ncdlib.score_space(SPACE, ARCHS[:1], out=out, size={"classes": 9}, **arguments)


def test_alphas_that_differ_by_rounding_are_one():
    rows = ncdlib.score_space(SPACE, ARCHS[:1], ["nwot"], alphas=(0.1 * 3, 0.3), jobs=1, **SMALL)
    assert 0.1 * 3 != 0.3 and rows.alpha.tolist() == [0.3]


def test_the_first_rows_are_saved_at_once(tmp_path, monkeypatch):
    out = tmp_path / "scores.parquet"
    original, seen = scoring._score_network, []
    monkeypatch.setattr(scoring, "SAVE_SECONDS", 1e6)

    def looks(*task):
        seen.append(len(table.read(out)) if out.exists() else 0)
        return original(*task)

    monkeypatch.setattr(scoring, "_score_network", looks)
    ncdlib.score_space(SPACE, ARCHS, seeds=range(5), jobs=1, out=out, **SMALL)
    assert seen[0] == 0 and seen[-1] == 2 and len(table.read(out)) == 5 * 2 * len(ARCHS)


def test_a_complete_table_is_read_where_nothing_can_be_written(tmp_path):
    out = tmp_path / "scores.parquet"
    rows = ncdlib.score_space(SPACE, ARCHS[:2], jobs=1, out=out, **SMALL)
    (tmp_path / "scores.parquet.lock").unlink(missing_ok=True)
    with table.locked(out, "free"):  # whoever writes the file meanwhile
        assert ncdlib.score_space(SPACE, ARCHS[1:2], jobs=1, out=out, **SMALL).equals(rows[2:].reset_index(drop=True))
        with pytest.raises(RuntimeError, match="another run is writing"):
            ncdlib.score_space(SPACE, ARCHS[:3], jobs=1, out=out, **SMALL)
    (tmp_path / "scores.parquet.lock").unlink(missing_ok=True)
    ncdlib.score_space(SPACE, ARCHS[:2], jobs=1, out=out, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["scores.parquet"]  # not even a lock


def test_a_linked_table_is_written_where_the_link_leads(tmp_path):
    (tmp_path / "there").mkdir()
    link, out = tmp_path / "link.parquet", tmp_path / "there" / "scores.parquet"
    link.symlink_to(out)
    ncdlib.score_space(SPACE, ARCHS[:1], jobs=1, out=link, **SMALL)
    assert link.is_symlink() and len(table.read(out)) == 2


def test_a_callers_autocast_changes_nothing():
    rows = ncdlib.score_space(SPACE, ARCHS[:2], jobs=1, **SMALL)
    with torch.autocast("cpu", torch.bfloat16):
        assert ncdlib.score_space(SPACE, ARCHS[:2], jobs=1, **SMALL).equals(rows)


def test_threads_of_the_caller_are_left_alone():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    ncdlib.score_space(SPACE, ARCHS[:1], jobs=1, **SMALL)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)
