"""Ground truth: every table against its normalised form, and what the registry says of it."""

import functools
import json

import numpy as np
from offline import DATA, needs
import pandas as pd
import pytest
from scipy.stats import spearmanr

from ncdlib import benchmarks, spaces
from ncdlib.benchmarks import files, readers
from ncdlib.benchmarks.registry import TABLES

needs_data = needs("nats_bench.csv")
NORMALISED = DATA.parent
needs_normalised = pytest.mark.skipif(
    not (NORMALISED / "nasbench201_accuracy.csv.gz").exists(), reason="no normalised tables beside NCDLIB_DATA_DIR"
)

load = functools.cache(benchmarks.load)  # the tests only read


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


OPERATIONS = ("skip_connect", "none", "nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3")  # of NASLib's indices
EDGES = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))  # of NASLib's positions


@needs_data
def test_nasbench201_robust():
    raw = pd.read_csv(DATA / "robustness_targets.csv", index_col="net")
    table = load("nasbench201_robust").set_index("arch")
    assert set(table.index) == set(load("nasbench201_official").arch)
    columns = {"clean": "val_accs", "fgsm_1": "fgsm@Linf_eps-1.0", "fgsm_255": "fgsm@Linf_eps-255.0"}
    columns |= {"pgd_0.5": "pgd@Linf_eps-0.5", "apgd_0.1": "aa_apgd-ce@Linf_eps-0.1", "square_8": "aa_square@Linf_eps-8.0"}
    for net, row in raw.sample(500, random_state=0).iterrows():
        ops = dict(zip(EDGES, (OPERATIONS[int(i)] for i in net.strip("()").split(",")), strict=True))
        nodes = ["".join(f"|{ops[i, node]}~{i}" for i in range(node)) + "|" for node in (1, 2, 3)]
        for ours, theirs in columns.items():
            assert table.loc["+".join(nodes), ours] == row[theirs], (net, ours)
    assert table.shape[1] == raw.shape[1] == 33


@needs_normalised
def test_clean_accuracies_beside_the_robust_ones_are_naslibs():
    oracle = normalised("nasbench201_accuracy.csv.gz", arch_str="arch")
    same(load("nasbench201_robust"), oracle, "arch", {"clean": "cifar10_naslib_valacc_200ep"})


@needs_data
def test_robust_accuracies_fall_with_the_radius_and_agree_with_the_official_accuracies():
    table = load("nasbench201_robust").merge(load("nasbench201_official"), on="arch", validate="1:1")
    assert len(table) == 15625
    assert spearmanr(table.clean, table.cifar10).statistic > 0.9
    attacks = [metric.rpartition("_") for metric in benchmarks.get("nasbench201_robust").metrics][1:]  # without `clean`
    for attack in ("fgsm", "pgd", "apgd", "square"):
        radii = [radius for name, _, radius in attacks if name == attack]
        medians = table[[f"{attack}_{radius}" for radius in radii]].median()
        assert [*map(float, radii)] == sorted(map(float, radii)) and (medians.diff().dropna() <= 0).all(), attack
        assert medians.iloc[0] > 80 and medians.iloc[0] > medians.iloc[2] > medians.iloc[3], attack
    described = benchmarks.describe("nasbench201_robust").set_index("metric")
    assert described.description["pgd_0.5"] == "CIFAR-10 accuracy under PGD, L-infinity norm, radius 0.5/255"
    assert set(described.unit) == {"%"} and set(described.direction) == {"higher"}
    functions = table.drop(columns=["arch", "clean", "cifar10", "cifar100", "imagenet16_120"]).groupby("function")
    assert len(functions) == 6466 and functions.nunique().max().max() == 1  # one network of each function was attacked


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
            radius = float(metric.partition("_")[2]) if name == "nasbench201_robust" and metric != "clean" else 0
            if facts.unit == "%" and facts.direction == "higher" and radius <= 0.5:  # strong attacks leave nothing
                values = load(name)[metric].dropna()
                assert values.between(0, 100).all() and values.max() > 45, (name, metric)  # fractions would stop at 1
    for name in ("transnas_micro", "transnas_macro"):
        table = load(name)
        assert (table.room_layout < 0).all()  # a loss with its sign turned
        ranks = table[list(readers.TRANSNAS_TASKS)].corr("spearman")
        assert (ranks.loc["room_layout", ["class_scene", "class_object"]] > 0.5).all()  # so higher is better there too


@pytest.mark.parametrize("manifest", ["MANIFEST.tsv", "MANIFEST_images_and_robustness.tsv"])
def test_the_files_are_those_of_the_manifest(manifest):
    path = DATA / manifest
    if not path.exists():
        pytest.skip(f"no {manifest} in NCDLIB_DATA_DIR")
    rows = pd.read_csv(path, sep="\t")
    for row in rows.itertuples():
        assert files.PUBLIC.registry[row.file] == f"sha256:{row.sha256}"
        assert files.PUBLIC.urls[row.file] == f"https://raw.githubusercontent.com/{row.repository}/{row.commit}/{row.path}"
    photographs = [name for name in files.names() if name.startswith("imagenet-sample/")]
    assert len(photographs) == 128
    assert manifest == "MANIFEST.tsv" or set(photographs) == set(rows.file) - {"robustness_targets.csv"}


def test_every_file_is_of_a_table_or_holds_images():
    used = {file for table in TABLES.values() for file in table.files}
    cifar = {"cifar-10-binary.tar.gz", "cifar10_first_1000.bin", "cifar-100-binary.tar.gz"}
    assert {name for name in files.names() if not name.startswith("imagenet-sample/")} == used | cifar
