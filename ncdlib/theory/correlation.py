"""The rank correlation of NWOT with a target that the number of 3x3 convolutions alone predicts."""

from collections.abc import Iterable
import re
from typing import SupportsFloat

import numpy as np
from scipy import stats

# Correlation of NWOT with CIFAR-10 accuracy over that of the number of 3x3 convolutions, NAS-Bench-201, six convolutions.
# SAM and NCD: alpha = 0.95.
SLOPES = {"plain": -1.06, "sam": 1.2, "nir": 0.0, "ncd": 0.96}

NASBENCH201 = re.compile(r"(\|\w+~\d)+\|(\+(\|\w+~\d)+\|)*")
TRANSNAS_MICRO = re.compile(r"(.*-)?[0-3]_[0-3]{2}_[0-3]{3}")


def predicted_correlation(archs: Iterable[object], target: Iterable[SupportsFloat], method: str) -> float:
    """Slope of the method times Spearman's rho of the number of 3x3 convolutions with the target, clipped to [-1, 1].

    - `archs`: cells of NAS-Bench-201 or of TransNAS-Bench-101 micro, as strings or objects, all with the same number of
      convolutions: with more convolutions NWOT reads more activations, which this leaves out.
    - `target`: a finite number for each, such as its accuracy. `method`: plain, SAM, NIR or NCD, in any case.

    The `SLOPES` are fitted on cells of six convolutions and CIFAR-10. Why the sign is as it is: `network`. Raises
    ValueError for fewer than 3 cells, unequal lengths, a value that is not finite, and where all counts or targets are
    equal, for which no rank correlation is defined.
    """
    if str(method).lower() not in SLOPES:
        raise ValueError(f"no slope for method {method!r}: use one of {', '.join(SLOPES)}")
    archs, values = list(archs), np.array(list(target), dtype=float)
    if len(values) != len(archs):
        raise ValueError(f"target must be one number per architecture: got {len(values)} for {len(archs)} of them")
    if len(values) < 3:
        raise ValueError(f"a rank correlation needs at least 3 architectures, got {len(values)}")
    if not np.isfinite(values).all():
        raise ValueError(f"target has {np.sum(~np.isfinite(values))} values that are nan or infinite: leave these cells out")
    counts = np.array([count_3x3(arch) for arch in archs])
    for name, numbers in (("counts of 3x3 convolutions", counts), ("targets", values)):
        if np.ptp(numbers) == 0:
            raise ValueError(f"all {name} are {numbers[0]:g}: the rank correlation of a constant is not defined")
    return float(np.clip(SLOPES[method.lower()] * stats.spearmanr(counts, values).statistic, -1, 1))


def count_3x3(arch: object) -> int:
    """Number of 3x3 convolutions in a cell of NAS-Bench-201 or TransNAS-Bench-101 micro."""
    text = str(arch)
    if NASBENCH201.fullmatch(text):
        return text.count("nor_conv_3x3")
    if TRANSNAS_MICRO.fullmatch(text):
        return text.rpartition("-")[2].count("3")
    raise ValueError(
        f"cannot count the convolutions of {text!r}: use cells such as |nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|"
        "none~2| or 64-41414-3_02_333"
    )
