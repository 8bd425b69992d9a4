"""From a published file to a table: one function per format. No reader runs code from a file."""

from collections.abc import Iterator, Mapping, Sequence
import io
import json
from pathlib import Path
import pickle
import re
from reprlib import repr as short
import sys
from types import SimpleNamespace
from typing import Any
import zipfile

import pandas as pd
import yaml

NASBENCH201_OPS = ("skip_connect", "none", "nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3")  # NASLib's order
TRANSNAS_TASKS = ("class_scene", "class_object", "room_layout", "jigsaw", "segmentsemantic", "normal", "autoencoder")


class PlainUnpickler(pickle.Unpickler):
    """Reads numbers, strings, lists, tuples and dicts; instances of the classes in `admitted` become plain records.

    Any other name in the file raises ValueError, before anything is imported or called.
    """

    def __init__(self, stream: io.BufferedIOBase, admitted: tuple[str, ...] = ()) -> None:
        super().__init__(stream)
        self.admitted = admitted

    def find_class(self, module: str, name: str) -> type:
        if f"{module}.{name}" not in self.admitted:
            allowed = ", ".join(self.admitted) or "no class at all"
            raise ValueError(
                f"the pickle asks for {module}.{name}, but this reader admits {allowed}: the file is not as published"
            )
        return SimpleNamespace


def analog_nasbench(path: Path) -> pd.DataFrame:
    """data.anb of analog-nasbench: a pickled dict from a tuple of six operations to an object with its accuracies."""
    with path.open("rb") as stream:
        classes = ("analognasbench.data.Architecture", "analognasbench.data.DriftMeasurement")
        cells = PlainUnpickler(stream, classes).load()
    archs = [_nasbench201_native(key) for key in cells]
    return pd.DataFrame({"arch": archs, "cifar10": [cell.baseline_accuracy for cell in cells.values()]})


def _nasbench201_native(key: Sequence[int]) -> str:
    """The native string of NASLib's six operation indices, for the edges 0>1, 0>2, 0>3, 1>2, 1>3, 2>3."""
    a, b, d, c, e, f = (NASBENCH201_OPS[i] for i in key)
    return f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|"


def nats_bench(path: Path) -> pd.DataFrame:
    """nats_bench.csv: the official NAS-Bench-201 cells in the official order."""
    columns = {
        "ArchitectureString": "arch",
        "UniqueString": "function",
        "CIFAR10TestAccuracy200Epochs": "cifar10",
        "CIFAR100TestAccuracy200Epochs": "cifar100",
        "ImageNetTestAccuracy200Epochs": "imagenet16_120",
    }
    return pd.read_csv(path).rename(columns=columns)[list(columns.values())]


def nasbench201_robust(path: Path) -> pd.DataFrame:
    """robustness_targets.csv: one row per cell, columns such as aa_apgd-ce@Linf_eps-0.5, which becomes apgd_0.5."""
    table = pd.read_csv(path)
    table.insert(0, "arch", [_nasbench201_native([int(digit) for digit in re.findall(r"\d", net)]) for net in table.net])
    names = table.columns.str.replace(r"^(?:aa_)?([a-z]+)(?:-ce)?@Linf_eps-([\d.]+?)(?:\.0)?$", r"\1_\2", regex=True)
    return table.set_axis(names, axis=1).rename(columns={"val_accs": "clean"})


def nasbench101(path: Path) -> pd.DataFrame:
    """data-20k.json: parallel lists, accuracies as fractions."""
    lists = json.loads(path.read_text(encoding="utf-8"))
    accuracies = {f"cifar10_{e}ep": 100 * pd.Series(lists[f"{e}_final_validation_accuracy"]) for e in (4, 12, 36)}
    return pd.DataFrame(
        {
            "hash": lists["key"],
            "cifar10": 100 * pd.Series(lists["108_final_validation_accuracy"]),
            **accuracies,
            "train_seconds": lists["final_training_time"],
            "params": lists["trainable_parameters"],
        }
    )


def transnas(path: Path, kind: str) -> pd.DataFrame:
    """A zip of JSON lists, several per task, keyed by tuples of native digits. `kind`: micro or macro."""
    columns = {}
    with zipfile.ZipFile(path) as archive:
        for task in TRANSNAS_TASKS:
            parts = [name for name in archive.namelist() if f"_{kind}--{task}--" in name]
            rows = [row for name in parts for row in json.loads(archive.read(name))]
            columns[task] = pd.Series({row["arch"]: row["val_accuracy"] for row in rows})
    table = pd.DataFrame(columns)  # joined by architecture
    table.insert(0, "arch", [_transnas_native(key, kind) for key in table.index])
    return table.sort_values("arch", ignore_index=True)


def _transnas_native(key: str, kind: str) -> str:
    digits = re.sub(r"\D", "", key)
    if kind == "macro":
        return f"64-{digits}-basic"
    return f"64-41414-{digits[0]}_{digits[1:3]}_{digits[3:]}"


def swap_darts(path: Path) -> pd.DataFrame:
    """DARTS_archs_CIFAR10.csv, which has no header."""
    table = pd.read_csv(path, names=["arch", "cifar10"])
    return table.assign(arch=table.arch.str.replace("[2, 3, 4, 5]", "range(2, 6)"))  # as DARTS itself writes it


def robust_darts(results: Path, archs: Path, config: Path) -> pd.DataFrame:
    """The three YAML files of RobustDARTS' evaluation, keyed by space_dataset_regulariser, then by its strength."""
    accuracy, genotype, size = (_plain_yaml(path) for path in (results, archs, config))
    rows = []
    for run, by_strength in accuracy.items():
        space, dataset, regulariser = run.split("_")
        for strength, test in by_strength.items():
            rows.append(
                {
                    "arch": genotype[run][strength],
                    "space": space,
                    "dataset": dataset,
                    "regulariser": {"dp": "drop_path", "wd": "l2_weight_decay"}[regulariser],
                    "strength": strength,
                    "channels": size[run]["init_channels"],
                    "layers": size[run]["layers"],
                    "accuracy": test,
                }
            )
    return pd.DataFrame(rows)


def _plain_yaml(path: Path) -> dict[str, Any]:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{path} is not YAML of plain values: {error}") from error


def nasbench_macro(path: Path) -> pd.DataFrame:
    """nas-bench-macro_cifar10.json: a dict from the code to three trainings."""
    cells = json.loads(path.read_text(encoding="utf-8"))
    table = pd.DataFrame.from_dict(cells, orient="index").sort_index().rename_axis("arch").reset_index()
    table[[f"cifar10_run{i}" for i in (1, 2, 3)]] = table.test_acc.tolist()
    return table.rename(columns={"mean_acc": "cifar10", "std": "cifar10_std"})


def autoprox(*paths: Path) -> pd.DataFrame:
    """The .pth files of Auto-Prox: torch archives whose pickles hold lists of plain dicts."""
    rows = []
    for path, subset in zip(paths, ("autoformer_1", "autoformer_2", "pit"), strict=True):
        with zipfile.ZipFile(path) as archive:
            records = PlainUnpickler(io.BytesIO(archive.read("archive/data.pkl"))).load()
        for record in records:
            arch = record.pop("arch")
            if subset == "pit":
                names = {"arch": json.dumps(arch, sort_keys=True), "space": "pit"}
            else:
                text = _autoformer_native(arch["hidden_dim"], arch["num_heads"], arch["mlp_ratio"])
                names = {"arch": text, "space": "autoformer_tiny"}
            rows.append({**names, "subset": subset, **record})
    columns = {
        "c100_base_acc": "cifar100",
        "c100_kd_acc": "cifar100_distilled",
        "flower_base_acc": "flowers",
        "flower_kd_acc": "flowers_distilled",
        "chaoyang_base_acc": "chaoyang",
        "chaoyang_kd_acc": "chaoyang_distilled",
        "imagenet_super_acc": "imagenet",
    }
    return pd.DataFrame(rows).rename(columns=columns).astype(dict.fromkeys(columns.values(), float))


def autoformer(path: Path) -> pd.DataFrame:
    """A JSON file of OoD-ViT-NAS: AutoFormer subnets and their accuracies, in the form that `with_own` describes."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, list | dict) or not content:
            raise ValueError(f"{path} must hold a list or a dict of records, got {short(content)}")
        records = content.items() if isinstance(content, dict) else enumerate(content)
        return pd.DataFrame(_vit_record(f"{path}, record {key}", record) for key, record in records)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    except RecursionError:
        raise ValueError(f"{path} holds dicts or lists that are nested too deeply to be read") from None


def _autoformer_native(embed: float, heads: Sequence[float], ratios: Sequence[float]) -> str:
    return f"{len(heads)}_{embed:g}_{'-'.join(f'{h:g}' for h in heads)}_{'-'.join(f'{r:g}' for r in ratios)}"


def with_own(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """`table` of AutoFormer subnets, joined by architecture with the further metrics of a user's own file.

    The file is JSON: a list or a dict of records. A record gives its architecture by `layer_num`, `embed_dim`, `num_heads`
    and `mlp_ratio` (the last three are lists over blocks; `embed_dim` may be one number), in a dict `net_setting` or beside
    the metrics. A metric is a finite number in nested dicts under `performance`, or beside it; null is missing,
    and lists are ignored:

        {"0": {"net_setting": {"layer_num": 12, "embed_dim": [192, ...], "num_heads": [3, ...], "mlp_ratio": [4, ...]},
               "performance": {"Imagenet": {"clean": 75.3, "imagenet-A": 7.1, "imagenet-C": {"Fog": {"5": 40.2}}}}}}

    gives the columns imagenet (of `clean`), imagenet_a and imagenet_c_fog_5. A column that `table` has is not replaced; an
    architecture that only one of the two holds gets missing values. ValueError names the wrong record and the reason.
    """
    own = autoformer(path)
    twice = own.arch[own.arch.duplicated()]
    if len(twice):
        raise ValueError(f"{path} holds architecture {twice.iloc[0]!r} more than once: keep one record of each")
    if not own.arch.isin(table.arch).any():
        raise ValueError(
            f"{path} shares no architecture with the public table, e.g. {own.arch[0]!r}: is it another supernet's?"
        )
    new = [column for column in own if column not in table]
    if not new:
        raise ValueError(f"{path} holds no metric beyond the public ones: expected numbers under 'performance'")
    archs = [*table.arch, *own.arch[~own.arch.isin(table.arch)]]
    return table.set_index("arch").reindex(archs).join(own.set_index("arch")[new]).reset_index()


def _vit_record(where: str, record: Any) -> dict[str, Any]:  # noqa: ANN401  whatever JSON holds
    """One row: `arch` and the metrics of one record."""
    fields = ("layer_num", "embed_dim", "num_heads", "mlp_ratio")
    if not isinstance(record, dict):
        raise ValueError(f"{where} must be a dict, got {short(record)}")
    setting = record.get("net_setting", record)
    missing = [field for field in fields if field not in setting] if isinstance(setting, dict) else fields
    if missing:
        raise ValueError(f"{where} lacks {', '.join(missing)}: an architecture needs {', '.join(fields)}")
    depth, heads, ratios, width = (setting[field] for field in ("layer_num", "num_heads", "mlp_ratio", "embed_dim"))
    if type(depth) is not int or depth < 1:
        raise ValueError(f"{where}: layer_num must be a whole number of at least 1, got {short(depth)}")
    for field, values in {"num_heads": heads, "mlp_ratio": ratios, "embed_dim": width}.items():
        if field == "embed_dim" and not isinstance(width, list):
            width = values = [width] * len(heads)
        if not isinstance(values, list) or len(values) != depth or not all(_number(value) for value in values):
            raise ValueError(f"{where}: {field} must be a list of {depth} numbers (layer_num), got {short(values)}")
    if len(set(width)) != 1:
        raise ValueError(f"{where}: embed_dim must be the same in all blocks, got {short(width)}")
    row: dict[str, Any] = {"arch": _autoformer_native(width[0], heads, ratios)}
    if not isinstance(record.get("performance", {}), dict):
        raise ValueError(f"{where}: performance must be a dict, got {short(record['performance'])}")
    rest = {key: value for key, value in record.items() if key not in (*fields, "net_setting")}
    for name, value in _metrics(where, rest):
        if row.setdefault(name, value) != value:
            raise ValueError(f"{where} gives {name} twice, as {row[name]} and {value:g}")
    return row


def _metrics(where: str, tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, float]]:
    """The numbers in a tree of dicts, each with the column name that its path gives."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _metrics(where, value, (*path, key))
        elif _number(value):
            yield _column((*path, key)), value
        elif not (value is None or value != value or isinstance(value, list)):  # NaN is a missing value, as null is
            raise ValueError(f"{where}: {'/'.join((*path, key))} must be a finite number, got {short(value)}")


def _column(path: tuple[str, ...]) -> str:
    """("performance", "Imagenet", "imagenet-C", "Fog", "5") -> imagenet_c_fog_5; of clean images, "Imagenet" is kept."""
    parts = [re.sub(r"\W+", "_", part.lower()) for part in path if part != "performance"]
    if len(parts) > 1 and parts[0] == "imagenet":
        parts = parts[1:]
    return "_".join({"clean": "imagenet", "corruption": "imagenet_c"}.get(part, part) for part in parts)


def _number(value: Any) -> bool:  # noqa: ANN401
    """Whether it is a finite number. JSON may hold Infinity, and whole numbers beyond any float."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
