"""The panel of notebook 00: its points, its picture and its sliders."""

from itertools import product
import time

import numpy as np
import pandas as pd
import pytest

from ncdlib import spaces
from ncdlib.reproduction.panel import Panel, Setting, points
from ncdlib.statistics import spearman

ALPHAS, SEEDS = (0.0, 0.5, 0.95), range(3)
SPACE = spaces.get("nasbench201")


@pytest.fixture(scope="module")
def archs():
    """Eight cells with four convolutions and eight with six."""
    cells = list(SPACE.enumerate())
    return [str(cell) for k in (4, 6) for cell in [c for c in cells if c.convolutions == k][:8]]


@pytest.fixture(scope="module")
def truth(archs):
    return pd.Series(np.random.default_rng(1).uniform(80, 95, len(archs)), archs)


@pytest.fixture(scope="module")
def scores(archs):
    rng = np.random.default_rng(0)
    keys = product(("nwot", "swap"), ("bn", "ln"), ALPHAS, archs, SEEDS)
    table = pd.DataFrame(keys, columns=["proxy", "norm", "alpha", "arch", "seed"])
    return table.assign(score=rng.normal(size=len(table)))


@pytest.fixture(scope="module")
def panel(scores, truth):
    cells = points(scores, truth)
    rows = [
        dict(zip(Setting._fields, key, strict=True))
        | vars(spearman(group.score.to_numpy(), group.accuracy.to_numpy(), resamples=50))
        for key, group in cells.groupby(level=list(Setting._fields))
    ]
    return Panel(cells, pd.DataFrame(rows))


def test_points_hold_the_mean_score_and_both_ranks(scores, truth, archs):
    cells = points(scores, truth).loc[Setting("swap", "ln", 0.5, 6)]
    by_hand = scores[(scores.proxy == "swap") & (scores.norm == "ln") & (scores.alpha == 0.5)].groupby("arch").score.mean()
    assert sorted(cells.arch) == sorted(archs[8:])
    assert np.allclose(cells.score, by_hand[cells.arch])
    assert list(cells.sort_values("score").x) == list(cells.sort_values("accuracy").y) == list(range(1, 9))
    assert [SPACE.parse(arch).ops.count("nor_conv_3x3") for arch in cells.arch] == list(cells.larger)


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_a_cell_with_a_score_that_is_not_finite_has_no_place(scores, truth, archs, bad):
    broken = scores.copy()
    broken.loc[(broken.arch == archs[0]) & (broken.proxy == "nwot") & (broken.seed == 1), "score"] = bad
    cells = points(broken, truth).loc[Setting("nwot", "bn", 0.0, 4)].set_index("arch")
    assert cells.loc[archs[0], ["score", "x"]].isna().all()
    assert sorted(cells.x.dropna()) == list(range(1, 8)) and cells.y.notna().all()


def test_a_cell_without_an_accuracy_is_named(scores, truth, archs):
    with pytest.raises(KeyError, match="not in index"):
        points(scores, truth.drop(archs[3]))


def test_the_words_say_the_sign_only_where_it_is_clear(panel):
    rhos = panel.rhos.copy()
    rhos.loc[Setting(), ["rho", "low", "high"]] = -0.5, -0.7, -0.2
    rhos.loc[Setting(alpha=0.5), ["rho", "low", "high"]] = 0.2, -0.1, 0.4
    rhos.loc[Setting(norm="ln", alpha=0.95), ["rho", "low", "high"]] = 0.5, 0.2, 0.7
    drawn = Panel(panel.cells, rhos.reset_index())
    expected = {
        Setting(): "plain NWOT, alpha = 0: ranks backwards\nrho = -0.50 [-0.70, -0.20], n = 8 cells, seeds: 1",
        Setting(alpha=0.5): "SAM NWOT, alpha = 0.5: ranks neither way\nrho = +0.20 [-0.10, +0.40], n = 8 cells, seeds: 1",
        Setting(
            norm="ln", alpha=0.95
        ): "NCD NWOT, alpha = 0.95: ranks the right way\nrho = +0.50 [+0.20, +0.70], n = 8 cells, seeds: 1",
    }
    assert {setting: drawn.words(setting)[0] for setting in expected} == expected
    assert len({drawn.words(setting)[1] for setting in expected}) == 3


def test_a_picture_does_not_depend_on_those_before(panel):
    settings = [Setting(), Setting(norm="ln", alpha=0.95), Setting("swap", convolutions=4), Setting(alpha=0.5)]
    pictures = [panel.png(setting) for setting in settings]
    assert len(set(pictures)) == len(settings)
    fresh = Panel(panel.cells, panel.rhos.reset_index())
    assert [fresh.png(setting) for setting in reversed(settings)] == pictures[::-1]


def test_a_control_changes_the_picture_at_once(panel):
    box = panel.widget(Setting())
    controls = {control.description: control for row in box.children[:2] for control in row.children}
    picture = box.children[2]
    assert set(controls) == set(Setting._fields) and picture.value == panel.png(Setting())
    now = Setting()
    for name, value in {"alpha": 0.95, "norm": "ln", "proxy": "swap", "convolutions": 4}.items():
        now = now._replace(**{name: value})
        start = time.process_time()
        controls[name].value = value
        assert time.process_time() - start < 0.2, name  # seconds of this process, so that other programs do not count
        assert picture.value == panel.png(now)
