"""The predicted distances of a network: against the network itself, at its 16 channels."""

from itertools import pairwise, product

import pytest
from scipy import stats
import torch
from torch import nn

import ncdlib
from ncdlib import activations, images, spaces, theory
from ncdlib.proxies.activation import hamming
from ncdlib.theory import covariance, network

SPACE = spaces.get("nasbench201")
SIDE, N = 16, 16


def built(kernels, norm="bn", seed=0, channels=16, border="zeros"):
    """The network of one cell per stage whose distances are predicted."""
    torch.manual_seed(seed)
    ops = iter(f"nor_conv_{k}x{k}" for k in kernels)
    cell = "|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|".format(*ops)
    net = SPACE.build(SPACE.parse(cell), norm, cells_per_stage=1, channels=channels)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1) and border == "circular":
            layer.forward = around(layer)
    return net


def around(layer):
    """The convolution of an image that continues at its opposite side."""
    pad = [layer.padding[0]] * 4
    return lambda x: nn.functional.conv2d(nn.functional.pad(x, pad, mode="circular"), layer.weight, None, layer.stride)


def measured(kernels, norm="bn", alpha=0.0, seeds=range(3), **how):
    """Mean of `hamming` over seeds of the weights, the images and the masks."""
    scores = [
        ncdlib.score(built(kernels, norm, s, **how), images.batch("gaussian", N, s, SIDE), "hamming", alpha=alpha, seed=s)
        for s in seeds
    ]
    return sum(scores) / len(scores)


def predicted(kernels, norm="bn", alpha=0.0, **how):
    how = {"side": SIDE, "n": N, "cells_per_stage": 1} | how
    return theory.mean_distance(theory.predicted_distances(kernels, norm, alpha, **how))


def test_layers_are_those_of_the_network():
    layers = theory.predicted_distances((1,) * 6, side=SIDE, channels=8, cells_per_stage=1)
    net, batch = built((1,) * 6, channels=8), images.batch("gaussian", N, 0, SIDE)
    with activations.record_codes(net, [lambda code: code.shape[1]], N) as found, torch.no_grad():
        net(batch)
    assert [(layer.units, layer.times) for layer in layers] == [(layer.summaries[0], layer.times) for layer in found]
    assert sum(layer.units * layer.times for layer in layers) == ncdlib.score(net, batch, "units")


def test_batch_norm_of_padded_images_ranks_3x3_below_1x1_and_other_norms_less():
    gaps, ours = {}, {}
    for norm in ("bn", "in", "gn8", "ln", "none"):
        theirs = [measured((k,) * 6, norm) for k in (1, 3)]
        ours[norm] = [predicted((k,) * 6, norm) for k in (1, 3)]
        tolerance = 0.01 if norm in ("bn", "in") else 0.05  # LayerNorm's distance depends on the width, see below
        assert ours[norm] == pytest.approx(theirs, abs=tolerance)
        gaps[norm] = (ours[norm][1] - ours[norm][0], theirs[1] - theirs[0])
    for norm in ("bn", "in"):
        assert max(gaps[norm]) < -0.015
        assert gaps[norm][0] == pytest.approx(gaps[norm][1], rel=0.4)
    for more, less in pairwise(("bn", "gn8", "ln")):
        assert gaps[more][0] < gaps[less][0] - 0.005 and gaps[more][1] < gaps[less][1] - 0.005
    assert abs(gaps["none"][0]) < 0.005


def test_without_a_border_the_kernel_makes_no_difference():
    theirs = [measured((k,) * 6, border="circular") for k in (1, 3)]
    ours = [predicted((k,) * 6, border="circular") for k in (1, 3)]
    assert ours[1] - ours[0] == pytest.approx(0, abs=1e-6)
    assert theirs[1] - theirs[0] > -0.003
    assert measured((3,) * 6) < theirs[1] - 0.02  # with the border


def test_larger_kernels_have_more_border_and_larger_images_less():
    falling = [predicted((k,) * 6) for k in (1, 3, 5, 7)]
    assert all(a - b > 0.002 for a, b in pairwise(falling))
    large = [predicted((k,) * 6, side=2 * SIDE) for k in (1, 3)]
    assert 0.3 < (large[0] - large[1]) / (falling[0] - falling[1]) < 0.8


def test_masks_turn_the_order_round():
    ours, theirs = ([f((k,) * 6, alpha=0.95) for k in (1, 3)] for f in (predicted, measured))
    for one, three in (ours, theirs):
        assert three - one > 0.02
    assert ours == pytest.approx(theirs, abs=0.06)


@pytest.mark.parametrize("alpha", [0.0, 0.95])
def test_cells_are_ranked_as_the_network_ranks_them(alpha):
    cells = list(product((1, 3), repeat=6))[::9]
    ours, theirs = ([f(cell, alpha=alpha) for cell in cells] for f in (predicted, measured))
    counts = [cell.count(3) for cell in cells]
    by_distance, by_count = stats.spearmanr(ours, theirs).statistic, stats.spearmanr(counts, theirs).statistic
    assert by_distance > 0.8 and by_distance > abs(by_count)
    assert (by_count < -0.3) if alpha == 0 else (by_count > 0.3)


@pytest.mark.parametrize("norm", ["bn", "ln", "none"])
@pytest.mark.parametrize("alpha", [0.8, 0.95])
def test_a_layer_with_dry_outputs_is_that_of_masked_gaussian_inputs(norm, alpha):
    torch.manual_seed(0)
    x = torch.relu(torch.randn(32, 16, 16, 16, dtype=torch.float64))
    masked = x * torch.bernoulli(torch.full_like(x, 1 - alpha))
    layer = ncdlib.rescaling.make(norm, 16).double()
    found = []
    for _ in range(40):
        codes = activations.codes(layer(nn.functional.conv2d(masked, torch.randn(16, 16, 1, 1, dtype=torch.float64))))
        found.append(hamming(codes))
    half = covariance.relu(covariance.white_noise(16))
    setting = network.Setting(norm, alpha, 32, "zeros")
    ours = network.node_distances([network._edge(half, 1, 16, setting)], 16, 32).mean().item()
    assert ours == pytest.approx(sum(found) / 40, abs=0.03)
    gaussian = covariance.normalised(covariance.convolved(covariance.masked(half, alpha), 1), norm, 16, 32)
    if alpha == 0.95:  # without dry outputs the distance would be far too large
        assert covariance.hamming_of_cosine(gaussian.cosine).mean() > ours + 0.1


def test_mean_counts_a_tensor_for_each_module_that_reads_it():
    layers = [network.Layer("a", 2, 3, torch.tensor([[0.25, 0.75]])), network.Layer("b", 4, 1, torch.tensor([[0.25]]))]
    assert theory.mean_distance(layers) == (2 * 3 * 0.5 + 4 * 0.25) / 10


def test_what_has_no_prediction_is_named():
    with pytest.raises(ValueError, match=r"six odd numbers, one for each edge of the cell: got \(1, 3\)"):
        theory.predicted_distances((1, 3))
    with pytest.raises(ValueError, match="six odd numbers"):
        theory.predicted_distances((2,) * 6)
    with pytest.raises(ValueError, match="multiple of 4, got 6"):
        theory.predicted_distances((1,) * 6, side=6)
    with pytest.raises(ValueError, match="no prediction for norm 'dropout'"):
        theory.predicted_distances((1,) * 6, "dropout", side=4)
    with pytest.raises(ValueError, match="alpha is the share of inputs masked"):
        theory.predicted_distances((1,) * 6, alpha=1.0, side=4)
