"""NAS-Bench-201 against the benchmark's own table and against definitions written out a second time."""

from itertools import product
import os
from pathlib import Path
import re

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chisquare
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from ncdlib.activations import record_codes
from ncdlib.spaces.blocks import AvgPool2d
from ncdlib.spaces.nasbench201 import EDGES, EXAMPLE, OPS, Cell201, EdgeCell, NASBench201

SPACE = NASBench201()
SMALL = {"channels": 4, "cells_per_stage": 1}


def table(name):
    """A ground-truth table, of those in NCDLIB_DATA_DIR or normalised beside it."""
    folder = os.environ.get("NCDLIB_DATA_DIR")
    paths = [Path(folder) / name, Path(folder).parent / name] if folder else []
    for path in paths:
        if path.exists():
            return pd.read_csv(path)
    pytest.skip(f"needs {name} in or beside the folder NCDLIB_DATA_DIR")


def parameters(net):
    return sum(p.numel() for p in net.parameters())


def test_every_cell_survives_printing_and_parsing():
    cells = list(SPACE.enumerate())
    assert len(set(cells)) == len({str(cell) for cell in cells}) == 5**6
    assert all(SPACE.parse(str(cell)) == cell for cell in cells)


def test_enumerate_gives_the_cells_of_the_table():
    strings = table("nasbench201_accuracy.csv.gz").arch_str
    assert {str(cell) for cell in SPACE.enumerate()} == set(strings)
    assert all(str(SPACE.parse(text)) == text for text in strings)


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        ("", "''"),
        ("|none~0|+|none~0|none~1|", "has 2 nodes"),
        (EXAMPLE + "+|none~0|", "has 4 nodes"),
        (EXAMPLE.replace("nor_conv_3x3~1", "nor_conv_5x5~1"), "'nor_conv_5x5'"),
        (EXAMPLE.replace("avg_pool_3x3~1", "avg_pool~1"), "'avg_pool'"),
        (EXAMPLE.replace("skip_connect~2", "skip_connect~1"), "'skip_connect~1' is edge 2 of node 3"),
        (EXAMPLE.replace("avg_pool_3x3~1", "avg_pool_3x3"), "'avg_pool_3x3' is edge 1 of node 2"),
        (EXAMPLE.replace("|avg_pool_3x3~1", ""), "node 2, '|nor_conv_3x3~0|', must hold 2"),
        (EXAMPLE[1:], "node 1, 'nor_conv_3x3~0|'"),
        (EXAMPLE[:-1], "node 3, "),
    ],
)
def test_a_malformed_string_is_refused_by_its_bad_part_with_a_good_example(text, bad):
    with pytest.raises(ValueError, match=re.escape(bad)) as error:
        SPACE.parse(text)
    assert EXAMPLE in str(error.value)


@pytest.mark.parametrize(
    ("ops", "bad"), [(("none",) * 5, "got 5"), (("none",) * 7, "got 7"), (("none",) * 5 + ("conv",), "'conv'")]
)
def test_a_cell_of_other_operations_is_refused(ops, bad):
    with pytest.raises(ValueError, match=bad):
        Cell201(ops)


@pytest.mark.parametrize("size", [{"channels": 0}, {"cells_per_stage": -1}, {"classes": -3}])
def test_a_bad_size_is_refused_by_name(size):
    with pytest.raises(ValueError, match=next(iter(size))):
        SPACE.build(EXAMPLE, **size)


def test_parameters_equal_the_benchmark_for_every_cell():
    """Parameters depend on how many 1x1 and 3x3 convolutions there are: one network a pair, and 100 cells at random."""
    data = table("nasbench201_accuracy.csv.gz")
    with torch.device("meta"):
        counted = {}
        for ones in range(7):
            for threes in range(7 - ones):
                ops = ("nor_conv_1x1",) * ones + ("nor_conv_3x3",) * threes
                counted[ones, threes] = parameters(SPACE.build(Cell201(ops + ("skip_connect",) * (6 - len(ops)))))
        rows = data.sample(100, random_state=0)
        built = [parameters(SPACE.build(text)) for text in rows.arch_str]
    np.testing.assert_allclose(np.array(built) / 1e6, rows.params_m, rtol=0, atol=1e-9)
    expected = [counted[text.count("nor_conv_1x1"), text.count("nor_conv_3x3")] for text in data.arch_str]
    np.testing.assert_allclose(np.array(expected) / 1e6, data.params_m, rtol=0, atol=1e-9)


def test_cell_equals_its_definition_written_out():
    """Sums over edges, with every operation in elementary steps."""

    def average(x):  # over the 3x3 pixels that lie inside the image
        total = sum(
            F.pad(x, (1, 1, 1, 1))[:, :, i : i + x.shape[2], j : j + x.shape[3]] for i, j in product(range(3), repeat=2)
        )
        ones = F.pad(torch.ones_like(x), (1, 1, 1, 1))
        return total / sum(ones[:, :, i : i + x.shape[2], j : j + x.shape[3]] for i, j in product(range(3), repeat=2))

    def normalised(x):
        mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), unbiased=False, keepdim=True)
        return (x - mean) / (variance + 1e-5).sqrt()

    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    x = torch.randn(3, 4, 6, 5, dtype=torch.float64)
    for _ in range(25):
        arch = SPACE.sample(rng)
        cell = EdgeCell(arch, 4, 4, 1, "bn", "relu").double()
        for p in cell.parameters():
            if p.dim() == 4:
                p.data.normal_()
        nodes = [x, 0, 0, 0]
        for (i, j), op in zip(EDGES, arch.ops, strict=True):
            source = nodes[i] + torch.zeros_like(x)
            if op == "skip_connect":
                nodes[j] = nodes[j] + source
            elif op == "avg_pool_3x3":
                nodes[j] = nodes[j] + average(source)
            elif op != "none":
                kernel = int(op[-1])
                windows = F.unfold(source.clamp(min=0), kernel, padding=kernel // 2)
                y = (cell.edges[f"{i}>{j}"].conv.weight.flatten(1) @ windows).view_as(x)
                nodes[j] = nodes[j] + normalised(y)
        torch.testing.assert_close(cell(x), nodes[3] + torch.zeros_like(x), rtol=1e-9, atol=1e-9)


def test_network_has_the_published_skeleton():
    net = SPACE.build(EXAMPLE)
    shapes = []
    hooks = [layer.register_forward_hook(lambda _, __, y: shapes.append(tuple(y.shape[1:]))) for layer in net]
    with torch.no_grad():
        net(torch.randn(2, 3, 32, 32))
    for hook in hooks:
        hook.remove()
    stages = [(16, 32, 32)] * 6 + [(32, 16, 16)] * 6 + [(64, 8, 8)] * 6  # stem and residual blocks lead their stages
    assert shapes == [*stages, (64, 8, 8), (64, 8, 8), (64, 1, 1), (64,), (10,)]


def test_sampling_is_uniform_over_operations_on_each_edge():
    rng = np.random.default_rng(0)
    ops = np.array([SPACE.sample(rng).ops for _ in range(4000)])
    for edge in range(6):
        assert chisquare([(ops[:, edge] == op).sum() for op in OPS]).pvalue > 1e-3
    pairs = [(ops[:, a] == ops[:, b]).sum() for a in range(6) for b in range(a)]  # two edges agree one time in five
    assert chisquare(np.array([sum(pairs), 4000 * 15 - sum(pairs)]), [4000 * 15 / 5, 4000 * 15 * 4 / 5]).pvalue > 1e-3


def test_sampling_follows_the_generator():
    first, second = np.random.default_rng(5), np.random.default_rng(5)
    assert [SPACE.sample(first) for _ in range(20)] == [SPACE.sample(second) for _ in range(20)]


def test_isomorphism_class_is_the_benchmarks_own_string():
    data = table("nats_bench.csv")
    ours = [SPACE.parse(text).isomorphism_class for text in data.ArchitectureString]
    assert ours == list(data.UniqueString)
    assert len(set(ours)) == 6466  # unique cells, Dong & Yang 2020


def test_cells_of_one_class_without_weights_give_one_output():
    torch.manual_seed(0)
    x = torch.randn(2, 1, 5, 5, dtype=torch.float64)
    outputs = {}
    for ops in product(("none", "skip_connect", "avg_pool_3x3"), repeat=6):
        arch = Cell201(ops)
        y = EdgeCell(arch, 1, 1, 1, "bn", "relu")(x)
        torch.testing.assert_close(y, outputs.setdefault(arch.isomorphism_class, y), rtol=1e-10, atol=1e-10)
    assert 1 < len(outputs) < 3**6


def test_convolutions_are_counted():
    assert SPACE.convolutions(SPACE.parse(EXAMPLE)) == 3
    assert [SPACE.convolutions(Cell201((op,) * 6)) for op in OPS] == [0, 0, 6, 6, 0]


def test_torch_seed_decides_the_weights():
    def state(seed):
        torch.manual_seed(seed)
        return SPACE.build(EXAMPLE, **SMALL).state_dict()

    first, again, other = state(3), state(3), state(4)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["0.0.weight"], other["0.0.weight"])


def run(arch, complete):
    """Output, codes at every activation in order, and FLOPs, of one network on one batch."""
    torch.manual_seed(1)
    net = SPACE.build(arch, complete=complete, **SMALL)
    x = torch.randn(4, 3, 8, 8)
    with torch.no_grad(), record_codes(net, [torch.clone], n=4) as layers, FlopCounterMode(display=False) as flops:
        y = net(x)
    return y, [(layer.summaries[0], layer.times) for layer in layers], flops.get_total_flops()


def every_code(layers):
    """The code at each activation module, as bytes, in a fixed order: layers may share a tensor or hold equal ones."""
    return sorted(code.numpy().tobytes() for code, times in layers for _ in range(times))


def test_leaving_out_what_goes_nowhere_changes_neither_output_nor_codes():
    rng = np.random.default_rng(0)
    saved = 0
    for _ in range(30):
        arch = SPACE.sample(rng)
        y, codes, flops = run(arch, complete=True)
        y2, codes2, flops2 = run(arch, complete=False)
        assert torch.equal(y, y2)
        assert every_code(codes) == every_code(codes2)
        assert flops2 <= flops
        saved += flops2 < flops
    assert saved > 0


def test_a_convolution_of_zeros_is_left_out():
    fed = "|none~0|+|skip_connect~0|none~1|+|nor_conv_3x3~0|none~1|none~2|"
    zeros = "|none~0|+|skip_connect~0|nor_conv_3x3~1|+|nor_conv_3x3~0|none~1|skip_connect~2|"
    _, codes, flops = run(zeros, complete=False)
    assert flops == run(fed, complete=False)[2] < run(zeros, complete=True)[2]
    assert len(every_code(codes)) == len(every_code(run(zeros, complete=True)[1])) == len(every_code(run(fed, False)[1])) + 3


def test_a_convolution_into_a_dead_end_is_left_out():
    dead = "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"
    live = "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|skip_connect~1|none~2|"
    stage = [2 * 9 * c * c * side**2 * 4 for c, side in ((4, 8), (8, 4), (16, 2))]  # 3x3 convolution, 4 images
    assert run(dead, complete=True)[2] - run(dead, complete=False)[2] == sum(stage)
    assert run(live, complete=True)[2] == run(live, complete=False)[2]


@pytest.mark.parametrize(("init", "variance"), [("default", 1 / 3), ("kaiming", 2.0), ("normal", None)])
def test_initialisations_have_the_stated_variance(init, variance):
    """Times fan-in, that is; `normal` has variance 1 whatever the fan-in. Batch norms stay at 1 and 0."""
    torch.manual_seed(0)
    net = SPACE.build(EXAMPLE, init=init)
    convolutions = [p.detach() for p in net.parameters() if p.dim() == 4]
    scaled = torch.cat([(p * (p[0].numel() ** 0.5 if variance else 1)).flatten() for p in convolutions])
    assert scaled.numel() > 5e5
    assert scaled.mean().abs() < 0.01
    assert scaled.var().item() == pytest.approx(variance or 1.0, rel=0.01)
    for p in convolutions[-3:]:  # large layers, each by itself
        expected = variance / p[0].numel() if variance else 1.0
        assert p.var().item() == pytest.approx(expected, rel=0.1)
    linear = net[-1]
    if init == "default":
        assert scaled.abs().max() <= 1
        assert 0.5 / 8 < linear.bias.abs().max() <= 1 / 8  # fan-in 64
    else:
        assert not linear.bias.any()
    norm = net[0][1]
    assert norm.weight.eq(1).all()
    assert norm.bias.eq(0).all()


def test_an_unknown_initialisation_is_refused():
    with pytest.raises(ValueError, match=r"'zeros'.*default, kaiming, normal"):
        SPACE.build(EXAMPLE, init="zeros")


@pytest.mark.parametrize("shape", [(2, 16, 32, 32), (3, 5, 7, 9), (2, 1, 4, 4), (2, 4, 2, 3)])
@pytest.mark.parametrize("window", [(3, 1, 1), (3, 2, 1), (2, 2, 0)])
def test_average_pooling_is_the_same_in_both_memory_layouts(shape, window):
    x = torch.randn(shape, dtype=torch.float64)
    pool, textbook = AvgPool2d(*window), nn.AvgPool2d(*window, count_include_pad=False)
    results = []
    for layout in (torch.contiguous_format, torch.channels_last):
        mine = x.contiguous(memory_format=layout).requires_grad_()
        y = pool(mine)
        results.append((y, torch.autograd.grad(y.square().sum(), mine)[0]))
    theirs = x.clone().requires_grad_()
    y = textbook(theirs)
    expected = y, torch.autograd.grad(y.square().sum(), theirs)[0]
    for result in results:
        for a, b in zip(result, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
