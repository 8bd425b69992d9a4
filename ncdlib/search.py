"""Random search by a proxy (Algorithm 1): draw architectures, score each without training, keep the best."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cache
from numbers import Integral
from pathlib import Path

from jaxtyping import Float, Int
import numpy as np
import pandas as pd
import torch

from ncdlib import spaces
from ncdlib.scoring import score, score_space
from ncdlib.scoring.checks import whole_seed
from ncdlib.statistics import spearman

ATTEMPTS = 10_000  # draws in a row that a constraint may reject

Bounds = float | tuple[float, float]  # a maximum, or the least and the greatest


@dataclass(frozen=True)
class SearchResult:
    """What a search found: the architecture with the highest score, and the way there."""

    best: Hashable
    score: float
    history: pd.DataFrame  # one row per candidate: step (from 1), arch, seed, score; best_arch and best_score up to there
    drawn: tuple[Hashable, ...]  # the candidates themselves, in the order of the history
    nonfinite: int  # candidates whose score is not finite; they cannot win

    def top(self, k: int) -> list[Hashable]:
        """The k distinct architectures with the highest scores, best first; fewer where fewer have a finite score."""
        if not isinstance(k, Integral) or k < 1:
            raise ValueError(f"top needs a whole number k of at least 1, got {k!r}")
        best_first = np.argsort(-_finite(self.history["score"].to_numpy()), kind="stable")
        ranked = [self.drawn[j] for j in best_first[: len(self.drawn) - self.nonfinite]]
        return list(dict.fromkeys(ranked))[:k]


def random_search(
    space: str | spaces.Space,
    proxy: str = "nwot",
    samples: int = 3000,
    *,
    alpha: float = 0.0,
    norm: str | None = None,
    mask: str = "sample",
    seed: int = 0,
    fresh: bool = True,
    constraint: Callable[[Hashable], bool] | None = None,
    images: str = "gaussian",
    batch: int = 32,
    resolution: int = 32,
    size: dict[str, int] | None = None,
    out: str | Path | None = None,
    jobs: int | None = None,
    progress: bool = True,
) -> SearchResult:
    """Search a space by a proxy: NCD-NWOT is `proxy="nwot", alpha=0.95, norm="ln"`.

    Kang et al. 2025, supplementary, Algorithm 1. Line 9 is printed as `Score_best >= Score_j`, which would keep the lowest
    score; the text (B.1) and this function keep the highest, and the first of equals. A score that is not finite never wins.

    - Candidates are drawn by `space.sample` and `seed`, with replacement. A longer search begins with a shorter one's.
    - `fresh`: every candidate gets its own batch, weights and masks, as printed, from its own seed; otherwise `seed` decides
      them for all.
    - `constraint`: what a candidate must meet, e.g. `within_budget(...)`; one that does not is drawn again.
    - `images`: a kind of `images.batch`. Algorithm 1 draws from the data set: "cifar10" for CIFAR-10.
    - `alpha`, `norm`, `mask`, `batch`, `resolution`, `size`, `out`, `jobs`: as in `score_space`. A search that was killed
      goes on from what `out` holds.

    Raises ValueError where the constraint passes nothing, or no score is finite.
    """
    space = spaces.get(space)
    _check_samples(samples)
    if constraint is not None and not callable(constraint):
        raise ValueError(f"constraint must be a function of an architecture, as within_budget makes: got {constraint!r}")
    rng = np.random.default_rng(whole_seed(seed))
    drawn = tuple(_draw(space, rng, constraint) for _ in range(samples))
    history = pd.DataFrame({"step": np.arange(1, samples + 1), "arch": [str(arch) for arch in drawn]})
    own = np.random.SeedSequence(seed, spawn_key=(0,)).generate_state(samples).tolist() if fresh else [seed] * samples
    history["seed"] = own
    seeds = history.groupby("arch", sort=False).seed.agg(list).to_dict()
    table = score_space(
        space, dict.fromkeys(drawn), [proxy], (alpha,), (norm,), seeds, inputs=(images,), mask=mask, batch=batch,
        resolution=resolution, size=size, out=out, jobs=jobs, progress=progress,
    )  # fmt: skip
    history = history.merge(table[["arch", "seed", "score"]], on=["arch", "seed"], how="left", validate="many_to_one")
    if not np.isfinite(history.score).any():
        raise ValueError(f"none of {samples} scores of {proxy!r} is finite: use another proxy or setting, or more samples")
    return _result(drawn, history)


def _result(drawn: tuple[Hashable, ...], history: pd.DataFrame) -> SearchResult:
    """The result of a search from its candidates and their scores, at least one of them finite."""
    scores = _finite(history["score"].to_numpy())
    highest = np.maximum.accumulate(scores)
    history["best_arch"] = history.arch.where(scores > np.append(-np.inf, highest[:-1])).ffill()
    history["best_score"] = np.where(np.isfinite(highest), highest, np.nan)
    best = scores.argmax()
    return SearchResult(drawn[best], float(scores[best]), history, drawn, int(np.isneginf(scores).sum()))


def _check_samples(samples: object) -> None:
    if not isinstance(samples, Integral) or isinstance(samples, bool) or samples < 1:
        raise ValueError(f"a search draws a whole number of architectures, at least 1: got samples = {samples!r}")


def within_budget(
    space: str | spaces.Space,
    *,
    params: Bounds | None = None,
    flops: Bounds | None = None,
    resolution: int = 32,
    **size: int,
) -> Callable[[Hashable], bool]:
    """A constraint on the number of parameters, or of floating-point operations for an image, or both.

    A bound is a maximum or a pair (least, greatest), both inclusive; `size` is that of the network that is counted, by
    default the published one. Counting takes neither memory nor arithmetic of the network's size.
    """
    space = spaces.get(space)
    limits = {
        name: (0.0, bound) if np.ndim(bound) == 0 else bound
        for name, bound in {"params": params, "flops": flops}.items()
        if bound is not None
    }
    if not limits:
        raise ValueError("nothing to keep within: give params or flops, a maximum or (least, greatest)")
    for name, bounds in limits.items():
        if np.shape(bounds) != (2,) or np.asarray(bounds).dtype.kind not in "iuf" or not bounds[0] <= bounds[1]:
            raise ValueError(f"no number lies within {name} = {bounds}: give (least, greatest), or a maximum")

    @cache
    def inside(arch: Hashable) -> bool:
        with torch.device("meta"):
            counted = score(space.build(arch, **size), torch.empty(2, 3, resolution, resolution), list(limits))
        return all(low <= counted[name] <= high for name, (low, high) in limits.items())

    return inside


def simulate(
    scores: Float[np.ndarray, "*seeds n"],
    accuracy: Float[np.ndarray, " n"],
    samples: int = 3000,
    runs: int = 1000,
    *,
    seed: int = 0,
    weights: Float[np.ndarray, " n"] | Int[np.ndarray, " n"] | None = None,
    draws: Int[np.ndarray, "runs samples"] | None = None,
) -> Float[np.ndarray, " runs"]:
    """Accuracy found by each of many random searches, over a table that holds every architecture's score.

    A run draws `samples` architectures with replacement and keeps the one with the highest score, the first of equals; a
    score that is not finite never wins, and a run without any other finds nan. With one row of scores per seed, run r uses
    row r modulo the number of rows: one batch per run.

    - `weights`: how often an entry is drawn, relative to the others, as the number of cells that a class stands for.
    - `draws`: the entries that each run draws, in place of random ones; its shape is then (runs, samples).

    More runs begin with the runs of fewer. `selection_probabilities` gives the distribution that this samples from.
    """
    scores, accuracy, weights = _checked(scores, accuracy, weights)
    n = len(accuracy)
    if draws is not None:
        runs, samples = draws.shape
        if draws.size and not (draws.min() >= 0 and draws.max() < n):
            raise ValueError(f"draws are places in a table of {n}, got {draws.min()} to {draws.max()}: use 0 to {n - 1}")
    if not all(isinstance(number, Integral) and number >= 1 for number in (samples, runs)):
        raise ValueError(f"simulate at least 1 run of 1 sample, got {runs} runs of {samples}")
    rng = np.random.default_rng(seed)
    found = np.full(runs, np.nan)
    for run in range(runs):
        row = scores[run % len(scores)]
        drawn = rng.choice(n, samples, p=weights) if draws is None else draws[run]
        best = drawn[row[drawn].argmax()]
        if np.isfinite(row[best]):
            found[run] = accuracy[best]
    return found


def selection_probabilities(
    scores: Float[np.ndarray, " n"],
    samples: int = 3000,
    *,
    weights: Float[np.ndarray, " n"] | Int[np.ndarray, " n"] | None = None,
) -> Float[np.ndarray, " n"]:
    """Probability that a random search keeps each entry of a table of all scores.

    With F(s) the share of draws that score at most s, some entry of score s is kept with F(s)^samples - F(s-)^samples; of
    equals, the first drawn, so each as often as it is drawn. The rest to 1 is the chance that nothing finite is drawn.
    """
    scores = np.asarray(scores, float)
    if scores.ndim != 1:
        raise ValueError(f"scores are one number for each entry of the table: got an array of shape {scores.shape}")
    (scores,), _, weights = _checked(scores, np.zeros(len(scores)), weights)
    _check_samples(samples)
    weights = np.full(len(scores), 1 / len(scores)) if weights is None else weights
    values, group = np.unique(scores, return_inverse=True)
    share = np.bincount(group, weights, len(values))
    up_to = np.minimum(share.cumsum(), 1)  # F at each value
    kept = np.diff(up_to**samples, prepend=0.0)
    kept[np.isneginf(values)] = 0
    return np.divide(weights * kept[group], share[group], out=np.zeros(len(scores)), where=share[group] > 0)


@dataclass(frozen=True)
class Pilot:
    """What a few trained networks say about the scores that could rank the others."""

    choice: str  # the score with the highest correlation on the trained networks
    best: Hashable  # the untrained architecture that it ranks first
    correlations: pd.DataFrame  # one row per score, the choice first: score, rho, low, high, n


def pilot(scores: pd.DataFrame, accuracy: pd.Series, level: float = 0.95) -> Pilot:
    """Choose the score that ranks a few trained networks best, and search the others with it.

    - `scores`: one row per architecture, one column per score, e.g. plain, SAM, NIR, NCD, params, units.
    - `accuracy`: of the m >= 3 trained architectures, indexed as `scores`. Equal correlations: the column that comes first.

    With few networks the intervals are wide: they hold the luck of the pilot. Raises ValueError for fewer than 3 networks,
    equal accuracies, a network that `scores` lacks, and a score that is not finite on the pilot.
    """
    if not isinstance(scores, pd.DataFrame) or not isinstance(accuracy, pd.Series):
        given = f"{type(scores).__name__} and {type(accuracy).__name__}"
        raise ValueError(f"scores are a DataFrame and accuracy a Series, both indexed by architecture: got {given}")
    if len(accuracy) < 3:
        raise ValueError(f"a pilot needs at least 3 trained networks, got {len(accuracy)}: train more")
    if accuracy.nunique() < 2 or not np.isfinite(accuracy).all():
        raise ValueError("the accuracies of the pilot must be finite and not all equal: train other networks")
    unknown = accuracy.index.difference(scores.index)
    if len(unknown):
        raise ValueError(f"the scores lack {len(unknown)} of the trained networks, the first is {unknown[0]}")
    if scores.columns.empty:
        raise ValueError("there are no scores to choose from: give one column per score")
    trained = scores.loc[accuracy.index]
    for name in scores.columns[~np.isfinite(trained.astype(float)).all()]:
        raise ValueError(f"the score {name!r} is not finite on every trained network: leave the column or the network out")
    found = [{"score": name, **vars(spearman(trained[name], accuracy, level))} for name in scores]
    table = pd.DataFrame(found)[["score", "rho", "low", "high", "n"]].sort_values("rho", ascending=False, kind="stable")
    if table.rho.isna().all():
        raise ValueError("every score is the same for all trained networks: train networks that differ in their scores")
    choice = table.score.iloc[0]
    others = scores.loc[scores.index.difference(accuracy.index, sort=False), choice].astype(float)
    ranked = others[np.isfinite(others)]
    return Pilot(choice, ranked.idxmax() if len(ranked) else None, table.reset_index(drop=True))


def _draw(space: spaces.Space, rng: np.random.Generator, constraint: Callable[[Hashable], bool] | None) -> Hashable:
    for _ in range(ATTEMPTS):
        arch = space.sample(rng)
        if constraint is None or constraint(arch):
            return arch
    raise ValueError(f"the constraint rejected {ATTEMPTS} architectures of {space.name} in a row: loosen it")


def _finite(scores: np.ndarray) -> np.ndarray:
    """Scores of which those that are not finite lose to all others."""
    return np.where(np.isfinite(scores), scores, -np.inf)


def _checked(
    scores: np.ndarray, accuracy: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Scores as rows that lose where they are not finite, accuracy, and weights that sum to 1; or ValueError."""
    scores, accuracy = np.atleast_2d(np.asarray(scores, float)), np.asarray(accuracy, float)
    if scores.ndim != 2 or accuracy.shape != scores.shape[1:]:
        shapes = f"scores {scores.shape}, accuracy {accuracy.shape}"
        raise ValueError(f"scores and accuracy must belong to the same architectures: got {shapes}")
    if not np.isfinite(accuracy).all():
        raise ValueError(f"accuracy holds {(~np.isfinite(accuracy)).sum()} values that are not finite: leave them out first")
    if not np.isfinite(scores).any(axis=1).all():
        raise ValueError("a row of scores holds no finite one, so no search can choose: leave that seed or proxy out")
    if weights is not None:
        weights = np.asarray(weights, float)
        if weights.shape != accuracy.shape or not (weights >= 0).all() or not 0 < weights.sum() < np.inf:
            raise ValueError(f"weights are {len(accuracy)} finite numbers, none negative and not all zero: got {weights}")
        weights = weights / weights.sum()
    return _finite(scores), accuracy, weights
