"""The MobileNet-like spaces against the benchmark's own counts and against blocks written out by hand."""

from collections import Counter
import inspect
import os
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from ncdlib import activations
from ncdlib.spaces import drawing
from ncdlib.spaces.mobilenet import PUBLISHED, InvertedResidual, MobileNet, MobileNetV2

MACRO, V2 = MobileNet(), MobileNetV2()
DATA = os.environ.get("NCDLIB_DATA_DIR")
needs_data = pytest.mark.skipif(DATA is None, reason="NCDLIB_DATA_DIR names no folder with the benchmark's tables")


@pytest.fixture(scope="module")
def table():
    return pd.read_csv(Path(DATA).parent / "nasbench_macro_cifar10.csv", dtype={"arch": str})


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def on_meta(space, arch, **options):
    with torch.device("meta"):
        return space.build(arch, **options)


def multiply_adds(network, image):
    with FlopCounterMode(display=False) as counter:
        network(torch.empty(1, 3, image, image, device="meta"))
    return counter.get_total_flops() // 2


# NAS-Bench-Macro


@needs_data
def test_parameters_and_multiply_adds_of_all_6561_networks(table):
    def count(kinds):
        network = on_meta(MACRO, "".join(map(str, kinds)))
        return np.array([parameters(network), multiply_adds(network, 32)])

    none = count((0,) * 8)
    extra = np.zeros((8, 3, 2), dtype=int)  # what (position, kind) adds to the network of identities
    for position in range(8):
        for kind in (1, 2):
            extra[position, kind] = count(tuple(kind if i == position else 0 for i in range(8))) - none
    codes = np.array([[int(digit) for digit in arch] for arch in table.arch])
    counted = none + extra[np.arange(8), codes].sum(1)
    assert len(set(table.arch)) == 3**8
    np.testing.assert_array_equal(counted, table[["params", "flops"]])


@needs_data
def test_whole_networks_agree_with_the_table_too(table):
    for row in table.sample(200, random_state=0).itertuples():
        assert parameters(on_meta(MACRO, row.arch)) == row.params
    for row in table.sample(10, random_state=1).itertuples():
        assert multiply_adds(on_meta(MACRO, row.arch), 32) == row.flops


@needs_data
def test_every_code_of_the_table_is_read_and_printed(table):
    archs = [MACRO.parse(text) for text in table.arch]
    assert [str(arch) for arch in archs] == list(table.arch)
    assert set(archs) == set(MACRO.enumerate())


def test_enumeration_turns_the_last_block_fastest():
    archs = list(MACRO.enumerate())
    assert len(archs) == len(set(archs)) == 3**8
    assert [str(arch) for arch in archs[:4]] == ["00000000", "00000001", "00000002", "00000010"]


def test_sampling_is_uniform_over_kinds_at_every_position():
    rng = np.random.default_rng(0)
    kinds = np.array([[int(digit) for digit in MACRO.sample(rng)] for _ in range(3000)])
    for position in range(8):
        counts = np.bincount(kinds[:, position], minlength=3)
        assert ((counts - 1000) ** 2 / 1000).sum() < 18.4  # chi-squared with 2 degrees of freedom, p = 1e-4
    assert abs(np.corrcoef(kinds.T) - np.eye(8)).max() < 0.08  # positions are independent: 4.4 standard errors


# MobileNetV2


def test_published_ratios_give_mobilenetv2s_parameters_and_multiply_adds():
    network = on_meta(V2, PUBLISHED, activation="relu")
    assert parameters(network) == 3_504_872
    assert multiply_adds(network, 224) == pytest.approx(300e6, rel=0.005)  # Sandler et al. 2018, Table 4: 300M


def test_published_widths_and_resolutions():
    network = V2.build(PUBLISHED, activation="relu", classes=10)
    x, shapes = torch.zeros(2, 3, 64, 64), []
    for layer in network:
        x = layer(x)
        if isinstance(layer, InvertedResidual):
            shapes.append((x.shape[1], 64 // x.shape[2]))
    expected = [(16, 2)] + [(24, 4)] * 2 + [(32, 8)] * 3 + [(64, 16)] * 4 + [(96, 16)] * 3 + [(160, 32)] * 3 + [(320, 32)]
    assert shapes == expected
    assert sum(layer.shortcut for layer in network if isinstance(layer, InvertedResidual)) == 10  # one fewer than repeats


@pytest.mark.parametrize("block", range(17))
def test_parameters_follow_the_ratio_of_each_block(block):
    c_in = [32, *(c for c, _ in V2.blocks)][block]
    c_out = V2.blocks[block][0]

    def expected(t):  # expansion with its norm unless t = 1, filter with its norm, projection with its norm
        wide = c_in * t
        return (c_in * wide + 2 * wide if t > 1 else 0) + 9 * wide + 2 * wide + wide * c_out + 2 * c_out

    counts = {
        t: parameters(on_meta(V2, PUBLISHED[:block] + str(t) + PUBLISHED[block + 1 :], activation="relu")) for t in (1, 4)
    }
    assert counts[4] - counts[1] == expected(4) - expected(1)


def test_sampling_reaches_every_ratio_of_every_block():
    rng = np.random.default_rng(0)
    ratios = np.array([[int(digit) for digit in V2.sample(rng)] for _ in range(2000)])
    for block in range(17):
        counts = Counter(ratios[:, block].tolist())
        assert set(counts) == {1, 2, 4, 6}
        assert sum((count - 500) ** 2 / 500 for count in counts.values()) < 21.1  # 3 degrees of freedom, p = 1e-4


# both


@pytest.mark.parametrize(("c_out", "kernel", "ratio", "stride"), [(8, 3, 3, 1), (12, 5, 6, 1), (8, 3, 4, 2), (8, 3, 1, 1)])
def test_inverted_residual_block_written_out_by_hand(c_out, kernel, ratio, stride):
    torch.manual_seed(0)
    block = InvertedResidual(8, c_out, kernel, ratio, stride, "bn", "relu")
    for p in block.parameters():
        nn.init.normal_(p)
    convolutions = [m for m in block.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in block.modules() if isinstance(m, nn.BatchNorm2d)]
    x = torch.randn(4, 8, 6, 6)

    def normed(y, i):
        y = (y - y.mean((0, 2, 3), keepdim=True)) / (y.var((0, 2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()
        return y * norms[i].weight[:, None, None] + norms[i].bias[:, None, None]

    y, i = x, 0
    if ratio > 1:
        y, i = F.relu(normed(F.conv2d(x, convolutions[0].weight), 0)), 1
    pad = F.pad(y, [kernel // 2] * 4)
    filtered = torch.stack(
        [F.conv2d(pad[:, c : c + 1], convolutions[i].weight[c : c + 1], stride=stride)[:, 0] for c in range(8 * ratio)], 1
    )
    y = F.relu(normed(filtered, i))
    y = normed(F.conv2d(y, convolutions[i + 1].weight), i + 1)
    y = y + x if stride == 1 and c_out == 8 else y
    torch.testing.assert_close(block(x), y, rtol=1e-4, atol=1e-4)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), space=st.sampled_from([MACRO, V2]))
def test_samples_are_inside_and_their_counts_are_those_of_the_network(seed, space):
    arch = space.sample(np.random.default_rng(seed))
    assert space.sample(np.random.default_rng(seed)) == arch
    assert space.parse(str(arch)) == arch
    assert hash(space.parse(str(arch))) == hash(arch)
    network = on_meta(space, arch, activation="relu", classes=10)
    chosen = sum(isinstance(m, nn.Conv2d) for m in network.modules()) - 2  # stem and last 1x1 are fixed
    assert space.convolutions(arch) == chosen
    assert network(torch.empty(2, 3, 32, 32, device="meta")).shape == (2, 10)


@settings(max_examples=100)
@given(text=st.text("0123456", min_size=6, max_size=18))
def test_strings_are_read_back_unchanged_or_refused(text):
    for space, good in (
        (MACRO, len(text) == 8 and set(text) <= set("012")),
        (V2, len(text) == 17 and set(text) <= set("1246")),
    ):
        if good:
            assert str(space.parse(text)) == text
        else:
            with pytest.raises(ValueError):
                space.parse(text)


@settings(max_examples=20)
@given(digits=st.lists(st.sampled_from("1246"), min_size=17, max_size=17).map("".join))
def test_every_string_of_ratios_is_read_back(digits):
    assert str(V2.parse(digits)) == digits


@pytest.mark.parametrize(
    ("space", "bad", "said"),
    [
        (MACRO, "0201210", "has 7 digits, not 8.*02012100"),
        (MACRO, "02012103", "digit 7 .*must be one of 0, 1, 2, got 3.*02012100"),
        (MACRO, "0201210x", "'0201210x' is no architecture of mobilenet, which is digits alone.*02012100"),
        (MACRO, "0201210²", "'0201210²' is no architecture of mobilenet"),
        (MACRO, "", "'' is no architecture of mobilenet"),
        (V2, "1666", "has 4 digits, not 17.*" + PUBLISHED),
        (V2, "3" + "6" * 16, "digit 0 .*must be one of 1, 2, 4, 6, got 3.*" + PUBLISHED),
    ],
)
def test_bad_strings_are_named_and_a_good_one_is_shown(space, bad, said):
    with pytest.raises(ValueError, match=said):
        space.parse(bad)


def test_a_code_read_as_a_number_has_lost_its_zeros():
    parse = inspect.unwrap(MobileNet.parse)  # as it runs outside the tests, where types are not checked
    with pytest.raises(ValueError, match=r"got 2012100.*leading zeros"):
        parse(MACRO, 2012100)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"channels": 0}, "channels must be .* got 0"),
        ({"classes": 0}, "classes must be .* got 0"),
        ({"features": -1}, "features must be .* got -1"),
        ({"norm": "layer"}, "unknown norm 'layer'"),
        ({"activation": "swish"}, "unknown activation 'swish'"),
        ({"init": "zeros"}, "unknown initialisation 'zeros'"),
    ],
)
def test_bad_options_are_named(options, said):
    with pytest.raises(ValueError, match=said):
        MACRO.build("02012100", **options)


def test_bad_digits_are_refused_by_build_too():
    with pytest.raises(ValueError, match="must be one of 0, 1, 2, got 3"):
        MACRO.build("3" * 8)
    with pytest.raises(ValueError, match="must be one of 1, 2, 4, 6, got 5"):
        V2.build("5" * 17)


@pytest.mark.parametrize("norm", ["bn", "ln", "gn8", "in", "dropout", "none"])
@pytest.mark.parametrize(
    ("space", "arch", "size"),
    [(MACRO, "02012100", {"channels": 8, "features": 32}), (V2, "12461246124612461", {"classes": 10})],
    ids=["mobilenet", "mobilenet_v2"],
)
def test_forward_and_backward_are_finite_under_every_norm(space, arch, size, norm):
    torch.manual_seed(0)
    network = space.build(arch, norm, "relu", **size)
    out = network(torch.randn(4, 3, 64, 64))
    out.square().sum().backward()
    assert out.shape == (4, 10) and out.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize(("space", "arch"), [(MACRO, "02012100"), (V2, PUBLISHED)], ids=["mobilenet", "mobilenet_v2"])
def test_the_seed_decides_the_network(space, arch):
    def weights(seed, init):
        torch.manual_seed(seed)
        network = space.build(arch, activation="gelu", init=init)
        return torch.cat([p.flatten() for p in network.parameters()])

    for init in ("default", "kaiming"):
        assert torch.equal(weights(1, init), weights(1, init))
        assert not torch.equal(weights(1, init), weights(2, init))
    assert not torch.equal(weights(1, "default"), weights(1, "kaiming"))


@pytest.mark.parametrize(
    ("space", "arch", "layers"),
    [(MACRO, "02012100", 2 + 2 * 4), (MACRO, "00000000", 2), (V2, PUBLISHED, 2 + 1 + 2 * 16), (V2, "1" * 17, 2 + 17)],
)
def test_codes_are_recorded_at_every_activation(space, arch, layers):
    network = space.build(arch, activation="relu", classes=10)
    with torch.no_grad(), activations.record_codes(network, [lambda code: code.shape], n=2) as recorded:
        network(torch.randn(2, 3, 32, 32))
    assert len(recorded) == layers
    assert all(layer.times == 1 for layer in recorded)


@pytest.mark.parametrize(("space", "arch", "blocks"), [(MACRO, "02012100", 8), (V2, PUBLISHED, 17)])
def test_drawing_has_a_layer_for_each_block(space, arch, blocks, monkeypatch):
    layers, stack = [], drawing.stack
    monkeypatch.setattr(drawing, "stack", lambda ax, blocks, title="": (layers.extend(blocks), stack(ax, blocks, title)))
    ax = Figure().subplots()
    space.draw(space.parse(arch), ax)
    assert len(layers) == blocks + 2  # stem and last 1x1
    assert arch in [ax.get_title(loc) for loc in ("left", "center", "right")]  # a style that another test set decides
    numbers = {text.get_text() for text in ax.texts}
    assert {"32", "1280", f"{layers[-2][1]:g}"} <= numbers  # the widths stand under the blocks
