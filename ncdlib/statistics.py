"""Signed rank correlation with intervals: how well a score ranks, and how surely.

Intervals are percentile bootstrap intervals over architectures (Efron 1979), so they say how much the number would move
with another sample of architectures. Where a score was taken with several seeds, rho is the mean over the seeds, and a
resample takes the same architectures in all of them.
"""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
import numpy as np
import pandas as pd
from scipy.stats import rankdata

RESAMPLES = 2000

Rho = np.ndarray | np.float64  # one for each resample, or a single one


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

    def rho(s: np.ndarray, t: np.ndarray, _: np.ndarray) -> Rho:
        return _cosine(_centred_ranks(s), _centred_ranks(t))

    return _correlation(rho, scores, truth, None, level, resamples)


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

    def partial(s: np.ndarray, t: np.ndarray, c: np.ndarray) -> Rho:
        s, t, c = _centred_ranks(s), _centred_ranks(t), _centred_ranks(c)
        return _cosine(_residual(s, c), _residual(t, c))

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

    def difference(s: np.ndarray, t: np.ndarray, o: np.ndarray) -> Rho:
        t = _centred_ranks(t)
        return _cosine(_centred_ranks(s), t) - _cosine(_centred_ranks(o[..., 0, :]), t)

    return _correlation(difference, scores, truth, others[:, None], level, resamples)


def by_seed(table: pd.DataFrame, archs: list[str]) -> Float[np.ndarray, "seeds n"]:
    """The scores of one setting in a score table, a row a seed and a column an architecture, in the order of `archs`."""
    wide = table.pivot(index="seed", columns="arch", values="score")
    missing = [arch for arch in archs if arch not in wide.columns]
    if missing:
        raise ValueError(f"the table lacks the scores of {len(missing)} architectures, the first is {missing[0]}")
    return wide[archs].to_numpy()


def _correlation(
    statistic: Callable[[np.ndarray, np.ndarray, np.ndarray], Rho],
    scores: np.ndarray,
    truth: np.ndarray,
    others: np.ndarray | None,
    level: float,
    resamples: int,
) -> Correlation:
    """The mean over seeds of `statistic(scores, truth, others)`, and its interval over resampled architectures.

    Shapes are scores (seeds, n), truth (n,), others (seeds, k, n); the statistic works on the last axis, for one seed.
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
    each = np.array([statistic(s, truth, o) for s, o in zip(scores, others, strict=True)])
    draws = np.random.default_rng(0).integers(n, size=(resamples, n))
    resampled = [
        statistic(s[draws], truth[draws], np.moveaxis(o[:, draws], 0, 1)) for s, o in zip(scores, others, strict=True)
    ]
    means = np.mean(resampled, axis=0)
    means = means[np.isfinite(means)]
    defined = np.isfinite(each).all() and len(means) > 0
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2]) if defined else (np.nan, np.nan)
    spread = float(each.std(ddof=1)) if len(each) > 1 else np.nan
    return Correlation(float(each.mean()), float(low), float(high), n, len(scores), spread, left_out)


def _centred_ranks(values: np.ndarray) -> np.ndarray:
    ranks = rankdata(values, axis=-1)
    return ranks - ranks.mean(-1, keepdims=True)


def _cosine(a: np.ndarray, b: np.ndarray) -> Rho:
    """Correlation of centred values; nan where one of them is constant."""
    lengths = np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
    tiny = 1e-9 * a.shape[-1] ** 3  # ranks have squares of about n^3 / 12
    return np.divide((a * b).sum(-1), lengths, out=np.full(lengths.shape, np.nan), where=lengths > tiny)


def _residual(values: np.ndarray, controls: np.ndarray) -> np.ndarray:
    """What is left of centred values (..., n) after least squares on centred controls (..., k, n)."""
    gram = controls @ np.swapaxes(controls, -1, -2)
    weights = np.linalg.pinv(gram, hermitian=True) @ (controls @ values[..., None])
    return values - (np.swapaxes(weights, -1, -2) @ controls)[..., 0, :]
