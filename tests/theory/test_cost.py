"""Multiplications, and what SAM spares of them: against a copy of every window, and over all masks."""

from itertools import product
import math

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


def drawn(c_out, c_in, kernel, padding=0, stride=1, n=3):
    """Activations after a ReLU, and PyTorch's own convolution to read them."""
    torch.manual_seed(0)
    conv = nn.Conv2d(c_in, c_out, kernel, stride, padding, bias=False, dtype=torch.float64).requires_grad_(False)
    return torch.relu(torch.randn(n, c_in, 6, 9, dtype=torch.float64)), conv


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
    x = torch.randn(2, 4, 5, 6)
    with pytest.raises(ValueError, match="has 4 channels.*got 1"):  # a depthwise convolution
        theory.nonzero_multiplications(x, (4, 1, 3, 3))
    with pytest.raises(ValueError, match="alpha is the share of inputs masked"):
        theory.cost(3, 4, 1.0)
    with pytest.raises(ValueError, match="unknown mask 'pixel'"):
        theory.expected_multiplications(x, (6, 4, 3, 3), 0.5, mask="pixel")
