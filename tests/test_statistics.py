"""Measures against scipy, scikit-learn and closed forms; intervals against how often they cover in simulations."""

import inspect
import itertools
import math

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import ndcg_score

from ncdlib import scoring, statistics

RNG = np.random.default_rng(0)
REPETITIONS, RESAMPLES = 300, 256  # of the simulations


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


def simulated(rng, n, seeds, slope, shared, seed, noise):
    """Scores, slope of the seed times quality + noise of the architecture + noise of the single score, and the quality."""
    quality, common = rng.normal(size=(2, n))
    slopes = slope + seed * rng.normal(size=(seeds, 1))
    return slopes * quality + shared * common + noise * rng.normal(size=(seeds, n)), quality


def expected_rho(slope, shared, seed, noise):
    """Mean over the slopes of 6/pi asin(r/2), Spearman's rho of normal variables with Pearson's r (Pearson 1907)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    slopes = slope + seed * nodes
    rho = 6 / math.pi * np.arcsin(slopes / np.sqrt(slopes**2 + shared**2 + noise**2) / 2)
    return float(rho @ weights / weights.sum())


@pytest.mark.parametrize(
    ("n", "seeds", "model"),
    [
        pytest.param(64, 5, (0.5, 0.7, 0.0, 0.7), id="noise of single scores alone"),
        pytest.param(64, 3, (0.5, 0.7, 0.1, 0.7), id="seeds differ, three"),
        pytest.param(200, 5, (0.5, 0.7, 0.3, 0.7), id="seeds differ much, five"),
        pytest.param(64, 3, (2.0, 0.6, 0.4, 0.6), id="rho of 0.9"),
        pytest.param(200, 3, (2.0, 0.5, 0.0, 0.8), id="rho of 0.9, seeds alike"),
    ],
)
def test_intervals_cover_the_rho_of_a_fresh_seed(n, seeds, model):
    inside, expected = 0, expected_rho(*model)
    for repetition in range(REPETITIONS):
        interval = statistics.spearman(*simulated(np.random.default_rng(repetition), n, seeds, *model), resamples=RESAMPLES)
        inside += interval.low <= expected <= interval.high
    assert 0.92 <= inside / REPETITIONS <= 0.97


def test_an_interval_from_one_seed_covers_its_own_rho_and_misses_that_of_fresh_seeds():
    own, fresh, model = 0, 0, (0.5, 0.7, 0.3, 0.7)
    for repetition in range(REPETITIONS):
        rng = np.random.default_rng(repetition)
        slope = 0.5 + 0.3 * rng.normal()
        interval = statistics.spearman(*simulated(rng, 200, 1, slope, 0.7, 0.0, 0.7), resamples=RESAMPLES)
        own += interval.low <= expected_rho(slope, 0.7, 0.0, 0.7) <= interval.high
        fresh += interval.low <= expected_rho(*model) <= interval.high
    assert 0.92 <= own / REPETITIONS <= 0.97
    assert fresh / REPETITIONS < 0.6


def test_intervals_of_differences_and_partial_rho_cover_zero_where_there_is_none():
    covered, repetitions = np.zeros(2), 200
    for repetition in range(repetitions):
        rng = np.random.default_rng(repetition)
        scores, quality = simulated(rng, 64, 3, 0.5, 0.7, 0.2, 0.7)
        others = (0.5 + 0.2 * rng.normal(size=(3, 1))) * quality + 0.7 * rng.normal(size=64) + 0.7 * rng.normal(size=(3, 64))
        truth = quality + rng.normal(size=64)  # scores know nothing of it beyond quality
        found = (
            statistics.paired_difference(scores, others, quality, resamples=RESAMPLES),
            statistics.partial_spearman(scores, truth, quality, resamples=RESAMPLES),
        )
        covered += [interval.low <= 0 <= interval.high for interval in found]
    assert ((covered / repetitions >= 0.92) & (covered / repetitions <= 0.98)).all()


def interval_by_hand(statistic, variables, resamples=150):
    """The interval as `resampling` describes it, every resample ranked anew; variables are (seeds, m, n)."""
    draws = np.random.default_rng(0).integers(variables.shape[2], size=(resamples, variables.shape[2]))
    each = np.array([statistic(v) for v in variables])
    again = np.array([[statistic(v[:, draw]) for draw in draws] for v in variables])
    means, k = again.mean(0), len(each)
    if k > 1:
        beyond = each.var(ddof=1) - np.mean([np.var(again[:, r] - each, ddof=1) for r in range(resamples)])
        t = stats.t.ppf((np.arange(resamples) + 0.5) / resamples, k - 1)
        means = means + np.random.default_rng(1).permutation(t) * math.sqrt(max(0, beyond) / k)
    return tuple(np.quantile(means, [0.025, 0.975]))


def rho(v):
    return stats.spearmanr(v[0], v[1]).statistic


def difference(v):
    return rho(v) - stats.spearmanr(v[0], v[2]).statistic


def partial(v):
    y, x, z = (stats.rankdata(row) for row in v)
    return np.corrcoef(*(r - np.polyval(np.polyfit(z, r, 1), z) for r in (y, x)))[0, 1]


def tau(v):
    return stats.kendalltau(v[0], v[1]).statistic


def gain(v):
    return ndcg_score(v[:1], v[1:], k=7)


def regret(v):
    return v[0].max() - v[0][v[1] >= np.sort(v[1])[-4]].max()  # without ties


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("levels", [4, 10**6])  # with ties and without
def test_intervals_are_those_of_ranking_every_resample(levels, seeds):
    rng, n = np.random.default_rng(1), 30
    truth = rng.integers(levels, size=n).astype(float)
    scores, others = (np.outer(rng.normal(size=seeds), truth) + rng.integers(levels, size=(2, seeds, n))).round()
    same = np.broadcast_to(truth, (seeds, n))
    control = rng.integers(levels, size=n).astype(float)
    with_control = np.stack([same, scores, np.broadcast_to(control, (seeds, n))], axis=1)
    for ours, statistic, variables in (
        (statistics.spearman(scores, truth, resamples=150), rho, np.stack([same, scores], axis=1)),
        (
            statistics.paired_difference(scores, others, truth, resamples=150),
            difference,
            np.stack([same, scores, others], 1),
        ),
        (statistics.partial_spearman(scores, truth, control, resamples=150), partial, with_control),
        (statistics.kendall(scores, truth, resamples=150), tau, np.stack([same, scores], axis=1)),
        (statistics.ndcg(scores, truth, k=7, resamples=150), gain, np.stack([same, scores], axis=1)),
    ):
        low, high = interval_by_hand(statistic, variables)
        top = 2 if statistic is difference else 1
        bottom = 0 if statistic is gain else -top
        assert (ours.low, ours.high) == pytest.approx((max(low, bottom), min(high, top)), abs=1e-9)
    if levels > n:
        ours = statistics.top_k_regret(scores, truth, 4, resamples=150)
        low, high = interval_by_hand(regret, np.stack([same, scores], axis=1))
        assert (ours.low, ours.high) == pytest.approx((max(low, 0), high))


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


@given(st.integers(3, 40), st.integers(1, 6), st.integers(0, 10**6))
def test_tau_is_scipys_and_ndcg_is_scikit_learns(n, levels, seed):
    rng = np.random.default_rng(seed)
    scores, truth = rng.integers(levels + 1, size=(2, n)).astype(float)
    assert statistics.kendall(scores, truth, resamples=2).rho == pytest.approx(
        stats.kendalltau(scores, truth).statistic, abs=1e-12, nan_ok=True
    )
    for k in (1, 3, None):
        expected = ndcg_score([truth], [scores], k=k) if truth.any() else math.nan
        assert statistics.ndcg(scores, truth, k, resamples=2).value == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_many_architectures_have_kendalls_tau_with_fewer_resamples():
    scores, truth = RNG.normal(size=(2, 3000))
    ours = statistics.kendall(scores, truth, resamples=300)
    assert ours.rho == pytest.approx(stats.kendalltau(scores, truth).statistic)
    assert ours.low < ours.rho < ours.high
    assert ours.high - ours.low == pytest.approx(2 * 1.96 * 2 / 3 / math.sqrt(3000), rel=0.15)  # independent: var 4/(9 n)


@given(st.integers(3, 9), st.integers(1, 3), st.integers(1, 10), st.integers(0, 10**6))
def test_regret_is_the_mean_over_all_orders_of_ties(n, levels, k, seed):
    rng = np.random.default_rng(seed)
    scores, truth = rng.integers(levels, size=n).astype(float), rng.normal(size=n)
    top = [max(truth[list(c)]) for c in itertools.combinations(range(n), min(k, n)) if is_top(scores, c)]
    expected = truth.max() - np.mean(top)
    assert statistics.top_k_regret(scores, truth, k, resamples=2).value == pytest.approx(expected, abs=1e-9)


def is_top(scores, chosen):
    """Whether no score outside of those chosen is higher than one of them."""
    return max(np.delete(scores, chosen), default=-np.inf) <= min(scores[list(chosen)])


def test_a_perfect_order_has_gain_one_and_no_regret():
    truth = RNG.uniform(50, 95, size=100)
    gain, regret = statistics.ndcg(np.exp(truth / 10), truth), statistics.top_k_regret(truth, truth, 1)
    assert (gain.value, gain.low, gain.high) == (1, 1, 1)
    assert (regret.value, regret.low, regret.high) == (0, 0, 0)
    assert statistics.top_k_regret(-truth, truth, 1).value == pytest.approx(truth.max() - truth.min())
    with pytest.raises(ValueError, match="gains must not be negative"):
        statistics.ndcg(truth, -truth)
    for k in (0, 2.5, True):
        with pytest.raises(ValueError, match="k is how many of the highest scores count"):
            inspect.unwrap(statistics.top_k_regret)(truth, truth, k)


def test_bad_input():
    spearman, x = inspect.unwrap(statistics.spearman), np.arange(4.0)  # past the tests' own check of shapes
    for scores in (np.zeros(5), np.zeros((2, 2, 4)), x[0]):
        with pytest.raises(ValueError, match="must belong to the same architectures"):
            spearman(scores, x)
    with pytest.raises(ValueError, match="ground truth holds values that are not finite"):
        spearman(x, np.array([1, 2, np.nan, 3]))
    with pytest.raises(ValueError, match="scores must be numbers, got <U3"):
        spearman(x.astype(str).astype("<U3"), x)
    for level in (95, 1, 0, -1, math.nan):
        with pytest.raises(ValueError, match=r"level is .* between 0 and 1, e\.g\. 0\.95"):
            spearman(x, x, level=level)
    for resamples in (0, -3):
        with pytest.raises(ValueError, match="resamples is a whole number from 1"):
            spearman(x, x, resamples=resamples)


def test_series_are_paired_by_their_index_or_not_at_all():
    scores, truth = (pd.Series(RNG.normal(size=20), index=[f"arch {i}" for i in range(20)]) for _ in range(2))
    assert statistics.spearman(scores, truth) == statistics.spearman(scores.to_numpy(), truth.to_numpy())
    with pytest.raises(ValueError, match="the indices of scores and truth differ"):
        statistics.spearman(scores, truth[::-1])
    with pytest.raises(ValueError, match="the indices of scores and truth differ"):
        statistics.paired_difference(scores, scores[::-1], truth)


def table_of(scores):
    """A score table of {(proxy, alpha, norm): (seeds, n)}, the architectures named a, b, c, ..."""
    rows = [
        {"arch": chr(97 + i), "proxy": proxy, "alpha": alpha, "norm": norm, "seed": seed, "score": value}
        for (proxy, alpha, norm), values in scores.items()
        for (seed, i), value in np.ndenumerate(values)
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


FOUR = [("nwot", 0.0, "bn"), ("nwot", 0.95, "bn"), ("nwot", 0.0, "ln"), ("nwot", 0.95, "ln")]


def test_by_seed():
    scores = {setting: RNG.normal(size=(3, 5)) for setting in FOUR}
    table = table_of(scores)
    found = statistics.by_seed(table, ["c", "a"], proxy="nwot", alpha=0.95, norm="ln")
    assert found.tolist() == scores["nwot", 0.95, "ln"][:, [2, 0]].tolist()
    plain = table[(table.alpha == 0) & (table.norm == "bn")]
    with pytest.raises(ValueError, match="lacks the scores of 1 architectures, the first is z"):
        statistics.by_seed(plain, ["a", "z"])
    with pytest.raises(ValueError, match=r"more than one setting is left \(alpha: .*; norm: .*\)"):
        statistics.by_seed(table, ["a", "b"])
    with pytest.raises(ValueError, match=r"more than one setting is left \(norm: "):
        statistics.by_seed(table, ["a", "b"], alpha=0.0)
    with pytest.raises(ValueError, match="more than one setting is left .two scores for one seed"):
        statistics.by_seed(pd.concat([plain, plain]), ["a"])
    with pytest.raises(ValueError, match=r"no row .* has alpha = 0.5: it has .*0\.95"):
        statistics.by_seed(table, ["a"], alpha=0.5)
    with pytest.raises(ValueError, match="the table has no column mask: it has .*proxy"):
        statistics.by_seed(table, ["a"], mask="sample")
    with pytest.raises(ValueError, match="1 scores are missing, the first is that of b at seed 2"):
        statistics.by_seed(plain[(plain.arch != "b") | (plain.seed != 2)], ["a", "b"])


def test_correlations_are_one_row_per_setting():
    scores = {setting: RNG.normal(size=(3, 20)) for setting in FOUR}
    table = table_of(scores)
    truth = pd.Series(RNG.normal(size=21), index=[chr(97 + i) for i in range(21)])  # one more than was scored
    found = statistics.correlations(table, truth).set_index(["proxy", "alpha", "norm"])
    assert list(found.columns) == ["rho", "low", "high", "n", "seeds", "spread", "nonfinite"]
    for setting in FOUR:
        assert found.loc[setting].to_dict() == vars(statistics.spearman(scores[setting], truth.to_numpy()[:20]))
    few = statistics.correlations(scoring.with_methods(table), truth, by=["method"], archs=["b", "a", "d", "c"])
    assert few.method.tolist() == ["plain", "SAM", "NIR", "NCD"]
    assert few.n.tolist() == [4] * 4
    for archs, error in (
        (["a", "zz"], "the ground truth lacks 1 architectures, the first is zz"),
        (["u"], "lacks the scores"),
    ):
        with pytest.raises(ValueError, match=error):
            statistics.correlations(table, truth, archs=archs)
    with pytest.raises(ValueError, match="more than one setting is left"):
        statistics.correlations(table, truth, by=["proxy"])
    with pytest.raises(ValueError, match="no column method"):
        statistics.correlations(table, truth, by="method")
    with pytest.raises(ValueError, match="the ground truth has 'a' twice"):
        statistics.correlations(table, pd.concat([truth, truth]))
    with pytest.raises(ValueError, match="shares no architecture with the ground truth"):
        statistics.correlations(table, truth["u":])


def test_with_methods_names_the_four_ways_to_read_a_proxy():
    table = table_of({setting: np.full((1, 3), i) for i, setting in enumerate([*FOUR, ("nwot", 0.5, "bn")])})
    found = scoring.with_methods(table)
    assert found.groupby("method").score.agg(["size", "mean"]).to_dict("index") == {
        name: {"size": 3, "mean": i} for i, name in enumerate(["plain", "SAM", "NIR", "NCD"])
    }
    with pytest.raises(ValueError, match="no score of NCD, alpha = 0.5 and norm = 'ln'"):
        scoring.with_methods(table, alpha=0.5)
