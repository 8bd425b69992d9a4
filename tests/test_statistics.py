"""Rank correlations against scipy and closed forms; intervals against what they promise."""

import inspect
import math

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ncdlib import statistics

RNG = np.random.default_rng(0)


@given(st.integers(3, 40), st.integers(1, 6), st.integers(0, 10**6))
def test_rho_is_scipys_with_its_sign(n, levels, seed):
    rng = np.random.default_rng(seed)
    scores, truth = rng.integers(levels + 1, size=n).astype(float), rng.integers(levels + 1, size=n).astype(float)
    ours = statistics.spearman(scores, truth, resamples=20).rho
    if len(set(scores)) == 1 or len(set(truth)) == 1:
        assert math.isnan(ours)
    else:
        assert ours == pytest.approx(stats.spearmanr(scores, truth).statistic, abs=1e-12)
        assert statistics.spearman(-scores, truth, resamples=20).rho == pytest.approx(-ours, abs=1e-12)


def test_seeds_are_averaged_and_their_spread_is_told():
    truth, scores = RNG.normal(size=50), RNG.normal(size=(4, 50))
    each = [stats.spearmanr(row, truth).statistic for row in scores]
    ours = statistics.spearman(scores, truth)
    assert (ours.rho, ours.spread) == (pytest.approx(np.mean(each)), pytest.approx(np.std(each, ddof=1)))
    assert (ours.n, ours.seeds, ours.nonfinite) == (50, 4, 0)
    assert math.isnan(statistics.spearman(scores[0], truth).spread)


def test_intervals_cover_the_truth_as_often_as_they_say():
    inside = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=120)
        y = 0.6 * x + 0.8 * rng.normal(size=120)  # Pearson 0.6, so Spearman 6/pi asin(0.3)
        interval = statistics.spearman(x, y, resamples=300)
        inside += interval.low <= 6 / math.pi * math.asin(0.3) <= interval.high
    assert 0.90 < inside / 300 < 0.99


@pytest.mark.parametrize("levels", [4, 10**6])  # with ties and without
def test_intervals_are_those_of_ranking_every_resample(levels):
    rng, n, resamples = np.random.default_rng(1), 30, 150
    scores, others = rng.integers(levels, size=(2, 2, n)).astype(float)
    truth, control = rng.integers(levels, size=(2, n)).astype(float)
    rows = []
    for draw in np.random.default_rng(0).integers(n, size=(resamples, n)):
        one, two, y, z = ([stats.rankdata(v[draw]) for v in np.atleast_2d(of)] for of in (scores, others, truth, control))
        rho = [np.corrcoef(row, y[0])[0, 1] for row in one]
        left = [[r - np.polyval(np.polyfit(z[0], r, 1), z[0]) for r in (row, y[0])] for row in one]
        partial = [np.corrcoef(*pair)[0, 1] for pair in left]
        rows.append([np.mean(rho), np.mean(rho) - np.mean([np.corrcoef(row, y[0])[0, 1] for row in two]), np.mean(partial)])
    ends = np.quantile(rows, [0.025, 0.975], axis=0).T
    for ours, end in zip(
        (
            statistics.spearman(scores, truth, resamples=resamples),
            statistics.paired_difference(scores, others, truth, resamples=resamples),
            statistics.partial_spearman(scores, truth, control, resamples=resamples),
        ),
        ends,
        strict=True,
    ):
        assert (ours.low, ours.high) == pytest.approx(tuple(end), abs=1e-9)


def test_partial_rho_is_the_closed_form_for_one_control():
    x, z = RNG.normal(size=(2, 80))
    y = x + 2 * z + RNG.normal(size=80)
    xy, xz, yz = (stats.spearmanr(*pair).statistic for pair in ((x, y), (x, z), (y, z)))
    expected = (xy - xz * yz) / math.sqrt((1 - xz**2) * (1 - yz**2))
    assert statistics.partial_spearman(x, y, z).rho == pytest.approx(expected, abs=1e-12)


def test_partial_rho_given_two_controls_is_the_correlation_of_residuals():
    x, y, a, b = RNG.normal(size=(4, 60))
    ranks = [stats.rankdata(v) for v in (x, y, a, b)]
    design = np.column_stack([np.ones(60), ranks[2], ranks[3]])
    left = [r - design @ np.linalg.lstsq(design, r, rcond=None)[0] for r in ranks[:2]]
    ours = statistics.partial_spearman(x, y, np.stack([a, b])).rho
    assert ours == pytest.approx(stats.pearsonr(*left).statistic, abs=1e-10)


def test_partial_rho_is_undefined_where_the_control_explains_everything():
    x, y = RNG.normal(size=(2, 60))
    result = statistics.partial_spearman(x, y, np.exp(x))
    assert math.isnan(result.rho) and math.isnan(result.low)


def test_paired_difference():
    truth = RNG.normal(size=200)
    good, bad = truth + 0.3 * RNG.normal(size=(3, 200)), truth + 3 * RNG.normal(size=(3, 200))
    gain = statistics.paired_difference(good, bad, truth)
    assert gain.rho == pytest.approx(statistics.spearman(good, truth).rho - statistics.spearman(bad, truth).rho)
    assert 0 < gain.low < gain.rho < gain.high
    none = statistics.paired_difference(good, good, truth)
    assert (none.rho, none.low, none.high) == (0, 0, 0)
    with pytest.raises(ValueError, match="paired scores have one shape"):
        inspect.unwrap(statistics.paired_difference)(good, bad[:2], truth)  # past the tests' own check of shapes


def test_scores_that_are_not_finite_are_left_out_and_counted():
    truth, scores = RNG.normal(size=30), RNG.normal(size=(2, 30))
    scores[0, 3] = np.nan
    scores[1, 7] = -np.inf
    ours = statistics.spearman(scores, truth)
    kept = np.setdiff1d(np.arange(30), [3, 7])
    assert (ours.n, ours.nonfinite) == (28, 2)
    assert ours.rho == pytest.approx(np.mean([stats.spearmanr(row[kept], truth[kept]).statistic for row in scores]))
    assert "2 not finite" in str(ours)
    few = statistics.spearman(np.full(30, np.nan), truth)
    assert math.isnan(few.rho) and few.n == 0 and few.nonfinite == 30


def test_bad_input():
    with pytest.raises(ValueError, match="must belong to the same architectures"):
        inspect.unwrap(statistics.spearman)(np.zeros(4), np.zeros(5))  # past the tests' own check of shapes
    with pytest.raises(ValueError, match="ground truth holds values that are not finite"):
        statistics.spearman(np.arange(4.0), np.array([1, 2, np.nan, 3]))


def test_by_seed():
    table = pd.DataFrame({"arch": ["b", "a", "b", "a"], "seed": [0, 0, 1, 1], "score": [1.0, 2.0, 3.0, 4.0]})
    assert statistics.by_seed(table, ["a", "b"]).tolist() == [[2, 1], [4, 3]]
    with pytest.raises(ValueError, match="lacks the scores of 1 architectures, the first is c"):
        statistics.by_seed(table, ["a", "c"])
