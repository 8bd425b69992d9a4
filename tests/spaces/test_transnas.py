"""TransNAS-Bench-101 against the benchmark's own lists of networks and against counts and definitions written out."""

import math
import os
from pathlib import Path
import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy.stats import chisquare
import torch
from torch.utils.flop_counter import FlopCounterMode

from ncdlib.activations import record_codes
from ncdlib.spaces.blocks import FactorizedReduce
from ncdlib.spaces.nasbench201 import EdgeCell
from ncdlib.spaces.transnas import EDGES, Net, TransNASMacro, TransNASMicro

MICRO, MACRO = TransNASMicro(), TransNASMacro()
STEM = 3 * 32 * 9 + 2 * 32 + 32 * 64 * 9 + 2 * 64  # two convolutions, each with the scale and shift of its BatchNorm


def parameters(net):
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("space", [MICRO, MACRO], ids=lambda space: space.name)
def test_enumerate_gives_the_networks_of_the_table(space):
    path = Path(os.environ.get("NCDLIB_DATA_DIR", "unset")).parent / f"{space.name.replace('nas_', 'nas101_')}.csv.gz"
    if not path.exists():
        pytest.skip(f"needs {path.name} beside the folder NCDLIB_DATA_DIR")
    assert {str(arch) for arch in space.enumerate()} == set(pd.read_csv(path).arch_str)


@pytest.mark.parametrize(("space", "size"), [(MICRO, 4096), (MACRO, 3256)], ids=["micro", "macro"])
def test_every_network_survives_printing_and_parsing(space, size):
    archs = list(space.enumerate())
    assert len(archs) == len(set(archs)) == len({str(arch) for arch in archs}) == size
    assert all(space.parse(str(arch)) == arch for arch in archs)


@pytest.mark.parametrize(
    ("space", "text", "bad"),
    [
        (MICRO, "", "got ''"),
        (MICRO, "64-41414", "got '64-41414'"),
        (MICRO, "64-41414-1_02_333-x", "joined by '-', got"),
        (MICRO, "32-41414-1_02_333", "base channels '32'"),
        (MICRO, "64-1234-1_02_333", "modules '1234' are not '41414'"),
        (MICRO, "64-41414-1_02_334", "cell '1_02_334'"),
        (MICRO, "64-41414-1_02_33", "cell '1_02_33'"),
        (MICRO, "64-41414-102333", "cell '102333'"),
        (MICRO, "64-41414-basic", "belongs to transnas_macro"),
        (MACRO, "64-41414-1_02_333", "cell '1_02_333' is not 'basic'"),
        (MACRO, "64-1235-basic", "modules '1235' must be digits from 1 to 4"),
        (MACRO, "64--basic", "modules '' must be digits"),
        (MACRO, "64-124-basic", "3 modules where 4 to 6"),
        (MACRO, "64-1111114-basic", "7 modules where 4 to 6"),
        (MACRO, "64-1133-basic", "0 modules that double the channels"),
        (MACRO, "64-2424-basic", "4 modules that double the channels"),
        (MACRO, "64-1122-basic", "0 modules that halve the resolution"),
        (MACRO, "64-33334-basic", "5 modules that halve the resolution"),
    ],
)
def test_a_malformed_string_is_refused_by_its_bad_part_with_a_good_example(space, text, bad):
    with pytest.raises(ValueError, match=re.escape(bad)) as error:
        space.parse(text)
    assert space.example in str(error.value)


@pytest.mark.parametrize("size", [{"channels": 0}, {"channels": 7}, {"cells_per_module": 0}, {"classes": -1}])
def test_a_bad_size_is_refused_by_name(size):
    with pytest.raises(ValueError, match=next(iter(size))):
        MICRO.build(MICRO.example, **size)


@pytest.mark.parametrize(
    ("modules", "cell", "inside"),
    [
        # Plain module: two cells of 64 channels. No digit but 2 and 3 has weights.
        ("1", "0_00_000", 0),
        ("1", "1_11_111", 0),
        ("1", "2_00_000", 2 * (64 * 64 + 2 * 64)),
        ("1", "3_00_000", 2 * (64 * 64 * 9 + 2 * 64)),
        ("1", "0_00_003", 2 * (64 * 64 * 9 + 2 * 64)),
        ("1", "3_23_323", 2 * (4 * (64 * 64 * 9 + 2 * 64) + 2 * (64 * 64 + 2 * 64))),
        # Channels doubled, resolution halved: the edges out of node 0 do so in the first cell, where a skip has weights.
        ("4", "0_00_000", 0),
        ("4", "1_00_000", 2 * (64 * 64) + 2 * 128),
        ("4", "2_00_000", (64 * 128 + 2 * 128) + (128 * 128 + 2 * 128)),
        ("4", "3_00_000", (64 * 128 * 9 + 2 * 128) + (128 * 128 * 9 + 2 * 128)),
        ("4", "0_01_000", 0),
        ("4", "0_02_000", 2 * (128 * 128 + 2 * 128)),
        ("4", "0_00_030", 2 * (128 * 128 * 9 + 2 * 128)),
        # Channels doubled or resolution halved, alone: the same skip.
        ("2", "1_00_000", 2 * (64 * 64) + 2 * 128),
        ("3", "1_10_100", 3 * (2 * (64 * 32) + 2 * 64)),
        # Residual blocks: two convolutions a cell, and one on the shortcut where the shape changes.
        ("1", "basic", 2 * 2 * (64 * 64 * 9 + 2 * 64)),
        ("2", "basic", (64 * 128 * 9 + 2 * 128) + (64 * 128 + 2 * 128) + 3 * (128 * 128 * 9 + 2 * 128)),
        ("3", "basic", (64 * 64 + 2 * 64) + 4 * (64 * 64 * 9 + 2 * 64)),
        ("4", "basic", (64 * 128 * 9 + 2 * 128) + (64 * 128 + 2 * 128) + 3 * (128 * 128 * 9 + 2 * 128)),
        ("22", "basic", (64 * 128 * 9 + 2 * 128) + (64 * 128 + 2 * 128) + 3 * (128 * 128 * 9 + 2 * 128)
         + (128 * 256 * 9 + 2 * 256) + (128 * 256 + 2 * 256) + 3 * (256 * 256 * 9 + 2 * 256)),
    ],
)  # fmt: skip
def test_parameters_of_every_digit_equal_a_count_by_hand(modules, cell, inside):
    channels = 64 * 2 ** sum(digit in "24" for digit in modules)
    with torch.device("meta"):
        net = MICRO.network(Net(modules, cell), "bn", "relu", complete=True, **MICRO.sizes)  # `build` has its own cells only
    assert parameters(net) == STEM + inside + (channels * 47 + 47)


def test_parameters_of_whole_networks_equal_a_count_by_hand():
    plain, wide = [(c, c) for c in (128, 128, 128, 256, 256, 256, 512)], [(64, 128), (128, 256), (256, 512)]
    # 3_01_200: edge 0>1 convolves 3x3, edge 0>3 convolves 1x1, both out of node 0; edge 1>2 skips.
    micro = sum(9 * a * b + 2 * b + a * b + 2 * b for a, b in wide + plain)
    # 1234: 64, 64 | 128, 128 | 128, 128 | 256, 256
    blocks = [(64, 64)] * 4 + [(64, 128)] + [(128, 128)] * 7 + [(128, 256)] + [(256, 256)] * 3
    macro = sum(9 * a * b + 2 * b for a, b in blocks) + sum(a * b + 2 * b for a, b in [(64, 128), (128, 128), (128, 256)])
    with torch.device("meta"):
        assert parameters(MICRO.build("64-41414-3_01_200")) == STEM + micro + 512 * 47 + 47
        assert parameters(MACRO.build("64-1234-basic")) == STEM + macro + 256 * 47 + 47
        assert parameters(MACRO.build("64-1234-basic", classes=75)) == STEM + macro + 256 * 75 + 75


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("64-41414-1_02_333", [(128, 32)] * 2 + [(128, 32)] * 2 + [(256, 16)] * 2 + [(256, 16)] * 2 + [(512, 8)] * 2),
        ("64-41414-0_00_000", [(128, 32)] * 4 + [(256, 16)] * 4 + [(512, 8)] * 2),
        ("64-1234-basic", [(64, 64)] * 2 + [(128, 64)] * 2 + [(128, 32)] * 2 + [(256, 16)] * 2),
    ],
)
def test_shapes_at_the_published_image_size(text, expected):
    space = MACRO if "basic" in text else MICRO
    with torch.device("meta"):
        net = space.build(text)
        x, shapes = torch.empty(2, 3, 256, 256), []
        for layer in net:
            x = layer(x)
            shapes.append(tuple(x.shape[1:]))
    width = expected[-1][0]
    assert shapes == [(64, 64, 64), *((c, side, side) for c, side in expected), (width, 1, 1), (width,), (47,)]


@pytest.mark.parametrize("side", [5, 6])
@pytest.mark.parametrize("stride", [1, 2])
def test_factorised_reduce_equals_its_definition_written_out(stride, side):
    torch.manual_seed(0)
    layer = FactorizedReduce(3, 4, stride, "none", "relu").double()
    weights = [torch.nn.init.normal_(p.data)[:, :, 0, 0] for p in layer.parameters()]
    x = torch.randn(2, 3, side, side, dtype=torch.float64)
    size = math.ceil(side / stride)
    expected = torch.zeros(2, 4, size, size, dtype=torch.float64)
    for i in range(size):
        for j in range(size):
            for part, (weight, offset) in enumerate(zip(weights, (0, 1), strict=True)):
                row, column = i * stride + offset, j * stride + offset
                if row < side and column < side:
                    expected[:, 2 * part : 2 * part + 2, i, j] = x[:, :, row, column].clamp(min=0) @ weight.T
    torch.testing.assert_close(layer(x), expected)


def test_cell_sums_over_its_edges():
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    x = torch.randn(3, 4, 7, 6)
    for stride, c_out in [(1, 4), (2, 4), (1, 8), (2, 8)]:
        shape = (3, c_out, math.ceil(7 / stride), math.ceil(6 / stride))
        for _ in range(10):
            arch = MICRO.sample(rng)
            cell = EdgeCell(arch.graph, 4, c_out, stride, "bn", "relu")
            for p in cell.parameters():
                if p.dim() == 4:
                    p.data.normal_()
            nodes = [x, *(torch.zeros(shape) for _ in range(3))]
            for (i, j), digit in zip(EDGES, arch.cell.replace("_", ""), strict=True):
                if digit != "0":
                    nodes[j] = nodes[j] + cell.edges[f"{i}>{j}"](nodes[i])
            torch.testing.assert_close(cell(x), nodes[3])


def test_only_reshaping_skips_and_convolutions_have_weights():
    cell = EdgeCell(Net("4", "1_11_111").graph, 4, 8, 2, "bn", "relu")
    kinds = {name: type(edge).__name__ for name, edge in cell.edges.items()}
    reshaping = {name: "FactorizedReduce" for name in ("0>1", "0>2", "0>3")}
    assert kinds == reshaping | dict.fromkeys(("1>2", "1>3", "2>3"), "Identity")


def test_a_network_without_a_path_gives_the_bias_of_its_head():
    net = MICRO.build("64-41414-3_00_000", channels=4)
    with torch.no_grad():
        torch.testing.assert_close(net(torch.randn(2, 3, 32, 32)), net[-1].bias.expand(2, 47))


def run(arch, complete):
    """Output, codes at every activation in order, and FLOPs, of one network on one batch."""
    torch.manual_seed(1)
    net = MICRO.build(arch, complete=complete, channels=4)
    x = torch.randn(4, 3, 32, 32)
    with torch.no_grad(), record_codes(net, [torch.clone], n=4) as layers, FlopCounterMode(display=False) as flops:
        y = net(x)
    return y, [(layer.summaries[0], layer.times) for layer in layers], flops.get_total_flops()


def every_code(layers):
    """The code at each activation module, as bytes, in a fixed order: layers may share a tensor or hold equal ones."""
    return sorted(code.numpy().tobytes() for code, times in layers for _ in range(times))


def test_leaving_out_what_goes_nowhere_changes_neither_output_nor_codes():
    rng = np.random.default_rng(0)
    saved = 0
    for arch in [*(MICRO.sample(rng) for _ in range(29)), MICRO.parse("64-41414-1_11_000")]:
        y, codes, flops = run(arch, complete=True)
        y2, codes2, flops2 = run(arch, complete=False)
        assert torch.equal(y, y2)
        assert every_code(codes) == every_code(codes2)
        assert flops2 <= flops
        saved += flops2 < flops
    assert saved > 1
    assert flops2 < flops  # the last one: reshaping skips into a dead end


def test_micro_sampling_is_uniform_over_digits_on_each_edge():
    rng = np.random.default_rng(0)
    digits = np.array([list(MICRO.sample(rng).cell.replace("_", "")) for _ in range(4000)])
    for edge in range(6):
        assert chisquare([(digits[:, edge] == digit).sum() for digit in "0123"]).pvalue > 1e-3


def test_macro_sampling_is_uniform_over_stacks():
    rng = np.random.default_rng(0)
    drawn = [MACRO.sample(rng).modules for _ in range(4000)]
    lengths = np.bincount(list(map(len, drawn)), minlength=7)[4:]
    assert chisquare(lengths, np.array([210, 750, 2296]) * 4000 / 3256).pvalue > 1e-3
    assert set(drawn) <= {arch.modules for arch in MACRO.enumerate()}
    assert len(set(drawn)) == pytest.approx(3256 * (1 - math.exp(-4000 / 3256)), rel=0.03)


def test_convolutions_are_counted():
    assert MICRO.convolutions(MICRO.parse("64-41414-1_02_333")) == 4
    assert MICRO.convolutions(MICRO.parse("64-41414-1_00_111")) == 0
    with torch.device("meta"):
        net = MACRO.build("64-12344-basic")
    threes = sum(isinstance(m, torch.nn.Conv2d) and m.kernel_size == (3, 3) for m in net.modules())
    assert MACRO.convolutions(MACRO.parse("64-12344-basic")) == threes - 2  # two of them are in the stem


@pytest.mark.parametrize("space", [MICRO, MACRO], ids=lambda space: space.name)
def test_torch_seed_decides_the_weights(space):
    def state(seed):
        torch.manual_seed(seed)
        return space.build(space.example, channels=4).state_dict()

    first, again, other = state(3), state(3), state(4)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["0.0.weight"], other["0.0.weight"])


@pytest.mark.parametrize("norm", ["ln", "none", "gn8"])
def test_networks_run_without_batch_norm(norm):
    x = torch.randn(2, 3, 32, 32)
    for space in (MICRO, MACRO):
        net = space.build(space.example, norm, "gelu", channels=16)
        assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in net.modules())
        with torch.no_grad():
            assert net(x).isfinite().all()


def test_drawings_show_what_the_string_says():
    _, (left, right) = plt.subplots(1, 2, figsize=(12, 3))
    MICRO.draw(MICRO.parse("64-41414-1_02_300"), left)
    MACRO.draw(MACRO.parse("64-1234-basic"), right)
    labels = [
        [text.get_text().replace("\n", " ") for text in texts if text.get_text()]
        for texts in (left.texts, [*right.texts, *right.get_xticklabels()])
    ]
    assert sorted(labels[0]) == sorted(["input", "1", "2", "output", "skip", "conv 1×1", "conv 3×3"])
    assert labels[1] == ["64", "64", "128", "128", "256", "stem", "same", "wider", "smaller", "wider, smaller"]
    plt.close()
