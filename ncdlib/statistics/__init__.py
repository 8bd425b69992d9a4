"""How well a score ranks, and how surely: signed rank correlations and measures of the top, each with an interval.

A score depends on a seed (weights, images, masks). Every function estimates the expected value of its measure for the score
at one fresh seed, over the population that the architectures were sampled from. The estimate is the mean over the seeds at
hand, which is not the measure of the mean score. The interval holds the luck of the architectures and of the seeds; see
`resampling`. **One seed tells nothing about the seeds: its interval holds the architectures alone.** That of two seeds may
be very wide.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

from jaxtyping import Float
import numpy as np
import pandas as pd

from ncdlib.statistics.resampling import RESAMPLES, best_of_top, correlation, covariances, discounted_gain, estimate, tau_b

MANY = 2000  # architectures, above which comparing all pairs in 2,000 resamples takes too long
SETTING = ("space", "proxy", "alpha", "norm", "activation", "init", "input", "batch")  # what `by_seed` never mixes

Scores = Float[np.ndarray, "*seeds n"] | pd.Series
Truth = Float[np.ndarray, " n"] | pd.Series
Controls = Float[np.ndarray, "*controls n"] | pd.Series


@dataclass(frozen=True)
class Correlation:
    """A signed rank correlation in [-1, 1]; nan where it is undefined, as for a constant score."""

    rho: float
    low: float  # bounds of the interval
    high: float
    n: int  # architectures that it rests on
    seeds: int
    spread: float  # standard deviation of rho over the seeds; nan with fewer than two
    nonfinite: int  # architectures left out because a score is not finite

    def __str__(self) -> str:
        left_out = f", {self.nonfinite} not finite" if self.nonfinite else ""
        seeds = f"{self.seeds} seed{'s' * (self.seeds > 1)}"
        return f"{self.rho:+.3f} [{self.low:+.3f}, {self.high:+.3f}] (n = {self.n}, {seeds}{left_out})"


@dataclass(frozen=True)
class Measure:
    """A measure of the top of a ranking, in its own unit; the fields are those of `Correlation`."""

    value: float
    low: float
    high: float
    n: int
    seeds: int
    spread: float
    nonfinite: int


def spearman(scores: Scores, truth: Truth, level: float = 0.95, resamples: int = RESAMPLES) -> Correlation:
    """Spearman's rho of scores and ground truth, signed, ties at mean ranks. One row of scores for each seed.

    Scores that are not finite are left out and counted. ValueError for a truth that is not finite, for Series whose
    indices differ, and for scores that are not numbers.
    """
    rows, k = _rows(truth, scores)

    def rho(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        c = covariances(rows, weights)
        return np.array([correlation(c, 0, 1 + s) for s in range(k)])

    return Correlation(*estimate(rho, rows, k, level, resamples, (-1, 1)))


def partial_spearman(
    scores: Scores, truth: Truth, given: Controls, level: float = 0.95, resamples: int = RESAMPLES
) -> Correlation:
    """Rank correlation of what is left of scores and truth once the ranks of the controls are regressed out of both.

    It says what a score knows beyond the controls. nan where the controls explain one of the two entirely.
    """
    rows, k = _rows(truth, scores, given=given)

    def partial(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        c = covariances(rows, weights)
        across, controls = c[:, : 1 + k, 1 + k :], c[:, 1 + k :, 1 + k :]
        left = c[:, : 1 + k, : 1 + k] - across @ np.linalg.pinv(controls, hermitian=True) @ across.swapaxes(1, 2)
        return np.array([correlation(left, 0, 1 + s) for s in range(k)])

    return Correlation(*estimate(partial, rows, k, level, resamples, (-1, 1)))


def paired_difference(
    scores: Scores, others: Scores, truth: Truth, level: float = 0.95, resamples: int = RESAMPLES
) -> Correlation:
    """rho of `scores` minus rho of `others` on the same architectures and seeds, resampled together; so it may reach 2."""
    if np.shape(scores) != np.shape(others):
        raise ValueError(f"paired scores have one shape, got {np.shape(scores)} and {np.shape(others)}")
    rows, k = _rows(truth, scores, others=others)

    def difference(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        c = covariances(rows, weights)
        return np.array([correlation(c, 0, 1 + s) - correlation(c, 0, 1 + k + s) for s in range(k)])

    return Correlation(*estimate(difference, rows, k, level, resamples, (-2, 2)))


def kendall(scores: Scores, truth: Truth, level: float = 0.95, resamples: int = RESAMPLES) -> Correlation:
    """Kendall's tau-b of scores and ground truth, signed; it is in the field `rho`.

    Each resample compares all pairs, n^2 of them. Above 2,000 architectures there are fewer resamples, down to 200, to limit
    the time.
    """
    rows, k = _rows(truth, scores)
    if rows.shape[1] > MANY:
        resamples = min(resamples, max(200, int(RESAMPLES * (MANY / rows.shape[1]) ** 2)))

    def tau(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return np.array([tau_b(rows[0], row, weights) for row in rows[1:]])

    return Correlation(*estimate(tau, rows, k, level, resamples, (-1, 1), at_once=RESAMPLES))


def ndcg(scores: Scores, truth: Truth, k: int | None = None, level: float = 0.95, resamples: int = RESAMPLES) -> Measure:
    """Normalised discounted cumulative gain at k: sum of truth_p / log2(1 + p) over the k highest scores, p their positions,
    divided by the same sum in the order of truth. 1 is a perfect order. k = None takes all.

    As the code of VKDNW computes it (Tybl & Neumann, CVPR 2025, arXiv:2502.04975, k = 5000): the gain is the accuracy itself
    (Jarvelin & Kekalainen 2002), and tied scores share their positions. Where accuracies differ little, every order has a
    value near 1: compare with that of a random order. The values that their Table 1 prints fit another gain, 2^accuracy - 1
    at k = 1000 (notebook 12): pass 2.0**accuracy - 1 as truth. ValueError for a negative truth.
    """
    if k is not None:
        _check_k(k)
    rows, seeds = _rows(truth, scores)
    if (rows[0] < 0).any():
        raise ValueError(f"gains must not be negative, the ground truth holds {rows[0].min()}: use accuracies")
    positions = np.arange(1, rows.shape[1] + 1)
    discounts = np.where(positions <= (k or len(positions)), 1 / np.log2(1 + positions), 0)
    up_to = np.append(0, discounts.cumsum())  # sum of the discounts of the first p positions

    def gain(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        ideal = discounted_gain(rows[0], rows[0], weights, up_to)
        found = np.array([discounted_gain(row, rows[0], weights, up_to) for row in rows[1:]])
        return np.divide(found, ideal, where=ideal > 0, out=np.full_like(found, np.nan))

    return Measure(*estimate(gain, rows, seeds, level, resamples, (0, 1)))


def top_k_regret(scores: Scores, truth: Truth, k: int, level: float = 0.95, resamples: int = RESAMPLES) -> Measure:
    """The best truth of the sample minus the best truth among the k highest scores, in the unit of truth; 0 is best.

    Ties for the last places are settled at random: the value is the expectation. The measure depends on how many
    architectures there are. It is a function of extremes, for which no bootstrap is exact: its interval is a rough guide.
    """
    _check_k(k)
    rows, seeds = _rows(truth, scores)

    def regret(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        best = best_of_top(rows[0], rows[0], weights, 1)
        return np.array([best - best_of_top(row, rows[0], weights, k) for row in rows[1:]])

    return Measure(*estimate(regret, rows, seeds, level, resamples, (0, np.inf)))


def by_seed(table: pd.DataFrame, archs: Sequence[str], **where: object) -> Float[np.ndarray, "seeds n"]:
    """The scores of one setting in a score table: one row per seed, one column per architecture, in the order of `archs`.

    `where` selects rows by the value of a column, e.g. proxy="nwot", alpha=0.95, norm="ln". ValueError where a column, a
    value or a score is missing, or where scores of several settings are left.
    """
    _need(table, ("arch", "seed", "score", *where))
    if isinstance(archs, str):
        raise ValueError(f"archs takes a list, got {archs!r}: write [{archs!r}]")
    for column, value in where.items():
        chosen = table[table[column] == value]
        if chosen.empty:
            found = ", ".join(map(repr, table[column].unique()[:10]))
            raise ValueError(f"no row of the table, as selected so far, has {column} = {value!r}: it has {found}")
        table = chosen
    table = table[table.arch.isin(archs)]
    missing = pd.Index(archs).difference(table.arch, sort=False)
    if len(missing):
        raise ValueError(f"the table lacks the scores of {len(missing)} architectures, the first is {missing[0]}")
    several = {c: table[c].unique() for c in SETTING if c in table.columns and table[c].nunique(dropna=False) > 1}
    if several or table.duplicated(["arch", "seed"]).any():
        what = "; ".join(f"{c}: {', '.join(map(str, v[:5]))}" for c, v in several.items()) or "two scores for one seed"
        raise ValueError(f"more than one setting is left ({what}): select one, e.g. by_seed(table, archs, alpha=0.95)")
    wanted = pd.MultiIndex.from_product([table.seed.unique(), archs])
    absent = wanted.difference(pd.MultiIndex.from_frame(table[["seed", "arch"]]))
    if len(absent):
        seed, arch = absent[0]
        raise ValueError(
            f"{len(absent)} scores are missing, the first is that of {arch} at seed {seed}: compute them, or choose one "
            "seed, e.g. by_seed(table, archs, seed=0), or architectures that have all seeds"
        )
    return table.pivot(index="seed", columns="arch", values="score")[list(archs)].to_numpy()


def correlations(
    table: pd.DataFrame,
    truth: pd.Series,
    by: Sequence[str] = ("proxy", "alpha", "norm"),
    archs: Sequence[str] | None = None,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """Spearman's rho of every setting in a score table: one row per value of the columns `by`, with `Correlation`'s fields.

    `truth` is indexed by architecture. Without `archs`, each setting uses the architectures that it and `truth` share.
    ValueError as in `by_seed` and `spearman`, and for an architecture that `truth` lacks.
    """
    by = [by] if isinstance(by, str) else list(by)
    _need(table, ("arch", "seed", "score", *by))
    if not truth.index.is_unique:
        raise ValueError(f"the ground truth has {truth.index[truth.index.duplicated()][0]!r} twice")
    unknown = [] if archs is None else [arch for arch in archs if arch not in truth.index]
    if unknown:
        raise ValueError(f"the ground truth lacks {len(unknown)} architectures, the first is {unknown[0]}")
    rows = []
    for values, group in table.groupby(by, sort=False, dropna=False):
        shared = list(truth.index[truth.index.isin(group.arch)]) if archs is None else list(archs)
        if not shared:
            raise ValueError(f"{dict(zip(by, values, strict=True))} shares no architecture with the ground truth")
        found = spearman(by_seed(group, shared), truth.loc[shared].to_numpy(), level, resamples)
        rows.append(dict(zip(by, values, strict=True)) | vars(found))
    return pd.DataFrame(rows)


def _need(table: pd.DataFrame, columns: Sequence[str]) -> None:
    """Raise ValueError unless the table has these columns."""
    if not isinstance(table, pd.DataFrame):
        raise ValueError(f"the table of scores must be a DataFrame, got {type(table).__name__}")
    lacking = [column for column in columns if column not in table.columns]
    if lacking:
        raise ValueError(f"the table has no column {', '.join(lacking)}: it has {', '.join(map(str, table.columns))}")


def _rows(truth: object, scores: object, **others: object) -> tuple[np.ndarray, int]:
    """Truth, the scores of each seed, and others as rows of one array (variables, n), and the number of seeds."""
    given = {"truth": truth, "scores": scores, **others}
    labels = [v.axes[-1] for v in given.values() if isinstance(v, pd.Series | pd.DataFrame)]
    if any(not label.equals(labels[0]) for label in labels):
        raise ValueError("the indices of scores and truth differ: bring both to one order, e.g. truth.loc[scores.index]")
    arrays = {name: np.atleast_2d(np.asarray(v)) for name, v in given.items()}
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise ValueError(f"{name} must be numbers, got {array.dtype}: convert with np.asarray({name}, float)")
    if np.ndim(truth) != 1 or any(a.ndim != 2 or a.shape[1] != len(truth) for a in arrays.values()):
        shapes = ", ".join(f"{name} {np.shape(v)}" for name, v in given.items())
        raise ValueError(f"scores and truth must belong to the same architectures: got {shapes}")
    if not np.isfinite(arrays["truth"]).all():
        raise ValueError("the ground truth holds values that are not finite: leave those architectures out first")
    return np.vstack(list(arrays.values())).astype(float), len(arrays["scores"])


def _check_k(k: object) -> None:
    if not isinstance(k, Integral) or isinstance(k, bool) or k < 1:
        raise ValueError(f"k is how many of the highest scores count, a whole number from 1: got {k!r}")
