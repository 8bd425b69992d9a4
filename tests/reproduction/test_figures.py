"""Figures of single notebooks show the rows that they are given."""

from itertools import product

from matplotlib.collections import PathCollection
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from ncdlib.reproduction import figures


def test_the_law_has_a_line_per_method_and_rings_the_marked_target():
    signs = {"plain": -1, "NCD": 1}
    every = product(("nwot", "swap"), signs, range(7))
    rows = [(proxy, method, str(k), k / 10, signs[method] * k / 10) for proxy, method, k in every]
    table = pd.DataFrame(rows, columns=["proxy", "method", "target", "count", "rho"])
    table = table.assign(low=table.rho - 0.1, high=table.rho + 0.1, kind="data set", n=64, seeds=1)
    figure = figures.law(table, "count", marked="6")
    for ax in figure.axes:
        assert [text.get_text() for text in ax.texts] == ["plain", "NCD"]
        points = [c for c in ax.collections if isinstance(c, PathCollection)]
        rings = [c.get_offsets().tolist() for c in points if c.get_sizes().tolist() == [260]]
        assert np.allclose(sorted(y for ((_, y),) in rings), [-0.6, 0.6])
    plt.close(figure)


def test_predictions_shade_the_quarters_where_the_sign_is_wrong():
    table = pd.DataFrame({"method": ["plain", "NCD"], "predicted": [0.5, -0.5], "rho": [0.4, 0.4]})
    figure = figures.predictions({"a": table})
    corners = {patch.get_xy() for patch in figure.axes[0].patches}
    assert corners == {(-1, 0), (0, -1)}
    plt.close(figure)


def test_specifications_are_sorted_and_each_value_has_its_row():
    table = pd.DataFrame({"rho": [0.3, -0.2, 0.1], "mode": ["train", "eval", "train"], "batch": [32, 64, 32]})
    figure = figures.specification_curve(table.assign(low=table.rho - 0.1, high=table.rho + 0.1), ["mode", "batch"], "black")
    top, board = figure.axes
    assert top.lines[0].get_ydata().tolist() == [-0.2, 0.1, 0.3]
    marks = {
        label.get_text(): line.get_xdata().tolist() for label, line in zip(board.get_yticklabels(), board.lines, strict=True)
    }
    assert marks == {"mode: eval": [0], "mode: train": [1, 2], "batch: 32": [1, 2], "batch: 64": [0]}
    plt.close(figure)


def test_maps_share_one_scale_and_show_their_means():
    pairs = {name: {"predicted": np.full((2, 2), value), "measured": np.eye(2)} for name, value in (("a", 0.25), ("b", 2.0))}
    figure = figures.maps(pairs, "distance")
    pictures = [ax.images[0] for ax in figure.axes if ax.images]
    assert {picture.get_clim() for picture in pictures} == {(0.0, 2.0)}
    assert [ax.get_title("left") or ax.get_title() for ax in figure.axes[:2]] == [
        "a, predicted: 0.250",
        "b, predicted: 2.000",
    ]
    plt.close(figure)
