"""The rank correlation of NWOT with a target that counts of a cell's operations predict.

Among cells with the same number of convolutions NWOT follows a weighted count of 3x3 convolutions, skips and poolings.
The sign of its correlation with a target is then the sign of that count's correlation with the target.
"""

from collections.abc import Iterable
from functools import lru_cache
import re
from typing import NamedTuple, SupportsFloat

import numpy as np
from scipy import stats


class Counts(NamedTuple):
    """How many edges of a cell hold each kind of operation; the other edges hold none."""

    convolutions: int  # 1x1 and 3x3
    conv_3x3: int
    skip: int
    pool: int


class Law(NamedTuple):
    """What a method counts, and how well the count ranks its scores with 0 to 6 convolutions (Spearman's rho)."""

    conv_3x3: float
    skip: float
    pool: float
    reliability: tuple[float, ...]


# Fitted on NWOT of all 15,625 cells of NAS-Bench-201: published size, 32 CIFAR-10 images, one seed, SAM and NCD at
# alpha = 0.95. Least squares on the ranks within each number of convolutions from 1 to 6, all six weighted alike. No
# accuracy and no cell of another space was used.
LAWS = {
    "plain": Law(-1.0, 0.07, -1.05, (0.67, 0.30, 0.26, 0.38, 0.48, 0.62, 0.59)),
    "sam": Law(1.0, 0.91, 0.81, (-0.12, 0.38, 0.59, 0.64, 0.63, 0.66, 0.77)),
    "nir": Law(1.0, 3.31, 0.56, (0.55, 0.54, 0.56, 0.53, 0.56, 0.47, 0.01)),
    "ncd": Law(1.0, 1.11, 0.32, (0.54, 0.54, 0.50, 0.56, 0.59, 0.69, 0.73)),
}

NASBENCH201 = re.compile(r"(\|\w+~\d)+\|(\+(\|\w+~\d)+\|)*")
TRANSNAS_MICRO = re.compile(r"(.*-)?[0-3]_[0-3]{2}_[0-3]{3}")


def predicted_correlation(archs: Iterable[object], target: Iterable[SupportsFloat], method: str) -> float:
    """Spearman's rho of the method's weighted count with the target, times the count's reliability: in [-1, 1].

    - `archs`: cells of NAS-Bench-201 or of TransNAS-Bench-101 micro, as strings or objects, all with the same number of
      convolutions: with more convolutions NWOT reads more activations, which this leaves out.
    - `target`: a finite number for each, such as its accuracy. `method`: plain, SAM, NIR or NCD, in any case.

    A prediction of less than 0.2 in size says nothing about the sign. What the `LAWS` were fitted on is written above them;
    why 3x3 convolutions count: `covariance` and `network`. Raises ValueError for fewer than 3 cells, unequal lengths, a
    value that is not finite, cells of several numbers of convolutions, and where all counts or targets are equal, for which
    no rank correlation is defined.
    """
    law = LAWS.get(str(method).lower())
    if law is None:
        raise ValueError(f"no law for method {method!r}: use one of {', '.join(LAWS)}")
    archs, values = list(archs), np.array(list(target), dtype=float)
    if len(values) != len(archs):
        raise ValueError(f"target must be one number per architecture: got {len(values)} for {len(archs)} of them")
    if len(values) < 3:
        raise ValueError(f"a rank correlation needs at least 3 architectures, got {len(values)}")
    if not np.isfinite(values).all():
        raise ValueError(f"target has {np.sum(~np.isfinite(values))} values that are nan or infinite: leave these cells out")
    counts = [operation_counts(str(arch)) for arch in archs]
    sizes = sorted({count.convolutions for count in counts})
    if len(sizes) > 1:
        raise ValueError(f"the cells have {', '.join(map(str, sizes))} convolutions: give those of one number at a time")
    weighted = np.array([law.conv_3x3 * c.conv_3x3 + law.skip * c.skip + law.pool * c.pool for c in counts]).round(9)
    for name, numbers in (("weighted counts", weighted), ("targets", values)):
        if np.ptp(numbers) == 0:
            raise ValueError(f"all {name} are {numbers[0]:g}: the rank correlation of a constant is not defined")
    return float(law.reliability[sizes[0]] * stats.spearmanr(weighted, values).statistic)


@lru_cache(maxsize=1 << 15)
def operation_counts(text: str) -> Counts:
    """The operations of a cell of NAS-Bench-201 or TransNAS-Bench-101 micro, which has no pooling."""
    if NASBENCH201.fullmatch(text):
        convolutions, conv_3x3 = text.count("nor_conv"), text.count("nor_conv_3x3")
        return Counts(convolutions, conv_3x3, text.count("skip_connect"), text.count("avg_pool"))
    if TRANSNAS_MICRO.fullmatch(text):
        cell = text.rpartition("-")[2]
        return Counts(cell.count("2") + cell.count("3"), cell.count("3"), cell.count("1"), 0)
    raise ValueError(
        f"cannot count the operations of {text!r}: use cells such as |nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|"
        "none~2| or 64-41414-3_02_333"
    )
