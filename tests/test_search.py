"""Random search: Algorithm 1 by hand, the simulated search, its exact distribution, and what cannot be searched."""

import inspect

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
import numpy as np
import pandas as pd
import pytest
from scipy.stats import chisquare
import torch

import ncdlib
from ncdlib import images, search, spaces
from ncdlib.scoring import space as scoring

SPACE = spaces.get("nasbench201")
SIZE = {"channels": 4, "cells_per_stage": 1}
SMALL = {"batch": 4, "resolution": 8, "size": SIZE, "jobs": 1, "progress": False}
NCD = {"proxy": "nwot", "alpha": 0.95, "norm": "ln"}
SCORES = arrays(float, 12, elements=st.sampled_from([-1.0, 0.0, 0.5, 2.0, np.nan, np.inf, -np.inf]))

pytestmark = pytest.mark.filterwarnings("ignore:scores that are not finite")


def algorithm_1(candidates, **setting):
    """The loop of Algorithm 1, keeping the highest score: the best candidate, its score and the scores."""
    best, best_score, scores = None, -np.inf, []
    for arch, seed in candidates:
        batch = images.batch(setting.get("images", "gaussian"), SMALL["batch"], seed, SMALL["resolution"]).contiguous(
            memory_format=torch.channels_last
        )
        torch.manual_seed(seed)
        network = SPACE.build(arch, setting.get("norm") or "bn", **SIZE)
        scores.append(ncdlib.score(network, batch, setting["proxy"], alpha=setting.get("alpha", 0.0), seed=seed))
        if np.isfinite(scores[-1]) and scores[-1] > best_score:
            best, best_score = arch, scores[-1]
    return best, best_score, scores


@pytest.mark.parametrize("setting", [{"proxy": "swap", "images": "digits"}, NCD], ids=["SWAP on digits", "NCD-NWOT"])
@pytest.mark.parametrize("fresh", [True, False])
def test_a_search_is_algorithm_1(setting, fresh):
    found = ncdlib.search.random_search(SPACE, samples=24, seed=3, fresh=fresh, **setting, **SMALL)
    rng = np.random.default_rng(3)
    assert found.drawn == tuple(SPACE.sample(rng) for _ in range(24))
    assert list(found.history.arch) == [str(arch) for arch in found.drawn]
    assert len(set(found.history.seed)) == (24 if fresh else 1)
    best, best_score, scores = algorithm_1(zip(found.drawn, found.history.seed, strict=True), **setting)
    assert (found.best, found.score) == (best, best_score)
    np.testing.assert_array_equal(found.history.score, scores)
    assert found.nonfinite == np.sum(~np.isfinite(scores))


def test_the_history_says_what_was_best_at_each_step():
    history = search.random_search(SPACE, samples=30, **SMALL).history
    assert list(history.step) == list(range(1, 31))
    for step in history.step:
        before = history[:step].dropna(subset="score")
        if len(before):
            row = history.loc[step - 1]
            assert row.best_score == before.score.max()
            assert row.best_arch == before.arch[before.score.idxmax()]


def test_a_longer_search_begins_with_a_shorter_one_and_takes_it_up_from_its_file(tmp_path, monkeypatch):
    out = tmp_path / "scores.parquet"
    short = search.random_search(SPACE, samples=6, out=out, **NCD, **SMALL)
    computed = []
    original = scoring._score_network
    monkeypatch.setattr(scoring, "_score_network", lambda *a: computed.append(str(a[1])) or original(*a))
    long = search.random_search(SPACE, samples=15, out=out, **NCD, **SMALL)
    assert computed == list(long.history.arch[6:])
    pd.testing.assert_frame_equal(long.history[:6], short.history)
    assert long.score >= short.score
    pd.testing.assert_frame_equal(search.random_search(SPACE, samples=15, **NCD, **SMALL).history, long.history)


def test_the_simulated_search_finds_what_a_direct_one_finds():
    accuracy = ncdlib.benchmarks.load("nasbench201").set_index("arch")["cifar10"]
    direct = [search.random_search(SPACE, "swap", 15, seed=seed, fresh=False, **SMALL) for seed in range(2)]
    archs = sorted({arch for found in direct for arch in found.history.arch})
    table = ncdlib.score_space(SPACE, archs, ["swap"], seeds=range(2), **SMALL)
    scores = ncdlib.statistics.by_seed(table, archs)
    draws = np.array([[archs.index(arch) for arch in found.history.arch] for found in direct])
    simulated = search.simulate(scores, accuracy[archs].to_numpy(), draws=draws)
    np.testing.assert_array_equal(simulated, accuracy[[str(found.best) for found in direct]])


def test_top_gives_distinct_architectures_best_first():
    space = Few("abcba", {})
    found = search.SearchResult(
        "c", 3.0, pd.DataFrame({"score": [1.0, 2.0, 3.0, 3.0, np.nan]}), tuple(space.cells), nonfinite=1
    )
    assert found.top(1) == ["c"]
    assert found.top(2) == ["c", "b"]
    assert found.top(9) == ["c", "b", "a"]
    with pytest.raises(ValueError, match="top needs a whole number k of at least 1, got 0"):
        found.top(0)
    real = search.random_search(SPACE, samples=10, **SMALL)
    assert real.top(1) == [real.best]


class Few:
    """A space of which only the order of drawing matters."""

    def __init__(self, cells, counted):
        self.cells, self.counted = cells, counted


def test_a_constraint_holds_for_every_candidate_and_bounds_are_inclusive():
    def parameters(arch):
        return sum(p.numel() for p in SPACE.build(arch, **SIZE).parameters())

    constraint = search.within_budget(SPACE, params=(8000, 10000), **SIZE)
    found = search.random_search(SPACE, samples=8, constraint=constraint, **SMALL)
    assert all(8000 <= parameters(arch) <= 10000 for arch in found.drawn)
    rng = np.random.default_rng(0)  # rejected draws are drawn again, none is skipped
    assert found.drawn == tuple(a for a in (SPACE.sample(rng) for _ in range(200)) if 8000 <= parameters(a) <= 10000)[:8]
    some = found.best
    size = parameters(some)
    flops = ncdlib.score_space(SPACE, [some], ["flops"], **SMALL).score[0]
    for bounds, inside in (({"params": size}, True), ({"params": size - 1}, False), ({"params": (size + 1, 1e9)}, False)):
        assert search.within_budget(SPACE, **bounds, **SIZE)(some) is inside
    for flop_bounds, inside in ((flops, True), ((0, flops - 1), False)):
        assert search.within_budget("nasbench201", params=size, flops=flop_bounds, resolution=8, **SIZE)(some) is inside


def test_ties_go_to_the_first_and_scores_that_are_not_finite_never_win():
    scores = np.array([1.0, 3.0, np.nan, 3.0, np.inf])
    accuracy = np.array([10.0, 20.0, 30.0, 40.0, 50.0])
    draws = np.array([[0, 4, 2, 1, 3], [2, 3, 1, 0, 0], [2, 4, 0, 2, 4], [2, 2, 4, 4, 2]])
    np.testing.assert_array_equal(search.simulate(scores, accuracy, draws=draws), [20, 40, 10, np.nan])


@given(SCORES.filter(lambda s: np.isfinite(s).any()), st.integers(1, 9), st.integers(0, 99))
def test_simulate_is_a_loop_over_draws(scores, samples, seed):
    accuracy = np.arange(12.0)
    draws = np.random.default_rng(seed).integers(12, size=(5, samples))
    expected = []
    for drawn in draws:
        best, best_score = np.nan, -np.inf
        for i in drawn:
            if np.isfinite(scores[i]) and scores[i] > best_score:
                best, best_score = accuracy[i], scores[i]
        expected.append(best)
    np.testing.assert_array_equal(search.simulate(scores, accuracy, draws=draws), expected)


@given(SCORES.filter(lambda s: np.isfinite(s).any()), st.permutations(range(12)), st.integers(0, 99))
def test_the_order_of_the_table_does_not_matter(scores, order, seed):
    order, accuracy = np.array(order), np.arange(12.0)
    draws = np.random.default_rng(seed).integers(12, size=(5, 6))
    place = np.argsort(order)  # where an entry went
    moved = search.simulate(scores[order], accuracy[order], draws=place[draws])
    np.testing.assert_array_equal(search.simulate(scores, accuracy, draws=draws), moved)
    weights = np.arange(1, 13)
    there = search.selection_probabilities(scores[order], 6, weights=weights[order])
    np.testing.assert_allclose(search.selection_probabilities(scores, 6, weights=weights)[order], there)


@given(arrays(float, 12, elements=st.floats(-9, 9)), st.integers(0, 99))
def test_more_samples_never_lower_the_best_score(scores, seed):
    draws = np.random.default_rng(seed).integers(12, size=(4, 30))
    best = [search.simulate(scores, scores, draws=draws[:, :n]) for n in (1, 5, 30)]  # its own score as the accuracy
    assert (best[0] <= best[1]).all()
    assert (best[1] <= best[2]).all()


@pytest.mark.parametrize("weights", [None, np.array([5, 1, 1, 3, 2, 0])], ids=["equal", "weighted"])
@pytest.mark.parametrize("samples", [1, 4])
def test_selection_probabilities_are_what_simulated_searches_approach(weights, samples):
    scores = np.array([0.0, 2.0, 2.0, np.nan, 1.0, 9.0])
    runs = 20_000
    exact = search.selection_probabilities(scores, samples, weights=weights)
    found = search.simulate(scores, np.arange(6.0), samples, runs, weights=weights)
    kept = np.bincount(found[np.isfinite(found)].astype(int), minlength=6)
    counts, expected = np.append(kept, np.isnan(found).sum()), runs * np.append(exact, 1 - exact.sum())
    assert (counts[expected < 1e-6] == 0).all()
    assert chisquare(counts[expected > 1e-6], expected[expected > 1e-6]).pvalue > 1e-3
    drawn = np.full(6, 1 / 6) if weights is None else weights / weights.sum()
    assert 1 - exact.sum() == pytest.approx(drawn[3] ** samples)


def test_rows_of_scores_take_turns():
    scores = np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    found = search.simulate(scores, np.array([10.0, 20.0, 30.0]), samples=200, runs=5)
    np.testing.assert_array_equal(found, [30, 10, 30, 10, 30])


def test_runs_have_their_own_draws_decided_by_the_seed():
    scores = np.random.default_rng(0).standard_normal(500)
    few, many = (search.simulate(scores, scores, 20, runs, seed=4) for runs in (50, 80))
    np.testing.assert_array_equal(few, many[:50])
    assert len(set(many)) > 10
    assert set(search.simulate(scores, scores, 20, 50, seed=5)) != set(few)


def test_own_seeds_give_the_same_table_whatever_the_jobs_and_the_order(tmp_path):
    rng = np.random.default_rng(0)
    archs = [str(SPACE.sample(rng)) for _ in range(3)]
    seeds = {arch: list(range(i, 2 * i + 1)) for i, arch in enumerate(archs)} | {"unused": [1]}
    shared = {"alphas": (0.0, 0.5), **SMALL}
    alone = ncdlib.score_space(SPACE, archs, seeds=seeds, out=tmp_path / "alone.parquet", **shared)
    two = ncdlib.score_space(SPACE, archs[::-1], seeds=seeds, out=tmp_path / "two.parquet", **shared | {"jobs": 2})
    keys = list(ncdlib.scoring.file.KEYS)
    assert alone.groupby("arch").seed.unique().map(sorted).to_dict() == {arch: seeds[arch] for arch in archs}
    pd.testing.assert_frame_equal(alone.sort_values(keys, ignore_index=True), two.sort_values(keys, ignore_index=True))
    assert (tmp_path / "alone.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    each = [ncdlib.score_space(SPACE, [arch], seeds=seeds[arch], **shared) for arch in archs]
    pd.testing.assert_frame_equal(alone, pd.concat(each, ignore_index=True))


def test_own_seeds_that_cannot_serve_are_refused():
    arch = str(SPACE.sample(np.random.default_rng(0)))
    with pytest.raises(ValueError, match=r"seeds name none for \|.*: give each architecture its own"):
        ncdlib.score_space(SPACE, [arch], seeds={}, **SMALL)
    with pytest.raises(ValueError, match="'az_nas' ranks architectures scored with the same seed: give one list"):
        ncdlib.score_space(SPACE, [arch], ["az_nas"], seeds={arch: [0]}, **SMALL)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": 0}, "a search draws a whole number of architectures, at least 1: got samples = 0"),
        ({"samples": 2.5}, "a search draws a whole number of architectures, at least 1: got samples = 2.5"),
        ({"constraint": 5}, "constraint must be a function of an architecture, as within_budget makes: got 5"),
        ({"space": "nasbench301"}, "unknown search space 'nasbench301': use one of nasbench201"),
        ({"proxy": "nwat"}, "unknown proxy 'nwat'"),
        ({"alpha": 1.0}, "alpha is the share"),
        (
            {"constraint": lambda arch: False},
            "the constraint rejected 10000 architectures of nasbench201 in a row: loosen it",
        ),
        (
            {"constraint": lambda arch: arch.convolutions == 0 and arch.ops.count("none") == 6},
            "none of 1 scores of 'nwot' is finite: use another proxy or setting, or more samples",
        ),
    ],
)
def test_a_search_that_cannot_be_is_refused(change, message, monkeypatch):
    if "finite" in message:  # the one cell of zeros is rare
        monkeypatch.setattr(search, "ATTEMPTS", 10**6)
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(search.random_search)(**{"space": SPACE, "samples": 1, **SMALL} | change)  # past the check of types


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({}, "nothing to keep within: give params or flops"),
        ({"params": (5, 4)}, r"no number lies within params = \(5, 4\): give \(least, greatest\)"),
        ({"flops": -1}, r"no number lies within flops = \(0.0, -1\)"),
    ],
)
def test_bounds_that_cannot_hold_are_refused(bounds, message):
    with pytest.raises(ValueError, match=message):
        search.within_budget(SPACE, **bounds)


THREE = np.array([1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": 0}, "simulate at least 1 run of 1 sample, got 1000 runs of 0"),
        ({"runs": 0}, "simulate at least 1 run of 1 sample, got 0 runs of 3000"),
        ({"scores": np.full(3, np.nan)}, "a row of scores holds no finite one"),
        ({"scores": np.array([THREE, np.full(3, np.inf)])}, "leave that seed or proxy out"),
        ({"accuracy": np.array([1.0, np.nan, 2.0])}, "accuracy holds 1 values that are not finite: leave them out first"),
        ({"weights": np.array([1, -1, 3])}, "weights are 3 finite numbers, none negative and not all zero"),
        ({"weights": np.array([1, np.inf, 3])}, "weights are 3 finite numbers"),
        ({"weights": np.zeros(3)}, "weights are 3 finite numbers, none negative and not all zero"),
        ({"draws": np.array([[0, 3]])}, "draws are places in a table of 3, got 0 to 3: use 0 to 2"),
        ({"draws": np.array([[-1, 2]])}, "draws are places in a table of 3, got -1 to 2: use 0 to 2"),
    ],
)
def test_a_simulation_that_cannot_be_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        search.simulate(**{"scores": THREE, "accuracy": THREE} | change)


def test_shapes_that_do_not_match_are_refused_without_type_checks():
    with pytest.raises(ValueError, match=r"belong to the same architectures: got scores \(1, 3\), accuracy \(2,\)"):
        search._checked(THREE, THREE[:2], None)
    with pytest.raises(ValueError, match="a search draws a whole number of architectures, at least 1: got samples = 0"):
        search.selection_probabilities(THREE, 0)
