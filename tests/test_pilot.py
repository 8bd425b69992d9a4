"""Choosing a score by a few trained networks."""

import numpy as np
import pandas as pd
import pytest

from ncdlib import search


def zoo(n=40):
    rng = np.random.default_rng(0)
    quality = pd.Series(rng.normal(size=n), [f"net {i}" for i in range(n)])
    return pd.DataFrame(
        {"backwards": -quality, "good": quality + 0.1 * rng.normal(size=n), "noise": rng.normal(size=n)}
    ), quality


def test_the_score_that_ranks_the_pilot_best_is_chosen_and_searched_with():
    scores, quality = zoo()
    trained = quality.iloc[:8]
    found = search.pilot(scores, trained)
    assert found.choice == "good" and found.correlations.score.tolist()[-1] == "backwards"
    assert found.best == scores.good.iloc[8:].idxmax()  # among those that are not trained yet
    assert (found.correlations.n == 8).all() and (found.correlations.low <= found.correlations.rho).all()
    ranks = scores.loc[trained.index].rank().corrwith(trained.rank())
    pd.testing.assert_series_equal(
        found.correlations.set_index("score").rho, ranks[found.correlations.score], check_names=False, rtol=1e-9
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, a: (s, a.iloc[:2]), "at least 3 trained networks, got 2"),
        (lambda s, a: (s, a * 0), "not all equal"),
        (lambda s, a: (s, a.rename({"net 0": "other"})), "lack 1 of the trained networks, the first is other"),
        (lambda s, a: (s.assign(noise=np.nan), a), "score 'noise' is not finite"),
        (lambda s, a: (s[[]], a), "no scores to choose from"),
        (lambda s, a: (s * 0, a), "the same for all trained networks"),
    ],
)
def test_bad_pilots_say_what_to_do(change, message):
    scores, quality = zoo()
    with pytest.raises(ValueError, match=message):
        search.pilot(*change(scores, quality.iloc[:6]))
