"""Drawings are measured as rendered: what is on them, and that nothing lies on anything else."""

from itertools import combinations

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest

from ncdlib.spaces import drawing
from ncdlib.spaces.nasbench101 import NASBench101
from ncdlib.spaces.nasbench201 import EXAMPLE, NASBench201

OKABE_ITO = {"#000000", "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"}
OPERATIONS = ("sep_conv_3x3", "dil_conv_5x5", "max_pool_3x3", "avg_pool_3x3", "skip_connect", "nor_conv_1x1")


@pytest.fixture
def ax():
    """Axes as wide as a page and 3 inches high, with matplotlib's own settings whatever ran before."""
    with plt.style.context("default"):
        figure, ax = plt.subplots(figsize=(7, 3))
        ax.set_position([0, 0, 1, 0.9])
        yield ax
        plt.close(figure)


def boxes(ax):
    """Rendered extent of each label, with its frame."""
    ax.figure.canvas.draw()
    frames = [(text.get_text(), text.get_bbox_patch() or text) for text in ax.texts if text.get_text()]
    return [(label, frame.get_window_extent()) for label, frame in frames]


def overlapping(ax):
    """Pairs of labels that share more than a pixel."""
    found = []
    for (first, a), (second, b) in combinations(boxes(ax), 2):
        if min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1:
            found.append((first, second))
    return found


def labels(ax):
    return sorted(text.get_text().replace("\n", " ") for text in ax.texts if text.get_text())


def test_a_cell_shows_every_node_and_operation_once(ax):
    NASBench201().draw(NASBench201().parse(EXAMPLE), ax)
    assert labels(ax) == sorted(["input", "1", "2", "output", *["conv 3×3"] * 3, "avg pool 3×3", *["skip"] * 2])
    assert not ax.axison
    assert not overlapping(ax)


def test_labels_keep_clear_of_one_another_and_stay_in_the_picture(ax):
    """Random graphs of 3 to 7 nodes and up to 14 labelled edges."""
    rng = np.random.default_rng(0)
    for _ in range(10):
        ax.clear()
        nodes = {k: f"node {k}" for k in range(rng.integers(3, 8))}
        pairs = list(combinations(nodes, 2))
        chosen = rng.permutation(len(pairs))[: rng.integers(1, 15)]
        drawing.cell(ax, [(*pairs[k], OPERATIONS[rng.integers(len(OPERATIONS))]) for k in chosen], nodes)
        assert not overlapping(ax)
        corners = [corner for _, box in boxes(ax) for corner in box.corners()]
        assert all(ax.figure.bbox.contains(x, y) for x, y in corners)
        assert len(labels(ax)) == len(nodes) + len(chosen)


def test_labels_are_legible_at_the_width_of_a_page(ax):
    rng = np.random.default_rng(0)
    for space, arch in [(NASBench201(), NASBench201().parse(EXAMPLE)), (NASBench101(), NASBench101().sample_pruned(rng))]:
        ax.clear()
        space.draw(arch, ax)
        assert min(text.get_fontsize() for text in ax.texts) >= 7


def luminance(colour):
    """Relative luminance of an opaque colour, as WCAG 2 defines it."""
    channels = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in mpl.colors.to_rgb(colour)]
    return np.dot(channels, [0.2126, 0.7152, 0.0722])


def contrast(text, background, alpha):
    """Contrast of a text on a background of this opacity over white."""
    opaque = alpha * np.array(mpl.colors.to_rgb(background)) + 1 - alpha
    light, dark = sorted([luminance(text), luminance(opaque)], reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_text_is_told_from_every_background(ax):
    assert contrast("#767676", "white", 1) == pytest.approx(4.54, abs=0.01)  # the lightest grey that WCAG's AA allows
    drawing.cell(ax, [(k, k + 1, "") for k in range(5)], dict(enumerate(OPERATIONS)))
    drawing.stack(ax, [(operation, k) for k, operation in enumerate(OPERATIONS)])
    filled = mpl.patches.FancyBboxPatch, mpl.patches.Rectangle
    fills = [patch.get_facecolor() for patch in ax.patches if isinstance(patch, filled)]
    assert len(set(fills)) > 4
    for text in ax.texts:
        assert all(contrast(text.get_color(), fill[:3], fill[3]) >= 4.5 for fill in [*fills, (1, 1, 1, 1)])


def test_nodes_are_in_topological_order_from_left_to_right(ax):
    drawing.cell(ax, [(3, 1, ""), (1, 0, ""), (0, 2, ""), (3, 2, "")], {0: "c", 1: "b", 2: "d", 3: "a"})
    places = {label: (box.x0 + box.x1) / 2 for label, box in boxes(ax)}
    assert sorted(places, key=places.get) == ["a", "b", "c", "d"]


def test_two_operations_between_the_same_nodes_are_both_drawn(ax):
    drawing.cell(ax, [(0, 1, "max_pool_3x3"), (0, 1, "sep_conv_5x5"), (0, 1, "skip_connect")], {0: "in", 1: "out"})
    assert labels(ax) == sorted(["in", "out", "max pool 3×3", "sep conv 5×5", "skip"])
    assert not overlapping(ax)


def test_levels_set_overlapping_arcs_apart():
    rng = np.random.default_rng(0)
    for _ in range(50):
        arcs = [tuple(sorted(rng.choice(7, 2, replace=False).tolist())) for _ in range(12)]
        levels = drawing.arc_levels(arcs)
        for (i, (a, b)), (j, (c, d)) in combinations(enumerate(arcs), 2):
            if a < d and c < b and levels[i] != 0 and levels[j] != 0:
                assert levels[i] != levels[j]
        assert all(level != 0 or b == a + 1 for level, (a, b) in zip(levels, arcs, strict=True))
    assert {*drawing.arc_levels([(0, 2), (1, 3)])} == {1, -1}  # crossing arcs take two sides
    outer, inner, left, right = drawing.arc_levels([(0, 3), (1, 3), (0, 1), (1, 2)])
    assert (left, right) == (0, 0)
    assert outer * inner < 0 or abs(outer) > abs(inner)


@pytest.mark.parametrize(
    ("edges", "bad"),
    [
        ([(0, 5, "skip_connect")], r"edge \(0, 5, 'skip_connect'\)"),
        ([(0, 1, ""), (1, 0, "")], r"cycle \[\(0, 1\), \(1, 0\)\]"),
    ],
)
def test_an_impossible_cell_is_refused(ax, edges, bad):
    with pytest.raises(ValueError, match=bad):
        drawing.cell(ax, edges, {0: "in", 1: "out"})


def test_operations_differ_in_colour_or_line_by_kind():
    names = ("nor_conv_1x1", "nor_conv_3x3", "dil_conv_3x3", "avg_pool_3x3", "max_pool_3x3", "skip_connect", "none")
    styles = [drawing.style(name) for name in names]
    assert len(set(styles)) == len(names)
    assert {colour.lower() for colour, _ in styles[:-1]} <= OKABE_ITO
    for name, alias in [("conv1x1-bn-relu", names[0]), ("conv3x3-bn-relu", names[1]), ("maxpool3x3", names[4])]:
        assert drawing.style(name) == drawing.style(alias)
        assert drawing.style(drawing.short(name)) == drawing.style(name)


@pytest.mark.parametrize(
    ("operation", "label"),
    [
        ("nor_conv_3x3", "conv 3×3"),
        ("conv1x1-bn-relu", "conv 1×1"),
        ("maxpool3x3", "max pool 3×3"),
        ("avg_pool_3x3", "avg pool 3×3"),
        ("skip_connect", "skip"),
        ("dil_conv_5x5", "dil conv 5×5"),
        ("MB 5x5", "MB 5×5"),
        ("input", "input"),
        ("", ""),
    ],
)
def test_labels_are_short(operation, label):
    assert drawing.short(operation) == label


@pytest.mark.parametrize("count", [1, 6, 10, 22])
def test_a_stack_shows_labels_and_numbers_apart_in_blocks_that_grow(ax, count):
    blocks = [(f"block, {k}", 16 * 2.0 ** min(k, 6)) for k in range(count)]
    drawing.stack(ax, blocks, "title")
    assert ax.get_title() == "title"
    assert [text.get_text() for text in ax.texts] == [f"{number:g}" for _, number in blocks]
    ticks = ax.get_xticklabels()
    assert [text.get_text() for text in ticks] == [label for label, _ in blocks]
    assert not overlapping(ax)
    assert not any(a.overlaps(b) for a, b in combinations([text.get_window_extent() for text in ticks], 2))
    heights = [patch.get_height() for patch in ax.patches]
    lefts = [patch.get_x() for patch in ax.patches]
    assert lefts == sorted(lefts)
    assert heights == [number for _, number in blocks]
    for (_, box), shape, text in zip(boxes(ax), ax.patches, ticks, strict=True):
        bar = shape.get_window_extent()
        assert box.y0 >= bar.y1 and abs(box.x0 + box.x1 - bar.x0 - bar.x1) < 2  # the number lies above its bar
        assert abs(text.get_window_extent().x0 + text.get_window_extent().x1 - bar.x0 - bar.x1) < 4  # the label below it


def test_an_empty_stack_is_refused(ax):
    with pytest.raises(ValueError, match="at least one block"):
        drawing.stack(ax, [])
