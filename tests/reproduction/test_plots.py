"""Figures: what they show, and that they come out the same each time."""

from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from ncdlib.reproduction import plots
from ncdlib.spaces import palette


@pytest.fixture
def ax():
    figure, axes = plots.figure(4, 3)
    yield axes[0, 0]
    plt.close(figure)


def test_a_figure_is_the_same_file_each_time(tmp_path):
    for name in ("a", "b"):
        figure, axes = plots.figure(4, 3)
        plots.curve(axes[0, 0], [0, 1], [0, 1], [-1, 0], [1, 2], "line", palette.BLUE)
        plots.zero_line(axes[0, 0])
        plots.save(figure, tmp_path / name)
        plt.close(figure)
    for suffix in ("png", "svg"):
        first, second = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in "ab")
        assert first == second
    assert not list(tmp_path.glob("*.partial"))


def test_last_digits_change_no_file(tmp_path):
    for name, nudge in (("a", 0.0), ("b", 1e-7)):
        figure, axes = plots.figure(4, 3)
        y = np.array([0.1, 0.5, 0.3]) + nudge
        plots.curve(axes[0, 0], [0, 1, 2], y, y - 0.1, y + 0.1, "line", palette.BLUE)
        plots.save(figure, tmp_path / name)
        plt.close(figure)
    assert (tmp_path / "a.svg").read_text() == (tmp_path / "b.svg").read_text()


def test_settled_svg_keeps_what_is_drawn():
    svg = '<svg><path id="ma0123456789" d="M 1.23456 -0.0001 L 2 3.5"/><use xlink:href="#ma0123456789" x="7.126"/>'
    svg += '<text x="1.5">rho 0.12345</text><path id="p0123456789"/></svg>'
    expected = '<svg><path id="id0" d="M 1.23 0.00 L 2 3.5"/><use xlink:href="#id0" x="7.13"/>'
    assert plots.settled(svg) == expected + '<text x="1.5">rho 0.12345</text><path id="id1"/></svg>'


def test_every_reference_of_a_settled_svg_has_its_target(tmp_path, ax):
    plots.curve(ax, [0, 1], [0, 1], [0, 0], [1, 1], "line", palette.BLUE)
    plots.save(ax.figure, tmp_path / "a")
    elements = list(ElementTree.parse(tmp_path / "a.svg").iter())
    ids = [element.get("id") for element in elements if element.get("id")]
    used = [value.removeprefix("#") for element in elements for key, value in element.items() if key.endswith("href")]
    assert used and set(used) <= set(ids) and len(ids) == len(set(ids))


def test_a_stored_result_says_so(tmp_path):
    figure, _ = plots.figure(4, 3)
    plots.save(figure, tmp_path / "a", stored=True)
    assert "stored result" in (tmp_path / "a.svg").read_text()


def test_colours_are_distinct():
    assert len(set(plots.METHODS.values())) == 4
    lightness = [0.3 * r + 0.59 * g + 0.11 * b for r, g, b, _ in plots.shades(7)]
    assert lightness == sorted(lightness, reverse=True)


def tidy():
    rows = [(p, m, k, i / 10 + k / 100) for p in ("nwot", "swap") for i, m in enumerate(plots.METHODS) for k in (6, 0)]
    table = pd.DataFrame(rows, columns=["proxy", "method", "convolutions", "rho"])
    return table.assign(low=table.rho - 0.05, high=table.rho + 0.1)


def test_curves_have_a_panel_per_proxy_and_a_line_per_method():
    figure, axes = plots.curves(tidy(), "convolutions", "method", "proxy")
    lines = {line.get_label(): line for line in axes[0, 1].get_lines()}
    assert [ax.get_title(loc="left") or ax.get_title() for ax in axes[0]] == ["NWOT", "SWAP"]
    assert set(plots.METHODS) <= set(lines)
    assert list(lines["NIR"].get_xdata()) == [0, 6] and np.allclose(lines["NIR"].get_ydata(), [0.2, 0.26])
    plt.close(figure)


def test_a_map_of_correlations_names_each_interval_in_black(ax):
    rho = pd.DataFrame([[0.36, -0.9]], ["NCD"], [6, 0])
    plots.correlation_map(ax, rho, rho - 0.05, rho + 0.1, "t")
    assert {text.get_text() for text in ax.texts} == {"+0.36\n+0.31, +0.46", "-0.90\n-0.95, -0.80"}
    assert {text.get_color() for text in ax.texts} == {"black"}


def test_dots_lie_from_the_top_down_with_their_intervals(ax):
    table = pd.DataFrame({"row": ["a", "b", "a"], "method": ["plain", "count", "NCD"], "rho": [0.1, 0.2, 0.3]})
    plots.dots(ax, table.assign(low=[0.0, 0.1, 0.1], high=0.4))
    bars = [container.lines[2][0].get_segments()[0] for container in ax.containers]
    assert np.allclose(bars, [[[0, 0], [0.4, 0]], [[0.1, 1], [0.4, 1]], [[0.1, 0], [0.4, 0]]])
    assert ax.yaxis_inverted() and [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]


def test_groups_lie_beside_each_other_in_the_order_of_the_rows(ax):
    data = pd.DataFrame({"row": ["b", "a", "b"], "group": ["x", "x", "y"], "rho": [0.1, 0.2, 0.3], "low": 0.0, "high": 1.0})
    plots.beside(ax, data, ["a", "b"], {"x": (palette.BLUE, "o"), "y": (palette.ORANGE, "s")})
    x, y = (container.lines[0].get_xydata() for container in ax.containers)
    assert x[:, 0].tolist() == [0.2, 0.1] and y[1].tolist() == [0.3, pytest.approx(1.175)]
    assert np.isnan(y[0, 0]) and np.all(x[:, 1] < y[:, 1])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]


def test_the_chosen_candidate_has_the_highest_score(ax):
    plots.candidates(ax, [1, 2, 3], [0.5, np.nan, 0.7], "NCD")
    star = next(line for line in ax.get_lines() if line.get_marker() == "*")
    assert (star.get_xdata()[0], star.get_ydata()[0]) == (3, 0.7)


def test_stacked_bars_add_up_and_hold_their_numbers(ax):
    counts = pd.DataFrame({"holds": [2, 0], "cannot tell": [1, 3]}, ["a", "b"])
    plots.stacked(ax, counts, {"holds": palette.BLUE, "cannot tell": palette.GREY})
    assert [(bar.get_x(), bar.get_width()) for bar in ax.patches] == [(0, 2), (0, 0), (2, 1), (0, 3)]
    assert [text.get_text() for text in ax.texts] == ["2", "", "1", "3"]


def test_stacked_bars_of_shares_have_one_length(ax):
    counts = pd.DataFrame({"holds": [2, 0], "cannot tell": [2, 3]}, ["a", "b"])
    plots.stacked(ax, counts, {"holds": palette.BLUE, "cannot tell": palette.GREY}, share=True)
    assert [(bar.get_x(), bar.get_width()) for bar in ax.patches] == [(0, 0.5), (0, 0), (0.5, 0.5), (0, 1)]
    assert [text.get_text() for text in ax.texts] == ["2", "", "2", "3"]


def test_stars_are_where_the_paper_prints_them(ax):
    plots.stars(ax, 6, pd.DataFrame({"method": ["plain", "NCD"], "value": [-0.7, 0.6]}))
    assert [(line.get_xdata()[0], line.get_ydata()[0], line.get_color()) for line in ax.get_lines()] == [
        (6, -0.7, plots.METHODS["plain"]),
        (6, 0.6, plots.METHODS["NCD"]),
    ]
