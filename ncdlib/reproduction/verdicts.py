"""The rules of the ledger: what an interval says of a claim, what a claim's rows say together, when two numbers agree."""

from collections.abc import Sequence
import math

from scipy.stats import t as student

OUTCOMES = ("supports", "contradicts", "no effect", "cannot tell")
VERDICTS = ("holds", "holds in part", "no effect", "contradicted", "cannot tell", "not tested here")
AGREEMENTS = ("agrees", "differs", "cannot tell", "not tested here")
ROBUST = 0.9  # the share of specifications that must agree with a verdict


def outcome(side: str, threshold: float, low: float, high: float, margin: float = 0.0) -> str:
    """What the interval [low, high] says of the claim that a quantity lies above, or below, `threshold`, or is equal to it.

    - no effect: the whole interval lies within `margin` of `threshold`, ends included. A smaller effect counts as none, even
      where the interval does not hold `threshold`.
    - supports: the whole interval lies beyond `threshold` on the claimed side; contradicts: on the other side.
    - cannot tell: anything else, e.g. an interval that ends at `threshold`.

    For the side "equal", an interval within the margin supports, one wholly outside it contradicts. ValueError for another
    side, a negative margin, or an interval that is not finite or runs backwards.
    """
    if side not in ("above", "below", "equal"):
        raise ValueError(f"a claim lies above or below its threshold, or is equal to it, not {side!r}")
    if not all(map(math.isfinite, (threshold, low, high))) or low > high or margin < 0:
        raise ValueError(f"need finite low <= high, threshold and margin >= 0, not {low}, {high}, {threshold}, {margin}")
    within = max(abs(low - threshold), abs(high - threshold)) <= margin
    if side == "equal":
        outside = low > threshold + margin or high < threshold - margin
        return "supports" if within else "contradicts" if outside else "cannot tell"
    if within:
        return "no effect"
    beyond, short = (low > threshold, high < threshold) if side == "above" else (high < threshold, low > threshold)
    return "supports" if beyond else "contradicts" if short else "cannot tell"


def verdict(outcomes: Sequence[str]) -> str:
    """What several rows of evidence say of their claim: one of `VERDICTS` except the last.

    Where no row supports, one that contradicts decides; "no effect" needs all rows.
    """
    said = set(outcomes)
    if not said or not said <= set(OUTCOMES):
        raise ValueError(f"need at least one of {', '.join(OUTCOMES)} per row, not {list(outcomes)}")
    if "supports" in said:
        return "holds" if said == {"supports"} else "holds in part"
    if "contradicts" in said:
        return "contradicted"
    return "no effect" if said == {"no effect"} else "cannot tell"


def robust(said: str, share: float) -> str:
    """A verdict in view of the share of specifications that support the claim; nan where none were run.

    "holds" and "contradicted" need nine specifications of ten that agree, else they are "holds in part", "cannot tell".
    """
    if said == "holds" and share < ROBUST:
        return "holds in part"
    if said == "contradicted" and share > round(1 - ROBUST, 9):
        return "cannot tell"
    return said


def difference(ours: tuple[float, float, float], theirs: tuple[float, float, float]) -> tuple[float, float, float]:
    """(value, low, high) of the difference of two quantities, each (value, low, high), as if they were independent.

    The distances to the ends add as squares: Zou and Donner 2008 (Statistics in Medicine 27:1693). Too wide where both
    were measured on the same architectures.
    """
    (a, a_low, a_high), (b, b_low, b_high) = ours, theirs
    value = a - b
    return value, value - math.hypot(a - a_low, b_high - b), value + math.hypot(a_high - a, b - b_low)


def welch(ours: tuple[float, float, int], theirs: tuple[float, float, int]) -> tuple[float, float]:
    """The 95 % interval of the difference ours - theirs of two means, each (mean, standard deviation, runs).

    Welch 1947 (Biometrika 34:28). ValueError with fewer than two runs, or where neither has any spread.
    """
    (a, sd_a, n_a), (b, sd_b, n_b) = ours, theirs
    if n_a < 2 or n_b < 2 or not sd_a + sd_b > 0:
        raise ValueError(f"need two runs of each and a spread, not {ours} and {theirs}")
    part_a, part_b = sd_a**2 / n_a, sd_b**2 / n_b
    freedom = (part_a + part_b) ** 2 / (part_a**2 / (n_a - 1) + part_b**2 / (n_b - 1))
    reach = student.ppf(0.975, freedom) * math.sqrt(part_a + part_b)
    return a - b - reach, a - b + reach


def agreement(low: float, high: float, tolerance: float, printed: float = 0.0) -> str:
    """Whether a printed number agrees with the interval [low, high] of ours; for a difference of both, `printed` is 0.

    differs: it lies outside; cannot tell: inside an interval wider than `tolerance`; agrees: inside a narrower one.
    """
    if not (low <= high and math.isfinite(printed)):
        raise ValueError(f"need low <= high and a finite number, not [{low}, {high}] and {printed}")
    if not low <= printed <= high:
        return "differs"
    return "agrees" if high - low <= tolerance else "cannot tell"
