"""SAM: the share kept, what a draw is shared by, independence of layout and of other layers; what masked codes can score."""

from functools import partial
from itertools import product
import math

from hypothesis import given
from hypothesis import strategies as st
import pytest
import torch
from torch import nn
from untouched import assert_same, snapshot

import ncdlib
from ncdlib import masking, theory
from ncdlib.proxies import activation


@given(st.floats(0.01, 0.99), st.integers(0, 10**6))
def test_keeps_its_share_within_the_binomial_interval(alpha, seed):
    n = 200_000
    mask = masking.bernoulli((n,), 1 - alpha, torch.Generator().manual_seed(seed), torch.float32)
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    deviation = math.sqrt(n * alpha * (1 - alpha))
    assert abs(mask.sum().item() - n * (1 - alpha)) < 6 * deviation


@pytest.mark.parametrize(("alpha", "kept"), [(1e-9, 1), (1e-5, 1), (1 - 1e-9, 0)])
def test_a_share_near_its_bounds_masks_almost_nothing_or_almost_all(alpha, kept):
    mask = masking.bernoulli((200_000,), 1 - alpha, torch.Generator().manual_seed(0), torch.float32)
    assert mask.mean().item() == pytest.approx(kept, abs=1e-4)


def test_draws_are_independent_of_their_neighbours():
    mask = masking.bernoulli((400_000,), 0.3, torch.Generator().manual_seed(0), torch.float64)
    for lag in (1, 2, 3, 4, 8, 64):  # four draws come from one number
        together = (mask[lag:] * mask[:-lag]).mean().item()
        assert together == pytest.approx(0.09, abs=6 * math.sqrt(0.09 * 0.91 / 400_000))


@pytest.mark.parametrize(
    ("kind", "distinct"),
    [("sample", 4 * 3 * 5 * 6), ("shared", 3 * 5 * 6), ("channel", 4 * 3), ("channel_shared", 3)],
)
def test_a_draw_is_shared_as_its_kind_says(kind, distinct):
    x = torch.ones(4, 3, 5, 6)
    drawn = set()
    for seed in range(60):  # entries that share a draw agree under every seed
        drawn.add(tuple(masking.masked(x, 0.5, kind, torch.Generator().manual_seed(seed)).flatten().tolist()))
    signatures = {signature for signature in zip(*drawn, strict=True)}
    assert len(signatures) == distinct


def test_kinds_on_the_input_of_a_linear_layer():
    x = torch.ones(4, 7, 10)
    generator = torch.Generator().manual_seed(0)
    shared = masking.masked(x, 0.5, "shared", generator, channels_last=True)
    assert (shared == shared[:1]).all() and not (shared == shared[:, :1]).all()
    channel = masking.masked(x, 0.5, "channel", generator, channels_last=True)
    assert (channel == channel[:, :1]).all() and not (channel == channel[:1]).all()
    assert masking.masked(x, 0.5, "channel_shared", generator, channels_last=True).unique(dim=0).shape[0] == 1


@pytest.mark.parametrize("kind", masking.KINDS)
def test_layout_does_not_change_the_mask_and_nothing_is_scaled(kind):
    x = torch.randn(4, 6, 8, 8)
    plain = masking.masked(x, 0.4, kind, torch.Generator().manual_seed(1))
    last = masking.masked(x.contiguous(memory_format=torch.channels_last), 0.4, kind, torch.Generator().manual_seed(1))
    assert torch.equal(plain, last)
    assert ((plain == x) | (plain == 0)).all()


def test_masks_the_input_of_every_convolution_and_linear_layer():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, 4, 2), nn.Flatten(), nn.Linear(196, 5))
    seen = {}
    with masking.sam(model, 0.5, seed=2):
        for i in (0, 2, 4):  # these hooks come after the mask's
            model[i].register_forward_pre_hook(
                lambda m, inputs, i=i: seen.update({i: (inputs[0] == 0).float().mean().item()})
            )
        model(torch.ones(16, 3, 8, 8))
    assert seen[0] == pytest.approx(0.5, abs=0.1)
    assert seen[2] > 0.5 and seen[4] == pytest.approx(0.5, abs=0.1)


def test_a_layers_mask_does_not_depend_on_the_layers_that_run_before():
    class Either(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(50, 50), nn.Linear(50, 50)

        def forward(self, x, first=True):
            return self.b(x) if not first else self.b(x) + 0 * self.a(x)

    model, x = Either(), torch.ones(3, 50)
    with masking.sam(model, 0.5):
        alone = model(x, first=False)
    with masking.sam(model, 0.5):
        after = model(x, first=True)
        again = model(x, first=False)
    assert torch.equal(alone, after)
    assert not torch.equal(after, again)  # a further call draws a further mask


def attention_by_hand(m, q, k, v, heads_mask):
    """Multi-head attention of batch-first inputs by its definition, its output masked before the last projection."""
    weights, biases = m.in_proj_weight.chunk(3), m.in_proj_bias.chunk(3)
    split = [
        (x @ w.T + b).unflatten(-1, (m.num_heads, -1)).transpose(1, 2)
        for x, w, b in zip((q, k, v), weights, biases, strict=True)
    ]
    attended = torch.softmax(split[0] @ split[1].mT / math.sqrt(m.head_dim), -1) @ split[2]
    return heads_mask(attended.transpose(1, 2).flatten(2)) @ m.out_proj.weight.T + m.out_proj.bias


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("kind", ["sample", "shared"])
def test_masks_the_inputs_of_all_projections_of_an_attention(training, batch_first, own, kind):
    torch.manual_seed(0)
    m = nn.MultiheadAttention(8, 2, batch_first=batch_first).train(training)
    q = torch.randn(4, 5, 8)
    k, v = (q, q) if own else torch.randn(2, 4, 5, 8)
    inputs = (q, k, v) if batch_first else (q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1))
    if not batch_first and own:
        inputs = inputs[:1] * 3
    before = snapshot(m)
    with torch.no_grad(), masking.sam(m, 0.5, kind, seed=3):
        output, _ = m(*inputs[:2], value=inputs[2])
    assert_same(before, snapshot(m))

    def generator(index):
        return torch.Generator().manual_seed(3 * 1_000_003 + index)

    drawn = generator(1)  # one layer, its output projection, comes before
    masks = {id(x): masking.masked(x, 0.5, kind, drawn, channels_last=True) for x in ((q,) if own else (q, k, v))}
    heads = partial(masking.masked, alpha=0.5, kind=kind, generator=generator(0), channels_last=True)
    expected = attention_by_hand(m, *(masks[id(x)] for x in (q, k, v)), heads)
    torch.testing.assert_close(output if batch_first else output.transpose(0, 1), expected)


def test_an_attention_that_fails_is_left_as_it_was():
    model = nn.TransformerEncoderLayer(8, 2, 16, activation=nn.ReLU(), batch_first=True)
    x = torch.randn(2, 3, 7)
    before = snapshot(model)
    with pytest.raises(AssertionError, match="embedding dimension of 8, but got 7"), masking.sam(model.self_attn, 0.5):
        model.self_attn(x, x, x)
    assert_same(before, snapshot(model))


def test_gradients_reach_the_weights_of_a_masked_attention():
    model = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, activation=nn.ReLU(), batch_first=True), nn.Flatten())
    before = snapshot(model)
    scores = [
        ncdlib.score(model, torch.ones(3, 4, 8), "snip", labels=torch.arange(3), alpha=alpha, seed=seed)
        for alpha, seed in ((0.5, 0), (0.5, 0), (0.5, 1), (0.0, 0))
    ]
    assert scores[0] == scores[1] and len(set(scores)) == 3 and all(map(math.isfinite, scores))
    assert_same(before, snapshot(model))


def test_alpha_zero_is_no_mask_and_the_seed_decides_the_rest():
    model = nn.Sequential(nn.Linear(30, 30), nn.ReLU())
    x = torch.randn(6, 30)
    with masking.sam(model, 0.0):
        assert torch.equal(model(x), model(x))
    scores = [ncdlib.score(model, x, "nwot", alpha=0.3, seed=seed) for seed in (0, 0, 1)]
    assert scores[0] == scores[1] != scores[2]


@pytest.mark.parametrize("alpha", [1, 1.0, -0.1, 1.5, math.nan, math.inf, "0.5", None, True])
def test_bad_alpha(alpha):
    with pytest.raises(ValueError, match="alpha is the share of inputs masked.*got"):
        masking.check(alpha, "sample")


def test_bad_kind():
    with pytest.raises(ValueError, match="unknown mask 'pixel': use one of sample, shared, channel, channel_shared"):
        masking.check(0.5, "pixel")


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize(("kernel", "padding", "stride"), [(1, 0, 1), (1, 0, 2), (3, 1, 1), (3, 1, 2), (5, 0, 3)])
def test_reading_the_kept_channels_is_masking_the_others(kernel, padding, stride, rows, layout):
    torch.manual_seed(0)
    x = torch.randn(4, 6, 9, 7, dtype=torch.float64).contiguous(memory_format=layout)
    weight = torch.randn(5, 6, kernel, kernel, dtype=torch.float64)
    for k in (1, 2, 6):
        kept = torch.stack([torch.randperm(6)[:k] for _ in range(rows)])
        mask = torch.zeros(rows, 6, 1, 1, dtype=torch.float64)
        for row, channels in zip(mask, kept, strict=True):
            row[channels] = 1
        ours = theory.kept_channels_conv2d(x, weight, kept, padding, stride)
        torch.testing.assert_close(ours, nn.functional.conv2d(x * mask, weight, None, stride, padding))


def test_kept_channels_need_a_row_an_image():
    with pytest.raises(ValueError, match="one row, or one for each of the 4 images: got 3"):
        theory.kept_channels_conv2d(torch.ones(4, 6, 8, 8), torch.ones(5, 6, 3, 3), torch.zeros(3, 2, dtype=torch.long))


@pytest.mark.parametrize("images", [2, 3, 4, 5])
def test_the_maximum_of_nwot_is_that_of_all_balanced_codes_and_no_codes_exceed_it(images):
    half = images // 2
    balanced = [bits for bits in product((0, 1), repeat=images) if sum(bits) == half]
    best = torch.tensor(balanced, dtype=torch.int8).T.contiguous()  # each unit fires for half of the images
    assert activation.hamming(best) == pytest.approx(theory.largest_distance(images))
    assert activation.nwot(best) == pytest.approx(theory.nwot_maximum(best.shape[1], images))
    torch.manual_seed(0)
    for units in (3, 6, 40):
        for chance in (0.1, 0.5):
            codes = (torch.rand(images, units) < chance).to(torch.int8)
            found, distance = activation.nwot(codes), activation.hamming(codes)
            assert distance <= theory.largest_distance(images) + 1e-12
            if math.isfinite(found):
                assert found <= theory.nwot_maximum(units, images, distance) + 1e-9
                assert found <= theory.nwot_maximum(units, images) + 1e-9
    assert theory.nwot_maximum(10, images, 0.0) == -math.inf


def test_independent_fair_codes_come_near_the_maximum_of_nwot():
    codes = torch.randint(0, 2, (16, 200_000), generator=torch.Generator().manual_seed(0)).to(torch.int8)
    assert activation.nwot(codes) == pytest.approx(theory.nwot_maximum(200_000, 16, 0.5), abs=0.02)
