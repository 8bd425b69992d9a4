"""The theorems: both sides against real layers, plain sums and autograd; spreads and costs against full enumeration."""

import inspect
from itertools import product
import math

from hypothesis import assume, given
from hypothesis import strategies as st
import pytest
from scipy import stats
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from ncdlib import masking, theory

# kernel, padding, stride
LAYERS = [
    (1, 0, 1),
    (1, 0, 2),
    (1, 1, 2),
    (3, 0, 1),
    (3, 1, 1),
    (3, 1, 2),
    (3, 2, 1),
    (5, 0, 2),
    (5, 2, 1),
    (5, 2, 2),
    (5, 4, 3),
]
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


def drawn(c_out, c_in, kernel, padding=0, stride=1, *, bias=False, dtype=torch.float64, size=(6, 9), n=3):
    """Activations after a ReLU, and PyTorch's own convolution to read them."""
    torch.manual_seed(0)
    conv = nn.Conv2d(c_in, c_out, kernel, stride, padding, bias=bias, dtype=dtype).requires_grad_(False)
    return torch.relu(torch.randn(n, c_in, *size, dtype=dtype)), conv


def sides(function, x, conv, **groups):
    return function(x, conv.weight, conv.padding[0], conv.stride[0], conv.bias, **groups)


def agree(pair, expected, tolerance):
    for side in pair:
        torch.testing.assert_close(side, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("kernel", "padding", "stride"), LAYERS)
def test_both_sides_are_the_mean_of_the_layers_output(kernel, padding, stride, bias, dtype):
    x, conv = drawn(6, 4, kernel, padding, stride, bias=bias, dtype=dtype)
    y = conv(x)
    agree(sides(theory.channel_means, x, conv), y.mean((0, 2, 3)), TOLERANCE[dtype])
    agree(sides(theory.image_means, x, conv), y.mean((1, 2, 3)), TOLERANCE[dtype])
    for groups in (1, 2, 3, 6):
        agree(sides(theory.group_means, x, conv, groups=groups), y.reshape(3, groups, -1).mean(2), TOLERANCE[dtype])


@given(
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(1, 3), st.integers(4, 9), st.integers(4, 9)),
    st.integers(0, 3),
    st.integers(1, 4),
)
def test_both_sides_agree_for_any_shape(weight_shape, shape, padding, stride):
    torch.manual_seed(0)
    weight = torch.randn(weight_shape, dtype=torch.float64)
    x = torch.randn(shape[0], weight_shape[1], *shape[1:], dtype=torch.float64)
    for groups in (1, weight_shape[0]):
        pair = theory.group_means(x, weight, padding, stride, groups=groups)
        agree(pair, pair.output, 1e-10)


def test_means_are_those_that_the_normalisation_layers_take():
    x, conv = drawn(6, 4, 3, 1, 2, bias=True)
    y = conv(x)
    batch_norm = nn.BatchNorm2d(6, momentum=1.0, dtype=torch.float64)
    batch_norm(y)
    agree(sides(theory.channel_means, x, conv), batch_norm.running_mean, 1e-10)

    def subtracted(norm, spread):
        return y - norm.double()(y) * (spread + norm.eps).sqrt()

    layer_norm = subtracted(nn.LayerNorm(y.shape[1:]), y.var((1, 2, 3), correction=0, keepdim=True))
    for side in sides(theory.image_means, x, conv):
        assert (layer_norm - side[:, None, None, None]).abs().max() < 1e-10
    for groups in (2, 6):
        variance = y.reshape(3, groups, -1).var(2, correction=0).repeat_interleave(6 // groups, 1)[..., None, None]
        mean = subtracted(nn.GroupNorm(groups, 6), variance)
        for side in sides(theory.group_means, x, conv, groups=groups):
            assert (mean - side.repeat_interleave(6 // groups, 1)[..., None, None]).abs().max() < 1e-10
    channels = sides(theory.group_means, x, conv, groups=6).activations
    agree(sides(theory.channel_means, x, conv), channels.mean(0), 1e-12)
    agree(sides(theory.image_means, x, conv), channels.mean(1), 1e-12)


@given(st.integers(1, 9), st.integers(1, 5), st.integers(0, 4), st.integers(1, 4))
def test_reach_counts_the_positions_that_read_an_input(size, kernel, padding, stride):
    assume(kernel <= size + 2 * padding)
    counts = torch.zeros(kernel, size, dtype=torch.int64)
    for start in range(-padding, size + padding - kernel + 1, stride):
        for d in range(kernel):
            if 0 <= start + d < size:
                counts[d, start + d] += 1
    assert torch.equal(theory.reach(size, kernel, padding, stride).long(), counts)


@pytest.mark.parametrize(("kernel", "padding", "stride"), LAYERS)
def test_weights_of_activations_are_the_gradient_of_the_mean(kernel, padding, stride):
    x, conv = drawn(6, 4, kernel, padding, stride)
    means = conv(x.requires_grad_()).reshape(3, 2, -1).mean(2)[0]  # of one image, two groups
    gradients = torch.stack([torch.autograd.grad(mean, x, retain_graph=True)[0][0] for mean in means])
    torch.testing.assert_close(theory.activation_weights(conv.weight, (6, 9), padding, stride, groups=2), gradients)


def test_the_whole_kernel_weighs_an_activation_inside_and_a_part_of_it_at_the_border():
    weight = torch.randn(4, 2, 3, 3, dtype=torch.float64)
    weights = theory.activation_weights(weight, (5, 7), 1, groups=1)[0] * 35
    torch.testing.assert_close(weights[:, 1:-1, 1:-1], weight.mean(0).sum((1, 2))[:, None, None].expand(2, 3, 5))
    torch.testing.assert_close(weights[:, 0, 0], weight.mean(0)[:, :2, :2].sum((1, 2)))
    torch.testing.assert_close(weights[:, -1, 3], weight.mean(0)[:, 1:].sum((1, 2)))


def proof(x, weight, lower, upper):
    """sum over a, b, c, d, e of x-hat^sum (Eq. 5) of one image, counted from 1 as printed; the number of terms an output."""
    channels, height, width = x.shape
    kernel, total, terms = weight.shape[-1], 0.0, 0
    for a, b, c in product(range(1, height + 1), range(1, width + 1), range(1, channels + 1)):
        for d, e in product(range(lower, upper + 1), repeat=2):
            terms += 1
            u, v = d - math.floor(-kernel / 2), e - math.floor(-kernel / 2)
            if 1 <= u <= kernel and 1 <= v <= kernel and 1 <= a + d <= height and 1 <= b + e <= width:
                total += (weight[:, c - 1, u - 1, v - 1].sum() * x[c - 1, a + d - 1, b + e - 1]).item()
    return total, terms / (channels * height * width)


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_the_printed_proof_holds_once_its_slips_are_mended(kernel):
    x, conv = drawn(4, 3, kernel, kernel // 2, size=(4, 5), n=1)
    mean = conv(x).mean().item()
    total, terms = proof(x[0], conv.weight, -(kernel // 2), kernel // 2)
    assert terms == kernel**2
    assert total / (4 * 4 * 5) == pytest.approx(mean, abs=1e-10)
    assert total / (4 * 5) == pytest.approx(4 * mean, abs=1e-10)  # Eq. 7 as printed: C times too large
    _, terms = proof(x[0], conv.weight, math.floor(-kernel / 2), kernel)
    assert terms == (kernel + math.ceil(kernel / 2) + 1) ** 2 > kernel**2


def test_slips_are_a_table():
    assert len(theory.SLIPS) == len({(slip.place, slip.printed) for slip in theory.SLIPS})
    for slip in theory.SLIPS:
        assert all(text and text.count("$") % 2 == 0 and text.count("{") == text.count("}") for text in slip)
        assert slip.printed != slip.right


@pytest.mark.parametrize(("padding", "stride", "groups"), [(0, 1, 1), (1, 1, 1), (1, 2, 1), (1, 2, 2), (2, 1, 2)])
def test_predicted_spread_is_exact_over_all_weights_of_two_values(padding, stride, groups):
    x = torch.randn(2, 1, 3, 4, dtype=torch.float64)
    squares = []
    for signs in product((-0.7, 0.7), repeat=2 * 2 * 3):  # weights of variance 0.49, all equally likely
        weight = torch.tensor(signs, dtype=torch.float64).reshape(2, 1, 2, 3)
        squares.append(F.conv2d(x, weight, None, stride, padding).reshape(2, groups, -1).mean(2)[:, -1] ** 2)
    predicted = theory.predicted_spread(x, (2, 1, 2, 3), padding, stride, groups=groups, variance=0.49)
    torch.testing.assert_close(predicted, torch.stack(squares).mean(0).sqrt(), rtol=1e-12, atol=0)


@pytest.mark.parametrize(("groups", "draws"), [(1, 1600), (4, 400), (16, 200)])
@pytest.mark.parametrize(("kernel", "padding", "stride"), [(1, 0, 1), (3, 1, 1), (3, 1, 2), (5, 2, 1)])
def test_measured_spread_is_the_predicted_within_its_sampling_error(kernel, padding, stride, groups, draws):
    x, _ = drawn(1, 8, kernel, size=(5, 6), n=2, dtype=torch.float32)
    shape = (16, 8, kernel, kernel)
    measured = theory.measured_spread(
        x, lambda: nn.Conv2d(8, 16, kernel).weight.detach(), draws, padding, stride, groups=groups
    )
    predicted = theory.predicted_spread(x, shape, padding, stride, groups=groups)
    low, high = (math.sqrt(bound / (draws * groups)) for bound in stats.chi2.interval(1 - 1e-4, draws * groups))
    ratio = measured / predicted
    assert high - low < 0.3
    assert ((low < ratio) & (ratio < high)).all()
    members = 16 // groups
    if members > 1:  # without the mean over channels the prediction would be far off
        assert (ratio / math.sqrt(members) < low).all()
    if padding:  # and without the borders too
        everywhere = x.sum((2, 3)) / x[0, 0].numel() * kernel  # each of K^2 offsets taken to read every input
        assert (measured / (everywhere.square().sum(1) / (3 * 8 * kernel**2) / members).sqrt() < low).all()


def test_spread_of_the_batchs_mean_and_the_ratio_of_ln_to_in():
    x, _ = drawn(1, 3, 3, 1, n=4)
    draws = torch.randn(20_000, 3, 3, 3, dtype=torch.float64) * 0.2  # a channel each
    means = theory.channel_means(x, draws, 1).output
    low, high = (math.sqrt(bound / 20_000) for bound in stats.chi2.interval(1 - 1e-4, 20_000))
    predicted = theory.predicted_spread(x.mean(0, keepdim=True), (8, 3, 3, 3), 1, groups=8, variance=0.04).item()
    assert low < means.square().mean().sqrt().item() / predicted < high
    for channels in (16, 32, 64):
        ln, in_ = (theory.predicted_spread(x, (channels, 3, 3, 3), 1, groups=groups) for groups in (1, channels))
        torch.testing.assert_close(ln / in_, torch.full((4,), channels**-0.5, dtype=torch.float64))


@pytest.mark.parametrize(("kernel", "padding", "stride"), LAYERS)
def test_multiplications_are_counted_exactly(kernel, padding, stride):
    x, conv = drawn(6, 4, kernel, padding, stride)
    mask = masking.masked(torch.ones_like(x), 0.7, "sample", torch.Generator().manual_seed(0))

    def windows(values):  # a copy of every input for every window that reads it
        return 6 * int(F.unfold((values != 0).double(), kernel, 1, padding, stride).sum())

    with FlopCounterMode(display=False) as counter:
        y = conv(x)
    kept, left, before = (theory.nonzero_multiplications(v, conv.weight.shape, padding, stride) for v in (mask, x * mask, x))
    assert (kept.nonzero, left.nonzero, before.nonzero) == (windows(mask), windows(x * mask), windows(x))
    assert kept.inside == left.inside == before.inside == windows(torch.ones_like(x))
    assert kept.total == counter.get_total_flops() // 2 == theory.cost(kernel, 4) * y.numel()
    assert left.nonzero < kept.nonzero < kept.inside <= kept.total
    assert theory.nonzero_multiplications(mask.bool(), conv.weight.shape, padding, stride) == kept
    assert (kept.inside == kept.total) == (padding == 0)


def test_cost_is_equations_8_and_9():
    assert theory.cost(3, 16) == 144
    assert theory.cost(3, 16, 0.95) == pytest.approx(7.2)


@pytest.mark.parametrize(("kind", "shape"), [
    ("sample", (2, 2, 1, 2)), ("shared", (1, 2, 1, 2)), ("channel", (2, 2, 1, 1)), ("channel_shared", (1, 2, 1, 1)),
])  # fmt: skip
def test_expected_multiplications_are_exact_over_all_masks(kind, shape):
    x = torch.tensor([3.0, -1, 0, 2, 1, 1, 5, 0]).reshape(2, 2, 1, 2)
    alpha, weight_shape, counts, chances = 0.3, (3, 2, 1, 3), [], []
    for bits in product((0.0, 1.0), repeat=math.prod(shape)):
        kept = sum(bits)
        chances.append(alpha ** (len(bits) - kept) * (1 - alpha) ** kept)
        padded = F.pad(x * torch.tensor(bits).reshape(shape), (1, 1, 1, 1))
        counts.append(3 * sum(int((padded[:, :, a, b : b + 3] != 0).sum()) for a in range(3) for b in range(2)))
    chances, counts = torch.tensor(chances, dtype=torch.float64), torch.tensor(counts, dtype=torch.float64)
    mean = (chances * counts).sum()
    deviation = (chances * (counts - mean) ** 2).sum().sqrt()
    ours = theory.expected_multiplications(x, weight_shape, alpha, 1, mask=kind)
    assert ours == (pytest.approx(mean.item(), rel=1e-12), pytest.approx(deviation.item(), rel=1e-12))


@pytest.mark.parametrize("kind", masking.KINDS)
@pytest.mark.parametrize("alpha", [0.5, 0.95])
def test_what_sam_spares_lies_within_its_interval(kind, alpha):
    x, conv = drawn(4, 6, 3, 1, 2, n=4)
    generator, draws = torch.Generator().manual_seed(1), 300
    shape = tuple(conv.weight.shape)
    counts = torch.tensor([
        theory.nonzero_multiplications(masking.masked(x, alpha, kind, generator), shape, 1, 2).nonzero for _ in range(draws)
    ]).double()  # fmt: skip
    before = theory.nonzero_multiplications(x, shape, 1, 2).nonzero
    mean, deviation = theory.expected_multiplications(x, shape, alpha, 1, 2, kind)
    assert mean == pytest.approx((1 - alpha) * before)  # Eq. 9
    assert abs(counts.mean().item() - mean) < 4 * deviation / math.sqrt(draws)
    spread = (counts - mean).square().mean().item()
    assert 0.6 < spread / deviation**2 < 1.5  # more than four standard errors, were the counts normal
    assert spread > 4 * alpha * (1 - alpha) * before  # four times that of independent multiplications


def test_kept_entries_of_a_kernel_of_one_are_binomial():
    x, alpha = torch.ones(4, 6, 8, 8), 0.9
    low, high = stats.binom.interval(1 - 1e-6, x.numel(), 1 - alpha)
    for seed in range(20):
        mask = masking.masked(x, alpha, "sample", torch.Generator().manual_seed(seed))
        counted = theory.nonzero_multiplications(mask, (5, 6, 1, 1))
        assert counted.nonzero == 5 * int(mask.sum()) and 5 * low <= counted.nonzero <= 5 * high
    mean, deviation = theory.expected_multiplications(x, (5, 6, 1, 1), alpha)
    assert (mean / 5, deviation / 5) == pytest.approx((x.numel() * 0.1, math.sqrt(x.numel() * 0.09)))
    assert theory.expected_multiplications(x, (5, 6, 1, 1), 0.0) == (5 * x.numel(), 0)


def test_mistakes_of_use_are_named():
    x, weight = torch.randn(2, 4, 5, 6), torch.randn(6, 4, 3, 3)
    with pytest.raises(ValueError, match="6 output channels cannot be divided into 4 groups: use a divisor"):
        theory.group_means(x, weight, groups=4)
    with pytest.raises(ValueError, match="6 output channels cannot be divided into 0 groups"):
        theory.predicted_spread(x, (6, 4, 3, 3), groups=0)
    with pytest.raises(ValueError, match="has 4 channels.*got 2"):
        inspect.unwrap(theory.group_means)(x, weight[:, :2], groups=1)  # past the tests' own check of shapes
    with pytest.raises(ValueError, match="has 4 channels.*got 1"):  # a depthwise convolution
        theory.nonzero_multiplications(x, (4, 1, 3, 3))
    for kernel, padding, stride in ((7, 0, 1), (3, -1, 1), (3, 1, 0)):
        with pytest.raises(
            ValueError, match=f"no output for kernel {kernel}, padding {padding}, stride {stride} on 5 inputs"
        ):
            theory.channel_means(x, torch.randn(6, 4, kernel, kernel), padding, stride)
    with pytest.raises(ValueError, match="alpha is the share of inputs masked"):
        theory.cost(3, 4, 1.0)
    with pytest.raises(ValueError, match="unknown mask 'pixel'"):
        theory.expected_multiplications(x, (6, 4, 3, 3), 0.5, mask="pixel")
