"""The paper's numbers, and figures that come out the same each time."""

import matplotlib.pyplot as plt
import pytest

from ncdlib.reproduction import paper, plots
from ncdlib.spaces import palette


def test_the_papers_numbers_can_be_asked_for():
    rows = paper.numbers("Table 1", proxy="nwot", method="plain")
    assert len(rows) == 2 and set(rows.source) == {"second-hand"}
    with pytest.raises(ValueError, match="no column 'proxi'"):
        paper.numbers(proxi="nwot")
    with pytest.raises(ValueError, match="no row has place = 'Table 99'"):
        paper.numbers("Table 99")


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


def test_a_stored_result_says_so(tmp_path):
    figure, _ = plots.figure(4, 3)
    plots.save(figure, tmp_path / "a", stored=True)
    assert "stored result" in (tmp_path / "a.svg").read_text()


def test_colours_are_distinct():
    assert len(set(plots.METHODS.values())) == 4
    lightness = [0.3 * r + 0.59 * g + 0.11 * b for r, g, b, _ in plots.shades(7)]
    assert lightness == sorted(lightness, reverse=True)
