"""The predicted rank correlation: against ranks by hand, on real cells, and against the stored scores it was fitted on."""

import itertools
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ncdlib import benchmarks, spaces, theory
from ncdlib.scoring import read_scores, with_methods
from ncdlib.theory.correlation import Counts, operation_counts

SPACE = spaces.get("nasbench201")
SIX = [cell for cell in SPACE.enumerate() if cell.convolutions == 6]
EXAMPLE = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"
SCORES = Path(__file__).resolve().parents[2] / "data" / "scores"


@pytest.mark.parametrize("name", ["nasbench201", "transnas_micro"])
def test_counts_are_those_of_the_networks_that_the_space_builds(name):
    space = spaces.get(name)
    archs = list(itertools.islice(space.enumerate(), 0, None, 397))
    assert len({operation_counts(str(arch)) for arch in archs}) > 6
    for arch in archs:
        ops = getattr(arch, "graph", arch).ops
        kinds = [("nor_conv_1x1", "nor_conv_3x3"), ("nor_conv_3x3",), ("skip_connect",), ("avg_pool_3x3",)]
        expected = Counts(*(sum(op in kind for op in ops) for kind in kinds))
        assert operation_counts(str(arch)) == expected


@pytest.mark.parametrize("convolutions", [2, 4, 6])
def test_prediction_is_the_reliability_times_the_rank_correlation_of_the_weighted_count(convolutions):
    cells = [cell for cell in SPACE.enumerate() if cell.convolutions == convolutions][::7]
    target = np.random.default_rng(0).normal(size=len(cells)) + [str(cell).count("3x3") for cell in cells]
    for method, law in theory.LAWS.items():
        counts = [cell.ops for cell in cells]
        weighted = [
            law.conv_3x3 * ops.count("nor_conv_3x3")
            + law.skip * ops.count("skip_connect")
            + law.pool * ops.count("avg_pool_3x3")
            for ops in counts
        ]
        ranks = [stats.rankdata(np.round(values, 9)) for values in (weighted, target)]  # ties: mean ranks
        expected = pytest.approx(law.reliability[convolutions] * stats.pearsonr(*ranks).statistic)
        assert theory.predicted_correlation(cells, target, method) == expected
        table = pd.Series(target, [str(cell) for cell in cells])
        assert theory.predicted_correlation(table.index, table, method.upper()) == expected


def test_the_laws_are_the_fit_of_the_stored_scores():
    table = with_methods(read_scores(SCORES / "01_cells.parquet"))
    table = table[(table.proxy == "nwot") & np.isfinite(table.score)]
    for method, law in theory.LAWS.items():
        scores = table[table.method.str.lower() == method].set_index("arch").score
        counts = pd.DataFrame([operation_counts(arch) for arch in scores.index], scores.index)
        ranks, size = scores.groupby(counts.convolutions).rank(pct=True), counts.pop("convolutions")
        fitted = size > 0
        x, y = (v - v.groupby(size).transform("mean") for v in (counts, ranks))
        weight = (1 / size.map(size.value_counts()) ** 0.5)[fitted].to_numpy()
        found = np.linalg.lstsq(x[fitted] * weight[:, None], y[fitted] * weight, rcond=None)[0]
        np.testing.assert_allclose(found / abs(found[0]), law[:3], atol=0.006)
        weighted = (counts * np.array(law[:3])).sum(axis=1).round(6)
        each = [weighted[size == k].corr(scores[size == k], method="spearman") for k in range(7)]
        np.testing.assert_allclose(each, law.reliability, atol=0.006)


@pytest.mark.skipif(not os.environ.get("NCDLIB_DATA_DIR"), reason="NCDLIB_DATA_DIR is unset: no accuracies of TransNAS")
def test_signs_on_seven_tasks_that_no_law_was_fitted_on():
    truth = benchmarks.load("transnas_micro").set_index("arch")
    table = with_methods(read_scores(SCORES / "04_transnas_micro.parquet"))
    table = table[table.proxy == "nwot"]
    right = []
    for method, rows in table.groupby("method"):
        scores = rows.set_index("arch").score.dropna()
        size = pd.Series([operation_counts(arch).convolutions for arch in scores.index], scores.index)
        for k, task in itertools.product(range(1, 7), truth.columns):
            archs = scores.index[size == k]
            predicted = theory.predicted_correlation(archs, truth.loc[archs, task], method)
            if abs(predicted) > 0.2:
                measured = stats.spearmanr(scores[archs], truth.loc[archs, task]).statistic
                right.append(np.sign(predicted) == np.sign(measured))
    assert len(right) > 60 and np.mean(right) > 0.95


def test_cells_of_transnas_may_name_their_macro_structure():
    cells = ["64-41414-3_02_333", "64-41414-2_02_222", "64-41414-3_02_232"]
    assert [operation_counts(cell) for cell in cells] == [Counts(5, 4, 0, 0), Counts(5, 0, 0, 0), Counts(5, 2, 0, 0)]
    assert theory.predicted_correlation(cells, [3, 1, 2], "ncd") == pytest.approx(theory.LAWS["ncd"].reliability[5])


def test_what_has_no_rank_correlation_is_named():
    ones, threes = (str(cell) for cell in SIX if len(set(cell.ops)) == 1)
    cells = [ones, threes, str(SIX[5])]
    for archs, target, message in (
        (cells, [1.0, 2.0], "got 2 for 3 of them"),
        (cells[:2], [1.0, 2.0], "at least 3 architectures, got 2"),
        (cells, [1.0, float("nan"), 2.0], "target has 1 values that are nan or infinite"),
        (cells, [5.0, 5.0, 5.0], "all targets are 5"),
        ([threes] * 3, [1.0, 2.0, 3.0], "all weighted counts are -6"),
        ([*cells[:2], EXAMPLE], [1.0, 2.0, 3.0], "the cells have 3, 6 convolutions"),
        ([*cells[:2], "4-3_02"], [1.0, 2.0, 3.0], "cannot count the operations of '4-3_02'"),
    ):
        with pytest.raises(ValueError, match=message):
            theory.predicted_correlation(archs, target, "plain")
    with pytest.raises(ValueError, match="no law for method 'bn': use one of plain, sam, nir, ncd"):
        theory.predicted_correlation(cells, [1, 2, 3], "bn")
