"""The theorems: both sides against real layers, plain sums and full enumeration."""

import inspect
from itertools import product
import math

from hypothesis import given
from hypothesis import strategies as st
import pytest
from scipy import stats
import torch
from torch import nn
from torch.nn import functional as F

from ncdlib import theory

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


def test_mistakes_of_use_are_named():
    x, weight = torch.randn(2, 4, 5, 6), torch.randn(6, 4, 3, 3)
    with pytest.raises(ValueError, match="6 output channels cannot be divided into 4 groups: use a divisor"):
        theory.group_means(x, weight, groups=4)
    with pytest.raises(ValueError, match="6 output channels cannot be divided into 0 groups"):
        theory.predicted_spread(x, (6, 4, 3, 3), groups=0)
    with pytest.raises(ValueError, match="has 4 channels.*got 2"):
        inspect.unwrap(theory.group_means)(x, weight[:, :2], groups=1)  # past the tests' own check of shapes
    for kernel, padding, stride in ((7, 0, 1), (3, -1, 1), (3, 1, 0)):
        with pytest.raises(
            ValueError, match=f"no output for kernel {kernel}, padding {padding}, stride {stride} on 5 inputs"
        ):
            theory.channel_means(x, torch.randn(6, 4, kernel, kernel), padding, stride)
