"""NAS-Bench-101 against the benchmark's own hashes and parameter counts, and against definitions written out again."""

from collections import Counter
from itertools import permutations, product, takewhile
import os
from pathlib import Path
import re

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chisquare
import torch

from ncdlib.activations import record_codes
from ncdlib.spaces.nasbench101 import EXAMPLE, OPS, Cell, Cell101, NASBench101, pruned_matrices

SPACE = NASBench101()
SMALL = {"channels": 10, "stacks": 2, "cells_per_stack": 1}
CONV3, CONV1, POOL = OPS


@pytest.fixture(scope="module")
def cells():
    """A uniform sample of the benchmark: 20,001 cells with their published hash and parameters."""
    path = Path(os.environ.get("NCDLIB_DATA_DIR", "unset")).parent / "nasbench101_20k.csv.gz"
    if not path.exists():
        pytest.skip("needs nasbench101_20k.csv.gz beside the folder NCDLIB_DATA_DIR")
    data = pd.read_csv(path)
    return data.assign(text=data.adjacency_rows + ":" + data.ops)


def shuffled(arch, rng):
    """The same graph, its inner vertices in another order that keeps the matrix upper-triangular."""
    n = len(arch.ops)
    orders = [(0, *order, n - 1) for order in permutations(range(1, n - 1))]
    orders = [o for o in orders if all(not arch.matrix[o[j]][o[i]] for i in range(n) for j in range(i, n))]
    order = orders[rng.integers(len(orders))]
    return Cell101(tuple(tuple(arch.matrix[i][j] for j in order) for i in order), tuple(arch.ops[i] for i in order))


def test_hash_is_the_published_one(cells):
    rows = cells.sample(1500, random_state=0)
    assert [SPACE.parse(text).hash for text in rows.text] == list(rows.module_hash)


def test_parameters_equal_the_published_count(cells):
    rows = cells.sample(500, random_state=1)
    built = []
    with torch.device("meta"):
        for text in rows.text:
            # Cells after the first of a stack are alike: the third one is counted as a second second one.
            net = SPACE.build(text, cells_per_stack=2)
            alike = [layer for layer in net if isinstance(layer, Cell)][1::2]
            built.append(sum(p.numel() for part in (net, *alike) for p in part.parameters()))
        whole = SPACE.build(rows.text.iloc[0])
    assert built[0] == sum(p.numel() for p in whole.parameters())
    assert built == list(rows.trainable_params)


def test_strings_of_the_table_are_pruned_and_survive_parsing(cells):
    for row in cells.sample(500, random_state=2).itertuples():
        arch = SPACE.parse(row.text)
        assert str(arch) == row.text
        assert (len(arch.ops), arch.edges) == (row.num_vertices, row.num_edges)
        assert SPACE.convolutions(arch) == row.ops.count("conv")


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        ("", "one ':'"),
        ("01/00", "one ':'"),
        ("01/00:input:output", "one ':'"),
        ("012/001/000:input|maxpool3x3|output", "row 0 of the matrix, '012'"),
        ("01/0 :input|output", "row 1 of the matrix, '0 '"),
        ("011/01/000:input|maxpool3x3|output", "row 1 of the matrix has 2 entries, but there are 3 rows"),
        ("011/001/010:input|maxpool3x3|output", "upper-triangular, but vertex 2 feeds vertex 1"),
        ("010/011/000:input|maxpool3x3|output", "upper-triangular, but vertex 1 feeds vertex 1"),
        ("01/00:input|maxpool3x3|output", "3 operations, input|maxpool3x3|output, for 2 vertices"),
        ("011/001/000:maxpool3x3|input|output", "begin with 'input'"),
        ("011/001/000:input|output|maxpool3x3", "end with 'output'"),
        ("0:input", "begin with 'input' and end with 'output'"),
        ("011/001/000:input|conv5x5-bn-relu|output", "unknown operation 'conv5x5-bn-relu'"),
        ("010/000/000:input|maxpool3x3|output", "no path leads from input to output in 010/000/000"),
        ("001/001/000:input|output|output", "unknown operation 'output'"),
    ],
)
def test_a_malformed_string_is_refused_by_its_bad_part_with_a_good_example(text, bad):
    with pytest.raises(ValueError, match=re.escape(bad)) as error:
        SPACE.parse(text)
    assert EXAMPLE in str(error.value)


def chain(vertices):
    return [[int(j == i + 1) for j in range(vertices)] for i in range(vertices)]


def test_limits_hold_for_what_pruning_leaves():
    with pytest.raises(ValueError, match="8 vertices are more than 7"):
        Cell101.pruned(chain(8), ("input", *(POOL,) * 6, "output"))
    dangling = chain(8)
    dangling[5][6], dangling[5][7] = 0, 1  # nothing leads to vertex 6
    assert len(Cell101.pruned(dangling, ("input", *(POOL,) * 6, "output")).ops) == 7
    full = [[int(j > i) for j in range(5)] for i in range(5)]
    with pytest.raises(ValueError, match="10 edges are more than 9"):
        Cell101.pruned(full, ("input", *(POOL,) * 3, "output"))
    full[0][4] = 0
    assert Cell101.pruned(full, ("input", *(POOL,) * 3, "output")).edges == 9


def test_pruning_removes_exactly_the_vertices_off_every_path():
    text = "010010/000001/000101/000001/000000/000000:input|conv3x3-bn-relu|maxpool3x3|maxpool3x3|conv1x1-bn-relu|output"
    assert str(SPACE.parse(text)) == "010/001/000:input|conv3x3-bn-relu|output"
    with pytest.raises(ValueError, match=r"vertices \[1\] lie on no path.*Cell101.pruned"):
        Cell101(((0, 0, 1), (0, 0, 1), (0, 0, 0)), ("input", POOL, "output"))


def test_enumerate_gives_exactly_the_published_number_of_cells():
    """All cells of at most 5 vertices: 1, 6, 84 and 2,441 of the benchmark's 423,624."""
    small = takewhile(lambda cell: len(cell.ops) < 6, SPACE.enumerate())
    assert Counter(len(cell.ops) for cell in small) == {2: 1, 3: 6, 4: 84, 5: 2441}


def test_hash_does_not_depend_on_the_order_of_vertices():
    rng = np.random.default_rng(0)
    archs = [SPACE.sample_pruned(rng) for _ in range(40)]
    others = [shuffled(arch, rng) for arch in archs]
    assert [arch.hash for arch in archs] == [other.hash for other in others]
    assert any(arch != other for arch, other in zip(archs, others, strict=True))


def test_sampled_cells_are_valid_and_pruned_and_one_in_21_is_in_the_table(cells):
    published = set(cells.module_hash)
    for sample in (SPACE.sample, SPACE.sample_pruned):
        rng = np.random.default_rng(0)
        archs = [sample(rng) for _ in range(3000)]
        for arch in archs[:300]:
            assert SPACE.parse(str(arch)) == arch == Cell101.pruned(arch.matrix, arch.ops)
            assert len(arch.ops) <= 7
            assert arch.edges <= 9
        distinct = {arch.hash for arch in archs}
        share, expected = len(distinct & published) / len(distinct), len(cells) / 423_624
        assert abs(share - expected) < 4 * (expected / len(distinct)) ** 0.5


def test_sample_is_uniform_over_valid_matrices():
    """Against all 2^21 matrices: how many vertices and edges pruning leaves, where at most 9 edges are left."""
    places = [(i, j) for i in range(7) for j in range(i + 1, 7)]
    graphs = np.arange(2**21)
    edge = {place: graphs >> k & 1 == 1 for k, place in enumerate(places)}
    forward, backward = {0: np.ones(2**21, bool)}, {6: np.ones(2**21, bool)}
    for v in range(1, 7):
        forward[v] = np.any([edge[w, v] & forward[w] for w in range(v)], axis=0)
        backward[6 - v] = np.any([edge[6 - v, w] & backward[w] for w in range(7 - v, 7)], axis=0)
    kept = np.array([forward[v] & backward[v] for v in range(7)])
    edges = sum((edge[i, j] & kept[i] & kept[j]).astype(np.int8) for i, j in places)
    valid = forward[6] & (edges <= 9)
    shares = np.bincount(kept.sum(0)[valid] * 10 + edges[valid], minlength=80) / valid.sum()

    rng = np.random.default_rng(0)
    archs = [SPACE.sample(rng) for _ in range(3000)]
    observed = np.bincount([len(arch.ops) * 10 + arch.edges for arch in archs], minlength=80)
    assert not observed[shares == 0].any()
    common = shares * len(archs) >= 5
    fold = [np.append(values[common], values[~common].sum()) for values in (observed, shares * len(archs))]
    assert chisquare(*fold).pvalue > 1e-3
    ops = np.concatenate([arch.ops[1:-1] for arch in archs])
    assert chisquare([(ops == op).sum() for op in OPS]).pvalue > 1e-3


def test_pruned_matrices_are_those_that_pruning_leaves_alone():
    for vertices in (2, 3, 4):
        places = [(i, j) for i in range(vertices) for j in range(i + 1, vertices)]
        alone = set()
        for bits in product((0, 1), repeat=len(places)):
            matrix = [[bits[places.index((i, j))] if i < j else 0 for j in range(vertices)] for i in range(vertices)]
            try:
                arch = Cell101.pruned(matrix, ("input", *(POOL,) * (vertices - 2), "output"))
            except ValueError:
                continue
            if len(arch.ops) == vertices:
                alone.add(arch.matrix)
        assert set(pruned_matrices(vertices)) == alone
        assert len(pruned_matrices(vertices)) == len(alone)


def test_widths_divide_the_output_and_never_narrow_towards_the_input():
    rng = np.random.default_rng(0)
    for _ in range(200):
        arch, channels = SPACE.sample_pruned(rng), int(rng.integers(8, 140))
        last = len(arch.ops) - 1
        width = dict(enumerate(arch.widths(channels), start=1))
        heads = [v for v in range(1, last) if arch.matrix[v][last]]
        assert width[last] == channels
        if heads:
            assert sum(width[v] for v in heads) == channels
            assert sorted((width[v] for v in heads), reverse=True) == [width[v] for v in heads]
            assert width[heads[0]] - width[heads[-1]] <= 1
        for v, w in product(range(1, last), repeat=2):
            if arch.matrix[v][w]:
                assert width[v] - width[w] in (0, 1) if v in heads else width[v] >= width[w]


def test_too_few_channels_are_refused():
    wide = "011110/000001/000001/000001/000001/000000:input|" + f"{POOL}|" * 4 + "output"
    with pytest.raises(ValueError, match="3 channels are too few for 4 vertices"):
        SPACE.build(wide, channels=3)
    with pytest.raises(ValueError, match="stacks must be a whole number of at least 1, got 0"):
        SPACE.build(wide, stacks=0)


def test_cell_equals_its_definition_written_out():
    """A diamond with a remainder of channels and a skip from the input, with the projections applied by hand."""
    text = f"011001/000110/000101/000001/000001/000000:input|{CONV3}|{CONV1}|{POOL}|{CONV1}|output"
    arch = SPACE.parse(text)
    assert arch.widths(8) == [3, 3, 3, 2, 8]  # vertices 2, 3 and 4 share 8 channels; 1 is as wide as the wider of 3 and 4
    torch.manual_seed(0)
    cell = Cell(arch, 5, 8, "bn", "relu")
    for p in cell.parameters():
        if p.dim() == 4:
            p.data.normal_()
    x = torch.randn(2, 5, 6, 6)
    with torch.no_grad():
        op = dict(enumerate(cell.operations, start=1))
        from_input = {int(v): projection(x) for v, projection in cell.projections.items()}
        assert sorted(from_input) == [1, 2, 5]
        one, two = op[1](from_input[1]), op[2](from_input[2])
        three = torch.nn.functional.max_pool2d(one + two, 3, stride=1, padding=1)
        four = op[4](one[:, :2])
        assert three.shape[1] == 3
        expected = torch.cat([two, three, four], dim=1) + from_input[5]
        torch.testing.assert_close(cell(x), expected)


def test_a_cell_of_input_and_output_is_one_projection():
    cell = Cell(SPACE.parse("01/00:input|output"), 3, 4, "bn", "relu")
    assert sum(p.numel() for p in cell.parameters()) == 3 * 4 + 2 * 4


def test_network_has_the_published_skeleton():
    with torch.device("meta"):
        net = SPACE.build(EXAMPLE)
        x, shapes = torch.empty(2, 3, 32, 32), []
        for layer in net:
            x = layer(x)
            shapes.append(tuple(x.shape[1:]))
    stacks = [(128, 32, 32)] * 4 + [(128, 16, 16)] + [(256, 16, 16)] * 3 + [(256, 8, 8)] + [(512, 8, 8)] * 3
    assert shapes == [*stacks, (512, 1, 1), (512,), (10,)]


@pytest.mark.parametrize("norm", ["bn", "ln", "none"])
def test_random_cells_run_and_torch_seed_decides_them(norm):
    rng = np.random.default_rng(0)
    x = torch.randn(4, 3, 9, 9)
    for _ in range(10):
        arch = SPACE.sample_pruned(rng)
        outputs = []
        for complete in (True, False):
            torch.manual_seed(0)
            net = SPACE.build(str(arch), norm, "silu", complete=complete, **SMALL)
            with torch.no_grad(), record_codes(net, [torch.clone], n=4) as layers:
                outputs.append(net(x))
        assert outputs[0].shape == (4, 10)
        assert outputs[0].isfinite().all()
        assert torch.equal(*outputs)
        projections = sum(arch.matrix[0])
        assert sum(layer.times for layer in layers) == 1 + 2 * (SPACE.convolutions(arch) + projections)
