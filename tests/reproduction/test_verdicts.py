"""The rules of the ledger, at and beside their boundaries."""

import math

import numpy as np
import pytest
from scipy import stats

from ncdlib.reproduction import verdicts


@pytest.mark.parametrize(
    ("side", "threshold", "interval", "margin", "expected"),
    [
        ("above", 0, (0.2, 0.6), 0.05, "supports"),
        ("above", 0, (-0.6, -0.2), 0.05, "contradicts"),
        ("above", 0, (-0.1, 0.6), 0.05, "cannot tell"),
        ("above", 0, (0.0, 0.6), 0.05, "cannot tell"),  # the interval ends at the threshold
        ("above", 0, (-0.6, 0.0), 0.05, "cannot tell"),
        ("above", 0, (-0.02, 0.03), 0.05, "no effect"),
        ("above", 0, (-0.05, 0.05), 0.05, "no effect"),  # the ends belong to the margin
        ("above", 0, (0.01, 0.04), 0.05, "no effect"),  # clear of zero, and smaller than what counts
        ("above", 0, (0.01, 0.06), 0.05, "supports"),
        ("above", 0, (0.01, 0.04), 0.0, "supports"),
        ("above", 0.5, (0.5, 0.5), 0.0, "no effect"),  # exactly the threshold
        ("below", 0, (-0.6, -0.2), 0.05, "supports"),
        ("below", 0, (0.2, 0.6), 0.05, "contradicts"),
        ("below", 0, (-0.6, 0.1), 0.05, "cannot tell"),
        ("below", 6, (5.0, 5.0), 0.0, "supports"),
        ("equal", 0, (-0.05, 0.05), 0.05, "supports"),
        ("equal", 0, (0.04, 0.06), 0.05, "cannot tell"),
        ("equal", 0, (0.06, 0.09), 0.05, "contradicts"),
        ("equal", 0, (-0.09, -0.06), 0.05, "contradicts"),
        ("equal", 0, (-0.09, 0.09), 0.05, "cannot tell"),
    ],
)
def test_what_an_interval_says(side, threshold, interval, margin, expected):
    assert verdicts.outcome(side, threshold, *interval, margin) == expected


@pytest.mark.parametrize(
    ("side", "numbers", "message"),
    [
        ("beside", (0, 0, 0, 0), "above or below its threshold, or is equal to it, not 'beside'"),
        ("above", (0, math.nan, 1, 0), "need finite low <= high"),
        ("above", (0, 1, math.inf, 0), "need finite low <= high"),
        ("above", (math.nan, 0, 1, 0), "need finite low <= high"),
        ("above", (0, 1, 0, 0), "need finite low <= high"),
        ("above", (0, 0, 1, -0.1), "margin >= 0"),
    ],
)
def test_an_interval_that_says_nothing_is_an_error(side, numbers, message):
    with pytest.raises(ValueError, match=message):
        verdicts.outcome(side, *numbers)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["supports"], "holds"),
        (["supports", "supports"], "holds"),
        (["supports", "contradicts"], "holds in part"),
        (["supports", "no effect"], "holds in part"),
        (["supports", "cannot tell"], "holds in part"),
        (["contradicts"], "contradicted"),
        (["contradicts", "cannot tell", "no effect"], "contradicted"),
        (["no effect", "no effect"], "no effect"),
        (["no effect", "cannot tell"], "cannot tell"),
        (["cannot tell"], "cannot tell"),
    ],
)
def test_what_rows_say_together(rows, expected):
    assert verdicts.verdict(rows) == verdicts.verdict(rows[::-1]) == expected


@pytest.mark.parametrize("rows", [[], ["perhaps"], ["supports", "not"]])
def test_rows_need_an_outcome_each(rows):
    with pytest.raises(ValueError, match="need at least one of supports"):
        verdicts.verdict(rows)


@pytest.mark.parametrize(
    ("said", "share", "expected"),
    [
        ("holds", 0.9, "holds"),
        ("holds", 0.89, "holds in part"),
        ("contradicted", 0.1, "contradicted"),
        ("contradicted", 0.11, "cannot tell"),
        ("no effect", 0.5, "no effect"),
        ("cannot tell", 1.0, "cannot tell"),
        ("holds in part", 0.0, "holds in part"),
        ("holds", math.nan, "holds"),  # no specifications were run
        ("contradicted", math.nan, "contradicted"),
    ],
)
def test_a_verdict_needs_nine_specifications_of_ten(said, share, expected):
    assert verdicts.robust(said, share) == expected


def test_the_interval_of_a_difference_covers_it():
    """Independent normal means, whose difference has a textbook interval: the ends add as squares."""
    value, low, high = verdicts.difference((1.0, 0.7, 1.3), (0.2, -0.2, 0.6))
    assert (value, low, high) == pytest.approx((0.8, 0.3, 1.3))
    one_sided = verdicts.difference((0.9, 0.6, 0.95), (0.5, 0.1, 0.7))  # ends at unequal distances: the near ones meet
    assert one_sided == pytest.approx((0.4, 0.4 - math.hypot(0.3, 0.2), 0.4 + math.hypot(0.05, 0.4)))
    assert verdicts.difference((2, 2, 2), (5, 5, 5)) == (-3, -3, -3)


def test_welch_agrees_with_scipy():
    rng = np.random.default_rng(0)
    a, b = rng.normal(3, 1, 5), rng.normal(1, 4, 9)
    ours, theirs = ((x.mean(), x.std(ddof=1), len(x)) for x in (a, b))
    expected = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert verdicts.welch(ours, theirs) == pytest.approx(tuple(expected))


def test_two_printed_means_of_five_runs():
    """43.75 +- 1.91 beside 45.13 +- 1.37: t = 1.31, inside the interval."""
    low, high = verdicts.welch((45.13, 1.37, 5), (43.75, 1.91, 5))
    assert low < 0 < high
    assert ((low + high) / 2) == pytest.approx(1.38)
    with pytest.raises(ValueError, match="need two runs of each and a spread"):
        verdicts.welch((1, 0, 5), (2, 0, 5))
    with pytest.raises(ValueError, match="need two runs of each and a spread"):
        verdicts.welch((1, 1, 1), (2, 1, 5))


@pytest.mark.parametrize(
    ("low", "high", "printed", "expected"),
    [
        (0.1, 0.3, 0.2, "agrees"),
        (0.1, 0.3, 0.3, "agrees"),
        (0.1, 0.3, 0.31, "differs"),
        (-0.2, 0.3, 0.2, "cannot tell"),  # inside, and wider than the tolerance
        (-0.2, 0.3, 0.4, "differs"),  # a wide interval can still be left out
    ],
)
def test_whether_a_printed_number_agrees(low, high, printed, expected):
    assert verdicts.agreement(low, high, 0.3, printed) == expected


def test_a_number_that_is_none_does_not_agree():
    with pytest.raises(ValueError, match="need low <= high and a finite number"):
        verdicts.agreement(0, 1, 0.3, math.nan)
