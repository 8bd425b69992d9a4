"""DARTS and S1 to S4: published counts, an independent definition of the network, published genotypes, bad input."""

from collections import Counter
from collections.abc import Iterator
import json
import os
from pathlib import Path
import re

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import stats
import torch
from torch import Tensor, nn
import torch.nn.functional as F

from ncdlib import rescaling
from ncdlib.spaces import drawing
from ncdlib.spaces.blocks import FactorizedReduce, drop_path
from ncdlib.spaces.darts import DARTS, KINDS, OPS, Genotype
from ncdlib.spaces.darts_network import Noise, Zero
from ncdlib.spaces.robustdarts import S1, S2, S3, S4

SPACES = {space.name: space for space in (DARTS(), S1(), S2(), S3(), S4())}
SMALL = {"channels": 4, "layers": 3}

needs_tables = pytest.mark.skipif("NCDLIB_DATA_DIR" not in os.environ, reason="NCDLIB_DATA_DIR names no folder of tables")


def tables() -> Path:
    return Path(os.environ["NCDLIB_DATA_DIR"]).parent


DARTS_V1 = (
    "Genotype(normal=[('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 0), ('sep_conv_3x3', 1), "
    "('skip_connect', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 2)], normal_concat=[2, 3, 4, 5], "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 0), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('avg_pool_3x3', 0)], reduce_concat=[2, 3, 4, 5])"
)
DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)
P_DARTS = (
    "Genotype(normal=[('skip_connect', 0), ('dil_conv_3x3', 1), ('skip_connect', 0),('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('sep_conv_3x3', 3), ('sep_conv_3x3',0), ('dil_conv_5x5', 4)], normal_concat=range(2, 6), "
    "reduce=[('avg_pool_3x3', 0), ('sep_conv_5x5', 1), ('sep_conv_3x3', 0), ('dil_conv_5x5', 2), ('max_pool_3x3', 0), "
    "('dil_conv_3x3', 1), ('dil_conv_3x3', 1), ('dil_conv_5x5', 3)], reduce_concat=range(2, 6))"
)
PC_DARTS = (
    "Genotype(normal=[('sep_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 0), ('dil_conv_3x3', 1), "
    "('sep_conv_5x5', 0), ('sep_conv_3x3', 1), ('avg_pool_3x3', 0), ('dil_conv_3x3', 1)], normal_concat=range(2, 6), "
    "reduce=[('sep_conv_5x5', 1), ('max_pool_3x3', 0), ('sep_conv_5x5', 1), ('sep_conv_5x5', 2), ('sep_conv_3x3', 0), "
    "('sep_conv_3x3', 3), ('sep_conv_3x3', 1), ('sep_conv_3x3', 2)], reduce_concat=range(2, 6))"
)


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def uniform(op: str) -> Genotype:
    """Every edge carries `op`; node n reads nodes 0 and n - 1."""
    pairs = tuple((op, source) for node in range(2, 6) for source in (0, node - 1))
    return Genotype(normal=pairs, reduce=pairs)


# What the training scripts of these papers print for their genotypes on CIFAR-10: 3.2, 3.3, 3.4 and 3.6 M in the papers.
@pytest.mark.parametrize(
    ("text", "printed"), [(DARTS_V1, 3_169_414), (DARTS_V2, 3_349_342), (P_DARTS, 3_433_798), (PC_DARTS, 3_634_678)]
)
def test_published_numbers_of_parameters(text, printed):
    with torch.device("meta"):
        network = DARTS().build(text)
    assert parameters(network) == printed
    assert all(p.is_meta for p in network.parameters())


def test_published_number_of_parameters_with_the_auxiliary_head():
    with torch.device("meta"):
        network = DARTS().build(P_DARTS, auxiliary=True)
    assert parameters(network) == 3_910_224


def test_published_sizes():
    sizes = {name: (space.sizes["channels"], space.sizes["layers"]) for name, space in SPACES.items()}
    assert sizes == {"darts": (36, 20), "s1": (36, 20), "s2": (16, 20), "s3": (36, 20), "s4": (16, 20)}
    only_sep = uniform("sep_conv_3x3")
    with torch.device("meta"):
        counts = {name: parameters(SPACES[name].build(only_sep)) for name in ("darts", "s2", "s3", "s4")}
        narrow = parameters(DARTS().build(only_sep, channels=16))
    assert counts["darts"] == counts["s3"] > counts["s2"] == counts["s4"] == narrow


# --- the network, once more, as functions of a list of weights


def network_again(arch: Genotype, weights: Iterator[Tensor], x: Tensor, layers: int) -> Tensor:
    def conv(x, **options):
        return F.conv2d(x, next(weights), **options)

    def bn(x):
        return F.batch_norm(x, None, None, next(weights), next(weights), training=True)

    def squeeze(x):
        return bn(conv(F.relu(x)))

    def factorised(x):
        x = F.relu(x)
        return bn(torch.cat([conv(x, stride=2), conv(x[..., 1:, 1:], stride=2)], 1))

    def depthwise(x, kernel, stride, dilation):
        pad = (kernel + (kernel - 1) * (dilation - 1)) // 2
        x = conv(F.relu(x), stride=stride, padding=pad, dilation=dilation, groups=x.shape[1])
        return bn(conv(x))

    def apply(op, x, stride):
        if op == "none":
            return 0 * x[..., ::stride, ::stride]
        if op == "max_pool_3x3":
            return F.max_pool2d(x, 3, stride, 1)
        if op == "avg_pool_3x3":  # the mean over the pixels that exist
            ones = torch.ones_like(x)
            return F.avg_pool2d(x, 3, stride, 1) / F.avg_pool2d(ones, 3, stride, 1)
        if op == "skip_connect":
            return x if stride == 1 else factorised(x)
        kernel = int(op[-1])
        if op.startswith("dil"):
            return depthwise(x, kernel, stride, 2)
        return depthwise(depthwise(x, kernel, stride, 1), kernel, 1, 1)

    reductions = {layers // 3, 2 * layers // 3}
    before = last = bn(conv(x, padding=1))
    for i in range(layers):
        nodes = [factorised(before) if i - 1 in reductions else squeeze(before), squeeze(last)]
        pairs = arch.reduce if i in reductions else arch.normal
        for first, second in zip(pairs[::2], pairs[1::2], strict=True):
            ends = [apply(op, nodes[j], 2 if i in reductions and j < 2 else 1) for op, j in (first, second)]
            nodes.append(sum(ends))
        before, last = last, torch.cat(nodes[2:], 1)
    return F.linear(last.mean((2, 3)), next(weights), next(weights))


@pytest.mark.parametrize("seed", range(6))
def test_network_equals_an_independent_definition(seed):
    rng = np.random.default_rng(seed)
    pairs = [tuple((OPS[rng.integers(8)], int(rng.integers(2 + k // 2))) for k in range(8)) for _ in KINDS]  # as SWAP draws
    arch = Genotype(*pairs)
    layers = (3, 4, 5, 6, 8, 1)[seed]
    torch.manual_seed(seed)
    network = DARTS().build(arch, channels=4, layers=layers).double()
    with torch.no_grad():
        for p in network.parameters():  # so that every norm's scale and shift count
            p.add_(0.1 * torch.randn_like(p))
    x = torch.randn(3, 3, 16, 16).double()
    weights = iter(network.parameters())
    torch.testing.assert_close(network(x), network_again(arch, weights, x, layers))
    assert next(weights, None) is None


# --- strings


@pytest.mark.parametrize("text", [DARTS_V1, DARTS_V2, P_DARTS, PC_DARTS])
def test_print_and_parse(text):
    arch = DARTS().parse(text)
    plain = text.replace("[2, 3, 4, 5]", "range(2, 6)").replace("),(", "), (").replace("',0", "', 0")
    assert str(arch) == plain
    assert DARTS().parse(str(arch)) == arch
    assert len({arch, DARTS().parse(plain)}) == 1
    pairs = [(op, int(source)) for op, source in re.findall(r"\('(\w+)', ?(\d)\)", text)]
    assert list(arch.normal + arch.reduce) == pairs


@needs_tables
def test_the_thousand_published_cells():
    texts = pd.read_csv(tables() / "darts1000_swap.csv").genotype
    archs = [DARTS().parse(text) for text in texts]
    assert len(set(archs)) == 1000
    assert all(str(arch).replace("range(2, 6)", "[2, 3, 4, 5]") == text for arch, text in zip(archs, texts, strict=True))
    assert all(DARTS().parse(str(arch)) == arch for arch in archs)
    twice = [any(a[1] == b[1] for a, b in zip(arch.normal[::2], arch.normal[1::2], strict=True)) for arch in archs]
    assert sum(twice) == 811


@needs_tables
def test_published_cells_of_s1_to_s4_lie_in_their_space():
    found = pd.concat([pd.read_csv(tables() / f"robustdarts_{name}.csv") for name in ("evaluated", "searches")])
    found = found[found.genotype.notna()]
    assert Counter(found.space) == {"s1": 104 + 9, "s2": 9, "s3": 104 + 9, "s4": 8}
    for row in found.itertuples():
        arch = SPACES[row.space].parse(row.genotype)
        assert SPACES[row.space].parse(str(arch)) == arch
        assert str(arch).replace("range(2, 6)", "[2, 3, 4, 5]") == row.genotype


@needs_tables
def test_operators_of_every_edge():
    facts = json.loads((tables() / "robustdarts_spaces.json").read_text())
    edges = facts["edge_order_source_target"]
    for name, space in SPACES.items():
        fact = facts["spaces"]["darts_original" if name == "darts" else name]
        for kind in KINDS:
            expected = fact[kind] if fact["per_edge"] else [fact[kind]] * len(edges)
            for (source, target), ops in zip(edges, expected, strict=True):
                assert sorted(space.allowed(kind, source, target)) == sorted(ops)


BAD = {
    "unknown operator": (
        ("sep_conv_3x3', 1), ('skip", "sep_conv_9x9', 1), ('skip"),
        r"normal, node 4.*'sep_conv_9x9'.*unknown",
    ),
    "noise": (("('dil_conv_3x3', 2)", "('noise', 2)"), r"'noise' is not allowed.*in space darts"),
    "source not earlier": (("('dil_conv_3x3', 2)", "('dil_conv_3x3', 5)"), r"normal, node 5: \('dil_conv_3x3', 5\).*0 to 4"),
    "negative source": (("('dil_conv_3x3', 2)", "('dil_conv_3x3', -1)"), r"normal, node 5: \('dil_conv_3x3', -1\).*0 to 4"),
    "source of another type": (("('dil_conv_3x3', 2)", "('dil_conv_3x3', True)"), r"True"),
    "seven edges": ((", ('dil_conv_3x3', 2)", ""), r"normal has 7 edges, not 8"),
    "nine edges": (("('dil_conv_3x3', 2)", "('dil_conv_3x3', 2), ('none', 0)"), r"normal has 9 edges, not 8"),
    "a triple": (("('dil_conv_3x3', 2)", "('dil_conv_3x3', 2, 1)"), r"pairs.*\('dil_conv_3x3', 2, 1\)"),
    "a name": (("('dil_conv_3x3', 2)", "(dil_conv_3x3, 2)"), r"pairs.*\(dil_conv_3x3, 2\)"),
    "another concatenation": (("normal_concat=[2, 3, 4, 5]", "normal_concat=[3, 4, 5]"), r"normal_concat.*\[3, 4, 5\]"),
    "a field missing": ((", reduce_concat=[2, 3, 4, 5]", ""), r"fields .*reduce_concat"),
    "a field twice": (("normal_concat", "reduce_concat"), r"fields .*each once"),
    "another field": (("normal_concat", "normal_cat"), r"fields .*normal_cat"),
    "another call": (("Genotype", "Phenotype"), r"Phenotype.*not of the form"),
    "torn off": (("reduce_concat=[2, 3, 4, 5])", ""), r"not of the form"),
}


@pytest.mark.parametrize("case", BAD)
def test_errors_name_the_bad_part_and_show_a_good_string(case):
    (old, new), message = BAD[case]
    text = DARTS_V2.replace(old, new, 1)
    assert text != DARTS_V2
    with pytest.raises(ValueError, match=message) as caught:
        DARTS().parse(text)
    good = str(caught.value).split("a good one is ")[1]
    assert str(DARTS().parse(good)) == good


@pytest.mark.parametrize("text", ["", "Genotype", "Genotype()", "-" * 100_000 + "1", "[" * 5_000, "\0", "|none~0|"])
def test_other_text_is_refused(text):
    with pytest.raises(ValueError, match=r"not of the form|has the fields"):
        DARTS().parse(text)


def test_nothing_in_a_string_is_executed(tmp_path):
    spy = tmp_path / "spy"
    call = f"open({str(spy)!r}, 'w')"
    for text in (
        call,
        DARTS_V2.replace("[2, 3, 4, 5]", call),
        DARTS_V2.replace("('max_pool_3x3', 0)", call),
        DARTS_V2.replace("('max_pool_3x3', 0)", f"('max_pool_3x3', {call})"),
        DARTS_V2[:-1] + f", **{call})",
    ):
        with pytest.raises(ValueError, match="a good one is"):
            DARTS().parse(text)
    assert not spy.exists()


def test_s1_refuses_an_operator_on_the_wrong_edge():
    arch = S1().sample(np.random.default_rng(0))
    pairs = list(arch.reduce)
    pairs[0] = ("dil_conv_3x3", 0)  # what the edge 1>2 may carry, not 0>2
    wrong = Genotype(arch.normal, tuple(pairs))
    for refuse in (lambda: S1().parse(str(wrong)), lambda: S1().build(wrong, **SMALL)):
        with pytest.raises(
            ValueError, match=r"reduce, node 2: 'dil_conv_3x3' is not allowed.*node 0.*s1.*max_pool_3x3, avg"
        ):
            refuse()
    DARTS().check(wrong)


@pytest.mark.parametrize("name", ["s1", "s2", "s3", "s4"])
def test_two_equal_inputs_are_refused_in_s1_to_s4(name):
    arch = SPACES[name].sample(np.random.default_rng(0))
    wrong = Genotype((arch.normal[0], arch.normal[0], *arch.normal[2:]), arch.reduce)
    with pytest.raises(ValueError, match="normal, node 2: reads node 0 twice"):
        SPACES[name].parse(str(wrong))


# --- sampling


@pytest.mark.parametrize("name", SPACES)
def test_samples_lie_in_the_space(name):
    space, rng = SPACES[name], np.random.default_rng(0)
    for _ in range(200):
        arch = space.sample(rng)
        space.check(arch)
        assert space.parse(str(arch)) == arch
        for kind in KINDS:
            edges = list(arch.edges(kind))
            assert all(op != "none" for _, _, op in edges)
            assert all(a[0] != b[0] and a[1] == b[1] for a, b in zip(edges[::2], edges[1::2], strict=True))
    assert space.sample(np.random.default_rng(3)) == space.sample(np.random.default_rng(3))


def test_sampling_is_uniform():
    rng = np.random.default_rng(0)
    cells = [DARTS().sample(rng) for _ in range(2_000)]
    inputs = Counter(tuple(source for _, source in getattr(arch, kind)[6:]) for arch in cells for kind in KINDS)
    assert len(inputs) == 10  # pairs out of five nodes
    assert stats.chisquare(list(inputs.values())).pvalue > 1e-4
    ops = Counter((arch.normal[0][0], arch.reduce[7][0]) for arch in cells)
    assert len(ops) == 49
    assert stats.chisquare(list(ops.values())).pvalue > 1e-4
    s1 = Counter(arch.normal[:2] for arch in (S1().sample(rng) for _ in range(2_000)))
    assert len(s1) == 4  # node 2 reads both inputs, two operators on each
    assert stats.chisquare(list(s1.values())).pvalue > 1e-4


# --- building


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm", ["bn", "ln", "none"])
@pytest.mark.parametrize("name", SPACES)
def test_forward_and_backward_are_finite(name, norm, activation):
    space = SPACES[name]
    arch = space.sample(np.random.default_rng(sum(map(ord, name + norm + activation))))
    torch.manual_seed(0)
    network = space.build(str(arch), norm, activation, **SMALL)
    logits = network(torch.randn(2, 3, 16, 16))
    assert logits.shape == (2, 10)
    assert logits.isfinite().all()
    F.cross_entropy(logits, torch.tensor([1, 2])).backward()
    grads = [p.grad for p in network.parameters() if p.grad is not None]
    assert all(grad.isfinite().all() for grad in grads)
    assert sum(grad.abs().sum() for grad in grads) > 0
    wanted = {"bn": nn.BatchNorm2d, "ln": rescaling.GroupNorm, "none": nn.Identity}[norm]
    kinds = Counter(type(module) for module in network.modules())
    assert kinds[wanted] > 0
    assert sum(kinds[layer] for layer in (nn.BatchNorm2d, rescaling.GroupNorm) if layer is not wanted) == 0
    assert kinds[{"relu": nn.GELU, "gelu": nn.ReLU}[activation]] == 0


@pytest.mark.parametrize("name", SPACES)
def test_the_seed_decides_the_network(name):
    arch = SPACES[name].sample(np.random.default_rng(1))
    x = torch.randn(2, 3, 16, 16)

    def run(seed, **options):
        torch.manual_seed(seed)
        network = SPACES[name].build(arch, **SMALL, **options)
        return network(x), torch.cat([p.flatten() for p in network.parameters()])

    (y, weights), (again, same), (other, different) = run(0), run(0), run(1)
    assert torch.equal(y, again) and torch.equal(weights, same)
    assert not torch.equal(y, other) and not torch.equal(weights, different)
    assert torch.equal(y, run(0, complete=False)[0])


def test_meta_counts_equal_real_ones():
    rng = np.random.default_rng(0)
    for space in SPACES.values():
        arch = space.sample(rng)
        real = space.build(arch, **SMALL, classes=7, auxiliary=True)
        with torch.device("meta"):
            meta = space.build(arch, **SMALL, classes=7, auxiliary=True)
            logits, extra = meta(torch.empty(2, 3, 32, 32))
        assert [p.shape for p in meta.parameters()] == [p.shape for p in real.parameters()]
        assert logits.shape == extra.shape == (2, 7)


def test_a_network_of_none_knows_nothing_of_its_images():
    torch.manual_seed(0)
    network = DARTS().build(uniform("none"), **SMALL)
    logits = network(torch.randn(3, 3, 16, 16))
    torch.testing.assert_close(logits, network.head[-1].bias.expand(3, 10))


def test_a_network_of_noise_knows_only_the_generator():
    network = S4().build(uniform("noise"), **SMALL)

    def run(seed):
        x = torch.full((3, 3, 16, 16), float(seed))
        torch.manual_seed(0)
        return network(x), network(x)

    (first, second), (again, _) = run(1), run(2)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("stride", [1, 2])
def test_noise_and_none_keep_the_strided_shape(stride):
    x = torch.randn(8, 16, 31, 32, requires_grad=True)
    shape = x[:, :, ::stride, ::stride].shape
    torch.manual_seed(0)
    y = Noise(stride)(x)
    assert y.shape == shape and not y.requires_grad
    assert stats.kstest(y.flatten().numpy(), "norm").pvalue > 1e-4
    torch.manual_seed(0)
    assert torch.equal(Noise(stride)(x.to(memory_format=torch.channels_last)), y)
    assert torch.equal(Zero(stride)(x), torch.zeros(shape))


def test_image_sizes():
    network = DARTS().build(DARTS_V1, **SMALL)
    assert network(torch.randn(2, 3, 20, 24)).shape == (2, 10)
    with pytest.raises(ValueError, match=r"divisible by 4: got \(2, 3, 30, 32\)"):
        network(torch.randn(2, 3, 30, 32))


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ({"channels": 0}, "channels .* got 0"),
        ({"layers": -3}, "layers .* got -3"),
        ({"classes": -1}, "classes .* got -1"),
        ({"drop_path": 1}, "drop_path .* got 1"),
        ({"init": "best"}, "'best'"),
        ({"norm": "batch"}, "'batch'"),
        ({"activation": "step"}, "'step'"),
    ],
)
def test_bad_sizes_are_refused(size, message):
    with pytest.raises(ValueError, match=message):
        DARTS().build(DARTS_V1, **{**SMALL, **size})


# --- training: auxiliary head and drop path


def test_the_auxiliary_head_speaks_only_in_training():
    torch.manual_seed(0)
    network = DARTS().build(DARTS_V2, channels=4, layers=6, auxiliary=True)
    x = torch.randn(2, 3, 32, 32)
    logits, extra = network(x)
    assert logits.shape == extra.shape == (2, 10)
    extra.sum().backward()
    reached = [any(p.grad is not None for p in cell.parameters()) for cell in network.cells]
    assert reached == [True, True, True, True, True, False]  # it sits behind the second reduction cell, number 4
    assert network.eval()(x).shape == (2, 10)
    with pytest.raises(ValueError, match=r"8x8 maps.*got \(4, 4\)"):
        network.train()(torch.randn(2, 3, 16, 16))


def test_drop_path_drops_whole_images_and_keeps_the_mean():
    torch.manual_seed(0)
    n, p = 4_000, 0.2
    x = torch.rand(n, 2, 3, 3) + 1
    y = drop_path(x, p)
    gone = (y == 0).flatten(1)
    assert (gone.all(1) == gone.any(1)).all()
    assert stats.binomtest(int(gone.all(1).sum()), n, p).pvalue > 1e-4
    kept = ~gone.all(1)
    torch.testing.assert_close(y[kept], x[kept] / (1 - p))


def test_drop_path_spares_identity_edges():
    torch.manual_seed(0)
    cell = DARTS().build(uniform("skip_connect"), "none", **SMALL).cells[0].train()  # a normal cell
    before, last = torch.rand(2, 8, 12, 5, 5)
    assert torch.equal(cell(before, last, 0.9), cell(before, last, 0.0))


def test_drop_path_follows_the_attribute_and_the_mode():
    torch.manual_seed(0)
    network = DARTS().build(DARTS_V2, "ln", **SMALL, drop_path=0.5)
    x = torch.randn(4, 3, 16, 16)
    assert not torch.equal(network(x), network(x))
    assert torch.equal(network.eval()(x), network.eval()(x))
    still = network(x)
    network.train().drop_path = 0.0
    assert torch.equal(network(x), still)


# --- counting and drawing


def test_convolutions_are_those_of_the_cells():
    assert DARTS().convolutions(DARTS().parse(DARTS_V2)) == 5 * 4 + 2
    rng = np.random.default_rng(0)
    for space in SPACES.values():
        for _ in range(2):
            arch = space.sample(rng)
            with torch.device("meta"):
                network = space.build(arch, **SMALL)
            chosen = 0
            for cell in network.cells[:2]:  # a normal and a reduction cell
                modules = [m for edge in cell.edges if not isinstance(edge, FactorizedReduce) for m in edge.modules()]
                chosen += sum(isinstance(module, nn.Conv2d) for module in modules)
            assert space.convolutions(arch) == chosen


@pytest.mark.parametrize("kind", KINDS)
def test_drawing_shows_every_edge(kind, monkeypatch):
    drawn = []
    original = drawing.cell

    def spy(ax, edges, nodes, title=""):
        drawn.append((Counter(edges), title))
        original(ax, edges, nodes, title)

    monkeypatch.setattr(drawing, "cell", spy)
    arch = DARTS().parse(re.sub(r"\('(dil_conv_3x3|skip_connect)', 2\)", "('none', 2)", DARTS_V2))
    figure, ax = plt.subplots()
    DARTS().draw_cell(arch, kind, ax)
    edges, title = drawn[0]
    pairs = getattr(arch, kind)
    joined = Counter((node, 6, "") for node in range(2, 6))
    assert edges - joined == Counter((source, 2 + k // 2, op) for k, (op, source) in enumerate(pairs) if op != "none")
    assert title.startswith({"normal": "normal", "reduce": "reduction"}[kind])
    DARTS().draw(arch, ax)
    assert drawn[1][1] == "normal cell"
    with pytest.raises(ValueError, match="'both'"):
        DARTS().draw_cell(arch, "both", ax)
    plt.close(figure)
