"""Signed rank correlation with intervals: how well a score ranks, and how surely.

Intervals are percentile bootstrap intervals over architectures (Efron 1979), so they say how much the number would move
with another sample of architectures. Where a score was taken with several seeds, rho is the mean over the seeds, and a
resample takes the same architectures in all of them.

A resample is held as how often it takes each architecture. Ranks in it are then sums of these counts in the order of the
whole sample, so nothing is sorted again, and every statistic here is a function of the ranks' covariances.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations_with_replacement

from jaxtyping import Float
import numpy as np
import pandas as pd

RESAMPLES = 2000
AT_ONCE = 64  # resamples, so that their ranks stay in a processor's cache
TINY = 1e-13  # below this share of n^3, a sum of squared ranks is zero but for rounding; ranks without ties have 1/12


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


def spearman(
    scores: Float[np.ndarray, "*seeds n"], truth: Float[np.ndarray, " n"], level: float = 0.95, resamples: int = RESAMPLES
) -> Correlation:
    """Spearman's rho of scores and ground truth, signed, ties at mean ranks. One row of scores for each seed."""
    return _correlation(_cosine, scores, truth, None, level, resamples)


def partial_spearman(
    scores: Float[np.ndarray, "*seeds n"],
    truth: Float[np.ndarray, " n"],
    given: Float[np.ndarray, "*controls n"],
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> Correlation:
    """Rank correlation of what is left of scores and truth once the ranks of the controls are regressed out of both.

    It says what a score knows beyond the controls. nan where the controls explain one of the two entirely.
    """
    controls = np.atleast_2d(np.asarray(given, float))

    def partial(c: np.ndarray) -> np.ndarray:
        across = c[:, :2, 2:]
        explained = across @ np.linalg.pinv(c[:, 2:, 2:], hermitian=True) @ across.swapaxes(1, 2)
        return _cosine(c[:, :2, :2] - explained)

    seeds = len(np.atleast_2d(scores))
    return _correlation(partial, scores, truth, np.repeat(controls[None], seeds, axis=0), level, resamples)


def paired_difference(
    scores: Float[np.ndarray, "*seeds n"],
    others: Float[np.ndarray, "*seeds n"],
    truth: Float[np.ndarray, " n"],
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> Correlation:
    """rho of `scores` minus rho of `others` on the same architectures, resampled together; so it may reach 2."""
    others = np.atleast_2d(np.asarray(others, float))
    if np.atleast_2d(scores).shape != others.shape:
        raise ValueError(f"paired scores have one shape, got {np.atleast_2d(scores).shape} and {others.shape}")

    def difference(c: np.ndarray) -> np.ndarray:
        return _cosine(c) - _cosine(c, 2)

    return _correlation(difference, scores, truth, others[:, None], level, resamples)


def by_seed(table: pd.DataFrame, archs: list[str]) -> Float[np.ndarray, "seeds n"]:
    """The scores of one setting in a score table, a row a seed and a column an architecture, in the order of `archs`."""
    wide = table.pivot(index="seed", columns="arch", values="score")
    missing = [arch for arch in archs if arch not in wide.columns]
    if missing:
        raise ValueError(f"the table lacks the scores of {len(missing)} architectures, the first is {missing[0]}")
    return wide[archs].to_numpy()


def _correlation(
    statistic: Callable[[np.ndarray], np.ndarray],
    scores: np.ndarray,
    truth: np.ndarray,
    others: np.ndarray | None,
    level: float,
    resamples: int,
) -> Correlation:
    """The mean over seeds of a statistic, and its interval over resampled architectures.

    Shapes are scores (seeds, n), truth (n,), others (seeds, k, n). The statistic takes covariances (resamples, 2 + k, 2 + k)
    of the ranks of truth, one seed's scores, and others, in this order.
    """
    scores, truth = np.atleast_2d(np.asarray(scores, float)), np.asarray(truth, float)
    others = np.empty((len(scores), 0, scores.shape[1])) if others is None else others
    if truth.ndim != 1 or scores.shape[1] != len(truth) or others.shape[2] != len(truth):
        shapes = f"scores {scores.shape}, truth {truth.shape}, others {others.shape}"
        raise ValueError(f"scores and truth must belong to the same architectures: got {shapes}")
    if not np.isfinite(truth).all():
        raise ValueError("the ground truth holds values that are not finite: leave those architectures out first")
    finite = np.isfinite(scores).all(0) & np.isfinite(others).all((0, 1))
    scores, truth, others = scores[:, finite], truth[finite], others[:, :, finite]
    n, left_out = len(truth), int((~finite).sum())
    if n < 3:
        return Correlation(np.nan, np.nan, np.nan, n, len(scores), np.nan, left_out)
    variables = [np.vstack([truth, s, o]) for s, o in zip(scores, others, strict=True)]
    each = np.array([statistic(_covariances(v, np.ones((n, 1)))) for v in variables])[:, 0]
    means = np.mean([statistic(_covariances(v, _times_taken(n, resamples))) for v in variables], axis=0)
    means = means[np.isfinite(means)]
    defined = np.isfinite(each).all() and len(means) > 0
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2]) if defined else (np.nan, np.nan)
    spread = float(each.std(ddof=1)) if len(each) > 1 else np.nan
    return Correlation(float(each.mean()), float(low), float(high), n, len(scores), spread, left_out)


@lru_cache(maxsize=4)
def _times_taken(n: int, resamples: int) -> np.ndarray:
    """How often each of n architectures is in each resample, (n, resamples)."""
    draws = np.random.default_rng(0).integers(n, size=(resamples, n))
    return np.stack([np.bincount(draw, minlength=n) for draw in draws], axis=1).astype(np.int32)


def _covariances(variables: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Sums of products of centred ranks as shares of n^3: variables (k, n) and times taken (n, r) to (r, k, k)."""
    k, r = len(variables), taken.shape[1]
    found = np.empty((r, k, k))
    order = variables.argsort(axis=1)
    for start in range(0, r, AT_ONCE):
        part = slice(start, start + AT_ONCE)
        weights = taken[:, part].astype(float)
        ranks = [_centred_ranks(v, o, weights) for v, o in zip(variables, order, strict=True)]
        for i, j in combinations_with_replacement(range(k), 2):
            found[part, i, j] = found[part, j, i] = np.einsum("nr,nr,nr->r", weights, ranks[i], ranks[j])
    return found / variables.shape[1] ** 3


def _centred_ranks(values: np.ndarray, order: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean rank of each value (n,) in each resample, where it is taken `weights` (n, r) times, less the mean of all."""
    ordered = values[order]
    last = np.append(ordered[1:] != ordered[:-1], True)  # of its ties
    up_to = np.cumsum(weights[order], axis=0)[last]
    before = np.vstack([np.zeros_like(up_to[:1]), up_to[:-1]])
    ties = np.empty(len(order), int)
    ties[order] = np.cumsum(last) - last
    return ((before + up_to - len(values)) / 2)[ties]


def _cosine(covariances: np.ndarray, other: int = 1) -> np.ndarray:
    """Correlation of the first variable, truth, with another, (r, k, k) to (r,); nan where one of the two is constant."""
    squares = covariances[:, [0, other], [0, other]]
    varied = (squares > TINY).all(1)
    lengths = np.sqrt(squares.prod(1), where=varied, out=np.ones(len(squares)))
    return np.where(varied, covariances[:, 0, other] / lengths, np.nan)
