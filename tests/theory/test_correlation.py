"""The predicted rank correlation: against ranks by hand, and on real cells."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ncdlib import spaces, theory
from ncdlib.theory.correlation import count_3x3

SPACE = spaces.get("nasbench201")
SIX = [cell for cell in SPACE.enumerate() if cell.convolutions == 6]


@pytest.mark.parametrize("name", ["nasbench201", "transnas_micro"])
def test_counts_are_those_of_the_networks_that_the_space_builds(name):
    space = spaces.get(name)
    archs = list(itertools.islice(space.enumerate(), 0, None, 397))
    assert len({count_3x3(arch) for arch in archs}) > 3
    for arch in archs:
        ops = getattr(arch, "graph", arch).ops
        assert count_3x3(arch) == count_3x3(str(arch)) == sum(op == "nor_conv_3x3" for op in ops)


def test_prediction_is_the_slope_times_the_rank_correlation_of_the_count():
    counts = [str(cell).count("nor_conv_3x3") for cell in SIX]
    target = [i % 7 + count for i, count in enumerate(counts)]
    ranks = [stats.rankdata(values) for values in (counts, target)]  # ties: mean ranks
    rho = stats.pearsonr(*ranks).statistic
    assert abs(rho) > 0.1
    for method, slope in theory.SLOPES.items():
        expected = pytest.approx(slope * rho)
        assert theory.predicted_correlation(SIX, np.array(target), method) == expected
        table = pd.Series(target, [str(cell) for cell in SIX])
        assert theory.predicted_correlation(table.index, table, method.upper()) == expected


def test_prediction_is_a_correlation_even_where_the_slope_exceeds_one():
    cells = ["|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|none~2|"] * 2
    cells += ["|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"] * 2
    assert theory.predicted_correlation(cells, [2, 2, 1, 1], "plain") == -1
    assert theory.predicted_correlation(cells, [1, 1, 2, 2], "plain") == 1
    assert theory.predicted_correlation(cells, [1, 1, 2, 2], "nir") == 0


def test_cells_of_transnas_may_name_their_macro_structure():
    cells = ["64-41414-3_02_333", "64-41414-1_02_111", "64-41414-3_01_111"]
    assert [count_3x3(cell) for cell in cells] == [4, 0, 1]
    assert theory.predicted_correlation(cells, [3, 1, 2], "ncd") == pytest.approx(theory.SLOPES["ncd"])


def test_what_has_no_rank_correlation_is_named():
    ones, threes = (str(cell) for cell in SIX if len(set(cell.ops)) == 1)
    cells = [ones, threes, str(SIX[5])]
    for archs, target, message in (
        (cells, [1.0, 2.0], "got 2 for 3 of them"),
        (cells[:2], [1.0, 2.0], "at least 3 architectures, got 2"),
        (cells, [1.0, float("nan"), 2.0], "target has 1 values that are nan or infinite"),
        (cells, [5.0, 5.0, 5.0], "all targets are 5"),
        ([threes] * 3, [1.0, 2.0, 3.0], "all counts of 3x3 convolutions are 6"),
        ([*cells[:2], "4-3_02"], [1.0, 2.0, 3.0], "cannot count the convolutions of '4-3_02'"),
    ):
        with pytest.raises(ValueError, match=message):
            theory.predicted_correlation(archs, target, "plain")
    with pytest.raises(ValueError, match="no slope for method 'bn': use one of plain, sam, nir, ncd"):
        theory.predicted_correlation(cells, [1, 2, 3], "bn")
