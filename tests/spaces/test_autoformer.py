"""The AutoFormer spaces against OoD-ViT-NAS's counts, torch's own encoder, and relative attention as a double loop."""

import json
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

from ncdlib import activations, masking
from ncdlib.spaces import drawing
from ncdlib.spaces.autoformer import CHOICES, Attention, AutoFormer, Block, Grid, RelativePosition, ViT, native

SPACES = {size: AutoFormer(size) for size in CHOICES}
TINY = SPACES["tiny"]
DATA = os.environ.get("NCDLIB_DATA_DIR")
needs_data = pytest.mark.skipif(DATA is None, reason="NCDLIB_DATA_DIR names no folder with the benchmark's tables")


@pytest.fixture(scope="module")
def table():
    return pd.read_csv(Path(DATA).parent / "ood_vit_nas_autoformer.csv")


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def on_meta(space, arch, **options):
    with torch.device("meta"):
        return space.build(arch, **options)


def row_text(row):
    return native(row.depth, row.embed_dim, row.num_heads, row.mlp_ratio)


# the benchmark's counts


@needs_data
@pytest.mark.parametrize("size", CHOICES)
def test_parameters_of_all_1001_networks_to_the_printed_digit(size, table):
    space, fixed, of_block = SPACES[size], {}, {}
    for embed in space.choices.embed:  # every block that the space can choose, counted in a built network
        pairs = [(h, r) for h in space.choices.heads for r in space.choices.ratio]
        pairs += pairs[:1] * (space.choices.depth[0] - len(pairs))
        network = on_meta(space, ViT(embed, *map(tuple, zip(*pairs, strict=True))))
        fixed[embed] = parameters(network) - parameters(network.blocks)
        of_block |= {(embed, *pair): parameters(block) for pair, block in zip(pairs, network.blocks, strict=True)}
    rows = table[table.supernet == size]
    assert len(rows) == 1001
    for row in rows.itertuples():
        arch = space.parse(row_text(row))
        counted = fixed[arch.embed] + sum(of_block[arch.embed, h, r] for h, r in zip(arch.heads, arch.ratios, strict=True))
        assert counted == round(row.params_m * 1e6)


@needs_data
@pytest.mark.parametrize("size", CHOICES)
def test_parameters_of_whole_networks_and_what_their_flops_count(size, table):
    for row in table[table.supernet == size].sample(12, random_state=0).itertuples():
        network = on_meta(SPACES[size], row_text(row))
        assert parameters(network) == round(row.params_m * 1e6)

        tokens, embed = 198, row.embed_dim  # one token more than there are, in every block
        flops = 196 * network.patch.weight.numel() + embed + 197 * embed / 2 + 197 * network.head.weight.numel()
        for block, heads in zip(network.blocks, map(int, row.num_heads.split("-")), strict=True):
            width = 64 * heads
            linear = sum(m.weight.numel() for m in block.modules() if isinstance(m, nn.Linear))
            relative = 2 * 14 * tokens**2 + tokens**2 / 2 + tokens * width / 2
            flops += tokens * (linear + 2 * embed) + 2 * tokens**2 * width + relative
        assert flops == pytest.approx(row.flops_m * 1e6, rel=5e-8)  # eight digits are printed


@needs_data
@pytest.mark.parametrize("size", CHOICES)
def test_our_multiply_adds_come_near_their_flops(size, table):
    for row in table[table.supernet == size].sample(3, random_state=0).itertuples():
        network = on_meta(SPACES[size], row_text(row))
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, 3, 224, 224, device="meta"))
        assert 1.01 < counter.get_total_flops() / 2e6 / row.flops_m < 1.06


@needs_data
def test_every_row_of_the_table_and_of_the_raw_files_is_read_and_printed(table):
    for size, space in SPACES.items():
        rows = list(table[table.supernet == size].itertuples())
        archs = [space.parse(row_text(row)) for row in rows]
        assert [str(arch) for arch in archs] == [row_text(row) for row in rows]
        assert [arch.depth for arch in archs] == [row.depth for row in rows]
        networks = json.loads((Path(DATA) / f"ood-vit-nas_{size}.json").read_text()).values()
        raw = [network["net_setting"] for network in networks]
        texts = {native(s["layer_num"], s["embed_dim"][0], s["num_heads"], s["mlp_ratio"]) for s in raw}
        assert texts == {str(arch) for arch in archs}


# the network against independent definitions


@pytest.mark.parametrize(("side", "heads"), [(3, 3), (16, 1)])  # 16 rows are up to 15 apart: beyond the greatest distance
def test_relative_attention_is_the_double_loop_over_tokens(side, heads):
    torch.manual_seed(side)
    attention = Attention(8, heads, Grid(side))
    for p in attention.parameters():
        nn.init.normal_(p, std=0.3)
    x = torch.randn(2, 1 + side**2, 8)

    def position(i, j, table):  # what token j is to token i; token 0 is the class token
        if i == 0 or j == 0:
            return table.vertical[0] + table.horizontal[0]
        (r, c), (k, m) = divmod(i - 1, side), divmod(j - 1, side)
        return table.vertical[15 + max(-14, min(14, k - r))] + table.horizontal[15 + max(-14, min(14, m - c))]

    width, tokens = 64 * heads, range(1 + side**2)
    with torch.no_grad():
        q, k, v = ((x @ w.T + b).view(2, -1, heads, 64) for w, b in _thirds(attention.qkv, width))
        out = torch.empty(2, len(tokens), heads, 64)
        for i in tokens:
            keys, values = (torch.stack([position(i, j, t) for j in tokens]) for t in (attention.keys, attention.values))
            for head in range(heads):
                logits = (q[:, i, head, None] * (k[:, :, head] + keys)).sum(-1) / 8
                out[:, i, head] = (logits.softmax(1)[..., None] * (v[:, :, head] + values)).sum(1)
        expected = F.linear(out.flatten(2), attention.proj.weight, attention.proj.bias)
        torch.testing.assert_close(attention(x), expected, rtol=1e-4, atol=1e-4)


def _thirds(layer, width):
    return [(layer.weight[i * width : (i + 1) * width], layer.bias[i * width : (i + 1) * width]) for i in range(3)]


def test_without_relative_positions_a_network_is_torchs_encoder_on_patches():
    torch.manual_seed(0)
    arch = ViT(192, (3,) * 12, (3.5,) * 12)  # 3 heads of 64 fill the embedding, as torch's encoder has it
    network = TINY.build(arch, image=64, classes=7)
    for table in (m for m in network.modules() if isinstance(m, RelativePosition)):
        nn.init.zeros_(table.vertical)
        nn.init.zeros_(table.horizontal)
    x = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        corners = [(i, j) for i in range(0, 64, 16) for j in range(0, 64, 16)]
        patches = torch.stack([x[:, :, i : i + 16, j : j + 16].flatten(1) for i, j in corners], 1)
        patches = patches @ network.patch.weight.flatten(1).T + network.patch.bias
        y = torch.cat([network.class_token.repeat(3, 1, 1), patches], 1) + network.position
        for block in network.blocks:
            layer = nn.TransformerEncoderLayer(192, 3, 672, 0.0, F.gelu, norm_first=True, batch_first=True)
            attention, theirs = block.attention, layer.self_attn
            pairs = [
                (theirs.in_proj_weight, attention.qkv.weight), (theirs.in_proj_bias, attention.qkv.bias),
                (theirs.out_proj.weight, attention.proj.weight), (theirs.out_proj.bias, attention.proj.bias),
                (layer.linear1.weight, block.fc1.weight), (layer.linear1.bias, block.fc1.bias),
                (layer.linear2.weight, block.fc2.weight), (layer.linear2.bias, block.fc2.bias),
            ]  # fmt: skip
            for target, source in pairs:
                target.copy_(source)
            y = layer(y)
        y = F.layer_norm(y, (192,), network.norm.weight, network.norm.bias)
        expected = y[:, 1:].mean(1) @ network.head.weight.T + network.head.bias
        torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-5)


def test_relative_positions_make_attention_see_order():
    torch.manual_seed(0)
    block, tokens = Block(192, 3, 4, Grid(3), "gelu"), torch.randn(2, 10, 192)
    for p in block.parameters():
        nn.init.normal_(p, std=0.1)
    order = torch.tensor([0, 2, 1, 3, 4, 5, 6, 7, 8, 9])  # two patches change places
    assert not torch.allclose(block(tokens[:, order]), block(tokens)[:, order], atol=1e-3)
    for name, p in block.named_parameters():
        if "vertical" in name or "horizontal" in name:
            nn.init.zeros_(p)
    torch.testing.assert_close(block(tokens[:, order]), block(tokens)[:, order], rtol=1e-4, atol=1e-4)


def test_codes_are_taken_at_the_mlps_and_masks_reach_every_linear_layer():
    torch.manual_seed(0)
    arch = TINY.sample(np.random.default_rng(0))
    network, x = TINY.build(arch, image=32, classes=5), torch.randn(2, 3, 32, 32)
    masked = []
    for module in network.modules():
        if isinstance(module, masking.LAYERS):
            module.register_forward_pre_hook(lambda layer, inputs: masked.append(layer))
    with torch.no_grad(), activations.record_codes(network, [lambda code: code.shape[1]], n=2) as layers:
        plain = network(x)
        assert [layer.summaries[0] for layer in layers] == [5 * int(arch.embed * ratio) for ratio in arch.ratios]
        assert len(masked) == len(set(masked)) == 2 + TINY.convolutions(arch)  # patch embedding and head are fixed
    with torch.no_grad(), masking.sam(network, 0.5):
        assert not torch.allclose(network(x), plain)


# initialisation


def test_published_initialisation():
    torch.manual_seed(0)
    network = TINY.build(TINY.example, image=64)
    for name, p in network.named_parameters():
        if "norm" in name:
            assert (p == float(name.endswith("weight"))).all()
        elif name.startswith("patch"):
            assert (
                p.abs().max() <= 768**-0.5 and p.abs().max() > 0.9 * 768**-0.5
            )  # PyTorch's own: uniform, fan-in 3 * 16 * 16
        elif name.endswith("bias"):
            assert (p == 0).all()
        else:  # standard error of a standard deviation: 0.02 / sqrt(2 n)
            assert p.std().item() == pytest.approx(0.02, abs=5 * 0.02 / (2 * p.numel()) ** 0.5)
            assert abs(p.mean().item()) < 5 * 0.02 / p.numel() ** 0.5


@pytest.mark.parametrize(("init", "std"), [("default", (3 * 192) ** -0.5), ("kaiming", (2 / 192) ** 0.5), ("normal", 1.0)])
def test_common_initialisations_keep_their_meaning(init, std):
    torch.manual_seed(0)
    network = TINY.build(TINY.example, init=init, image=64)
    assert network.blocks[0].attention.qkv.weight.std().item() == pytest.approx(std, rel=0.02)
    assert (network.head.bias == 0).all() == (init != "default")
    assert network.position.std().item() == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize("init", ["vit", "default", "kaiming", "normal"])
def test_the_seed_decides_the_network(init):
    def weights(seed):
        torch.manual_seed(seed)
        network = TINY.build(TINY.example, init=init, image=32, classes=10)
        return torch.cat([p.flatten() for p in network.parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


# strings, samples, options


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), size=st.sampled_from(list(CHOICES)))
def test_samples_are_inside_and_read_back(seed, size):
    space, rng = SPACES[size], np.random.default_rng(seed)
    arch, allowed = space.sample(rng), CHOICES[size]
    assert space.sample(np.random.default_rng(seed)) == arch
    assert arch.depth in allowed.depth and arch.embed in allowed.embed
    assert len(arch.heads) == len(arch.ratios) == arch.depth
    assert set(arch.heads) <= set(allowed.heads) and set(arch.ratios) <= set(allowed.ratio)
    assert space.parse(str(arch)) == arch and hash(space.parse(str(arch))) == hash(arch)


def test_sampling_reaches_every_choice_evenly():
    rng = np.random.default_rng(0)
    archs = [SPACES["small"].sample(rng) for _ in range(600)]
    for values in (
        [a.depth for a in archs],
        [a.embed for a in archs],
        [a.heads[0] for a in archs],
        [a.ratios[11] for a in archs],
    ):
        counts = np.unique(values, return_counts=True)[1]
        assert len(counts) == 3
        assert ((counts - 200) ** 2 / 200).sum() < 18.4  # chi-squared with 2 degrees of freedom, p = 1e-4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("12_192_3_4", "depth 12 asks for 12 values of heads, got 1"),
        (TINY.example.replace("12_", "13_", 1), "depth 13 asks for 13 values of heads, got 12"),
        (TINY.example + "-4", "depth 12 asks for 12 values of ratio, got 13"),
        (TINY.example.replace("12_", "15_", 1), "depth must be one of 12, 13, 14 in autoformer_tiny, got '15'"),
        (TINY.example.replace("_192_", "_320_"), "embed must be one of 192, 216, 240 in autoformer_tiny, got '320'"),
        (TINY.example.replace("_3-", "_5-", 1), "heads must be one of 3, 4 in autoformer_tiny, got '5'"),
        (TINY.example.replace("_3.5-", "_3-", 1), "ratio must be one of 3.5, 4 in autoformer_tiny, got '3'"),
        (TINY.example.replace("_", "-"), "must hold depth, embedding, heads and MLP ratios"),
        ("", "'' must hold depth"),
        (SPACES["base"].example, "in autoformer_tiny, got"),
    ],
)
def test_bad_strings_are_named_and_a_good_one_is_shown(text, said):
    with pytest.raises(ValueError, match=said) as error:
        TINY.parse(text)
    assert TINY.example in str(error.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"norm": "bn"}, "norm 'bn' .* LayerNorm only: use 'ln'"),
        ({"norm": "gn16"}, "norm 'gn16' .* LayerNorm only: use 'ln'"),
        ({"init": "xavier"}, "unknown initialisation 'xavier': use one of vit, default"),
        ({"activation": "swish"}, "unknown activation 'swish'"),
        ({"image": 100}, "multiple of patch = 16, got 100: try 112"),
        ({"patch": 0}, "patch must be .* got 0"),
        ({"classes": -3}, "classes must be .* got -3"),
    ],
)
def test_bad_options_are_named(options, said):
    with pytest.raises(ValueError, match=said):
        TINY.build(TINY.example, **options)


def test_a_network_of_another_space_is_refused():
    with pytest.raises(ValueError, match="depth must be one of 12, 13, 14 in autoformer_tiny, got '16'"):
        TINY.build(ViT(624, (9,) * 16, (4.0,) * 16))
    with pytest.raises(ValueError, match="unknown AutoFormer space 'large': use one of tiny, small, base"):
        AutoFormer("large")
    with pytest.raises(ValueError, match="got 2 heads and 1 ratios"):
        ViT(192, (3, 3), (4.0,))


def test_images_of_another_size_are_refused():
    network = TINY.build(TINY.example, image=32)
    with pytest.raises(ValueError, match="built with image=32, got a batch of shape"):
        network(torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize("size", CHOICES)
@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_forward_and_backward_are_finite(size, activation):
    torch.manual_seed(0)
    network = SPACES[size].build(SPACES[size].example, "ln", activation, image=32, patch=8, classes=6, channels=2)
    out = network(torch.randn(2, 2, 32, 32))
    out.square().sum().backward()
    assert out.shape == (2, 6) and out.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_second_derivatives_exist():
    torch.manual_seed(0)
    network = TINY.build(TINY.example, image=32, classes=4)
    weight = network.blocks[0].attention.keys.vertical
    (first,) = torch.autograd.grad(network(torch.randn(2, 3, 32, 32)).square().sum(), weight, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), weight)
    assert second.isfinite().all() and second.abs().sum() > 0


def test_drawing_has_a_layer_for_each_block(monkeypatch):
    layers, stack = [], drawing.stack
    monkeypatch.setattr(drawing, "stack", lambda ax, blocks, title="": (layers.extend(blocks), stack(ax, blocks, title)))
    ax, arch = Figure().subplots(), TINY.sample(np.random.default_rng(0))
    TINY.draw(arch, ax)
    assert [width for _, width in layers] == [arch.embed, *(arch.embed * ratio for ratio in arch.ratios)]
    assert [label for label, _ in layers[1:]] == [
        f"{h} heads, MLP {r:g}" for h, r in zip(arch.heads, arch.ratios, strict=True)
    ]
    titles = [ax.get_title(loc) for loc in ("left", "center", "right")]  # a style that another test set decides
    assert f"embedding {arch.embed}" in titles
