"""Training: recipes, schedules, augmentation, metrics, data, the loop, checkpoints, the command, bad input."""

import colorsys
from dataclasses import asdict, replace
import io
import itertools
import math
import os
from pathlib import Path
import pickle
import signal
import subprocess
import sys
import tarfile
import textwrap

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from PIL import Image, ImageEnhance
import pytest
from scipy import stats
import torch
from torch import nn
import torch.nn.functional as F

from ncdlib import benchmarks, spaces, training
from ncdlib.reproduction import plots
from ncdlib.spaces.darts import Genotype
from ncdlib.spaces.darts_network import drop_path
from ncdlib.training import NotFiniteLoss, checkpoint, data, loop, metrics, recipes, train
from ncdlib.training import __main__ as command
from ncdlib.training import augmentation as augment
from ncdlib.training.data import Data, Tensors
from ncdlib.training.recipes import RECIPES, learning_rate

QUICK = {"progress": False, "device": "cpu"}
DIGITS = data.digits(train=33, valid=20)
DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def random_images(n=4, h=9, w=7, seed=0):
    return torch.rand(n, 3, h, w, generator=draw(seed))


class Tiny(nn.Module):
    """A network that is trained in no time; the hook sees each training batch before it is used."""

    def __init__(self, hook=None):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 5, 4), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(196, 10))
        self.hook = hook

    def forward(self, x):
        if self.training and self.hook:
            x = self.hook(x)
        return self.body(x)


def tiny(seed=0, hook=None):
    torch.manual_seed(seed)
    return Tiny(hook)


PLAIN = RECIPES["darts_cifar10"].short(3, batch=16, auxiliary=0.0, drop_path=0.0)


def weights(net):
    return torch.cat([value.double().flatten() for value in net.state_dict().values()])


# --- recipes


def test_published_values():
    table = {  # epochs, batch, rate, weight decay, smoothing, auxiliary, drop path, cutout, channels, layers
        "darts_cifar10": (600, 96, 0.025, 3e-4, 0.0, 0.4, 0.2, 16, 36, 20),
        "darts_cifar100": (600, 96, 0.025, 3e-4, 0.0, 0.4, 0.2, 16, 36, 20),
        "rdarts_cifar10": (600, 96, 0.025, 3e-4, 0.0, 0.4, 0.2, 16, None, None),
        "darts_imagenet": (250, 128, 0.1, 3e-5, 0.1, 0.4, 0.0, 0, 48, 14),
        "pcdarts_imagenet": (250, 1024, 0.5, 3e-5, 0.1, 0.4, 0.0, 0, 48, 14),
        "rlnas_imagenet": (240, 1024, 0.5, 4e-5, 0.1, 0.0, 0.0, 0, None, None),
        "tf_tas_imagenet": (300, 2048, 0.002, 0.05, 0.1, 0.0, 0.0, 0, None, None),
    }
    names = ("epochs", "batch", "learning_rate", "weight_decay", "label_smoothing", "auxiliary", "drop_path", "cutout")
    stated = {name: tuple(asdict(r)[key] for key in (*names, "channels", "layers")) for name, r in RECIPES.items()}
    assert stated == table
    by_sgd = [r for r in RECIPES.values() if r.optimiser == "sgd"]
    assert all(r.momentum == 0.9 and r.clip == 5 and not (r.mixup or r.cutmix or r.erase) for r in by_sgd)
    assert all(r.source and r.unverified for r in RECIPES.values()) and len(by_sgd) == len(RECIPES) - 1
    vit = RECIPES["tf_tas_imagenet"]
    assert (vit.mixup, vit.cutmix, vit.erase, vit.stochastic_depth, vit.clip) == (0.8, 1.0, 0.25, 0.1, math.inf)


def test_the_networks_are_the_published_ones():
    with torch.device("meta"):
        net = recipes.network("darts", DARTS_V2, RECIPES["darts_imagenet"], 1000)
        for p in net.auxiliary.parameters():
            assert p.is_meta
        sizes = [sum(p.numel() for p in m.parameters()) for m in (net, net.auxiliary)]
        small = recipes.network("s2", spaces.get("s2").sample(np.random.default_rng(0)), RECIPES["rdarts_cifar10"], 10)
    assert sizes[0] - sizes[1] == 4_718_752  # the authors' page prints 4.719 M, without the auxiliary head
    assert sizes[1] == 48 * 16 * 128 + 2 * 128 + 4 * 128 * 768 + 769 * 1000  # one normalisation, not two
    assert len(small.cells) == 20 and small.stem[0].out_channels == 3 * 16


@pytest.mark.parametrize("kind", ["cosine", "exponential"])
def test_schedules_by_epoch_are_those_of_torch(kind):
    recipe = RECIPES["darts_cifar10"].short(20, schedule=kind)
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], recipe.learning_rate)
    made = {
        "cosine": lambda: torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 20),
        "exponential": lambda: torch.optim.lr_scheduler.StepLR(optimiser, 1, 0.97),
    }
    scheduler = made[kind]()
    for epoch in range(20):
        for step in range(3):
            assert math.isclose(learning_rate(recipe, epoch, step, 3), optimiser.param_groups[0]["lr"], rel_tol=1e-9)
        optimiser.step()
        scheduler.step()


def test_the_cosine_of_transformers_warms_up_and_ends_above_zero():
    recipe = RECIPES["tf_tas_imagenet"]
    rates = [learning_rate(recipe, epoch, 3, 10) for epoch in range(300)]
    np.testing.assert_allclose(rates[:5], np.linspace(1e-6, 2e-3, 6)[:-1])
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], recipe.learning_rate)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 300, eta_min=1e-5)
    for epoch in range(300):
        if epoch >= 5:
            assert math.isclose(rates[epoch], optimiser.param_groups[0]["lr"], rel_tol=1e-9)
        optimiser.step()
        scheduler.step()
    assert math.isclose(optimiser.param_groups[0]["lr"], 1e-5, rel_tol=1e-9)


def test_linear_schedules():
    recipe = RECIPES["pcdarts_imagenet"]
    rates = [learning_rate(recipe, epoch, 7, 10) for epoch in range(250)]
    np.testing.assert_allclose(rates[:5], [0.5 * (245 - e) / 245 * (e + 1) / 5 for e in range(5)])
    np.testing.assert_allclose(rates[5:245], [0.5 * (245 - e) / 245 for e in range(5, 245)])
    np.testing.assert_allclose(rates[245:], [0.5 / 245 * share for share in (1, 0.8, 0.6, 0.4, 0.2)])
    recipe = RECIPES["rlnas_imagenet"].short(4)
    rates = [learning_rate(recipe, epoch, step, 5) for epoch in range(4) for step in range(5)]
    np.testing.assert_allclose(rates, np.linspace(0.5, 0, 21)[:-1])


def test_a_short_recipe_keeps_its_shape():
    short = RECIPES["pcdarts_imagenet"].short(50, batch=8)
    assert (short.epochs, short.warm_up, short.tail, short.batch, short.clip) == (50, 1, 1, 8, 5.0)
    assert all(learning_rate(RECIPES[name].short(n), n - 1, 0, 1) > 0 for name in RECIPES for n in (1, 2, 3, 10))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs must be a whole number of at least 1, got 0"),
        ({"batch": 1}, "batch must be a whole number of at least 2, got 1"),
        ({"learning_rate": math.inf}, "learning_rate must be above 0 and finite, got inf"),
        ({"weight_decay": -1e-4}, "weight_decay must be at least 0 and finite, got -0.0001"),
        ({"drop_path": 1.0}, "drop_path must lie from 0 up to, not including, 1: got 1.0"),
        ({"schedule": "step"}, "unknown schedule 'step': use one of cosine, linear, linear_by_step, exponential"),
        ({"augmentation": "mixup"}, "unknown augmentation 'mixup'"),
        ({"warm_up": 601}, "600 epochs have no room for a warm-up of 601"),
        ({"tail": 600}, "600 epochs have no room for .* a tail of 600"),
        ({"optimiser": "lamb"}, "unknown optimiser 'lamb': use 'sgd' or 'adamw'"),
        ({"clip": 0.0}, "clip must be above 0, or math.inf for no limit: got 0.0"),
        ({"least_rate": 0.1}, "least_rate must lie from 0 to learning_rate = 0.025, got 0.1"),
        ({"mixup": -0.1}, "mixup must be at least 0 and finite, got -0.1"),
    ],
)
def test_bad_recipes_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(RECIPES["darts_cifar10"], **change)


def test_a_recipe_for_another_space_is_refused():
    with pytest.raises(
        ValueError, match="the networks of mobilenet have no 'layers', which the recipe sets: choose another"
    ):
        recipes.network("mobilenet", "02012100", RECIPES["darts_cifar10"], 10)
    with pytest.raises(ValueError, match="unknown stem 'svhn': use one of cifar, imagenet"):
        spaces.get("darts").build(DARTS_V2, stem="svhn")
    with pytest.raises(ValueError, match="at least 2: got 1"):
        spaces.get("darts").build(DARTS_V2, stem="imagenet", channels=1)
    net = spaces.get("darts").build(DARTS_V2, stem="imagenet", channels=2, layers=3, auxiliary=True)
    with pytest.raises(ValueError, match=r"halved five times, so both sides must be divisible by 32: got \(2, 3, 40, 32\)"):
        net(torch.zeros(2, 3, 40, 32))
    with pytest.raises(ValueError, match=r"reads 7x7 maps, as 224x224 images give: got \(2, 2\)"):
        net(torch.zeros(2, 3, 64, 64))


# --- augmentation


def test_cutout_covers_the_square_around_a_pixel():
    n, size, side = 3000, 32, 16
    gone = augment.cut_out(torch.ones(n, 3, size, size), side, draw()) == 0
    assert (gone[:, 0] == gone[:, 1]).all() and (gone[:, 0] == gone[:, 2]).all()
    lengths = [min(size, at + side // 2) - max(0, at - side // 2) for at in range(size)]  # clipped at the border
    areas = gone[:, 0].flatten(1).sum(1).numpy()
    possible = np.multiply.outer(lengths, lengths).ravel()
    assert set(areas) <= set(possible) and areas.max() == side**2
    assert abs(areas.mean() - possible.mean()) < 4 * possible.std() / math.sqrt(n)
    rows, columns = gone[:, 0].any(2), gone[:, 0].any(1)
    assert torch.equal(gone[:, 0], rows[:, :, None] & columns[:, None, :])  # a rectangle
    x = random_images()
    assert torch.equal(augment.cut_out(x, 0, draw()), x)


def test_a_shift_is_a_crop_of_the_padded_image():
    x = random_images(200)
    y = augment.shifted(x, 2, draw())
    padded = F.pad(x, (2, 2, 2, 2))
    found = []
    for image, source in zip(y, padded, strict=True):
        hits = [(t, s) for t in range(5) for s in range(5) if torch.equal(source[:, t : t + 9, s : s + 7], image)]
        assert len(hits) == 1
        found += hits
    assert len(set(found)) == 25
    assert stats.chisquare(np.unique([t for t, _ in found], return_counts=True)[1]).pvalue > 1e-4


def test_half_of_the_images_are_mirrored():
    x = random_images(400)
    mirrored = [torch.equal(b, a.flip(2)) for a, b in zip(x, augment.flipped(x, draw()), strict=True)]
    kept = [torch.equal(b, a) for a, b in zip(x, augment.flipped(x, draw()), strict=True)]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    assert stats.binomtest(sum(mirrored), 400, 0.5).pvalue > 1e-4


@pytest.mark.parametrize(
    ("change", "enhance"),
    [
        (augment.brightness, ImageEnhance.Brightness),
        (augment.contrast, ImageEnhance.Contrast),
        (augment.saturation, ImageEnhance.Color),
    ],
)
def test_jitter_is_that_of_pil(change, enhance):
    pixels = np.random.default_rng(0).integers(256, size=(8, 8, 3), dtype=np.uint8)
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    for factor in (0.6, 1.0, 1.4):
        wanted = np.asarray(enhance(Image.fromarray(pixels)).enhance(factor))
        got = change(x, torch.full((1, 1, 1, 1), factor))[0].permute(1, 2, 0).numpy() * 255
        assert np.abs(got - wanted).max() < 1.6  # PIL rounds to whole numbers on the way


def test_hue_is_turned_as_in_colorsys():
    x = torch.cat([random_images(2), torch.full((1, 3, 9, 7), 0.3)])  # grey has no hue
    turns = torch.tensor([0.2, -0.17, 0.1]).view(3, 1, 1, 1)
    got = augment.hue(x, turns)
    for i, row, column in itertools.product(range(3), range(9), range(7)):
        h, s, v = colorsys.rgb_to_hsv(*x[i, :, row, column].tolist())
        wanted = colorsys.hsv_to_rgb((h + turns[i].item()) % 1, s, v)
        np.testing.assert_allclose(got[i, :, row, column], wanted, atol=1e-5)


def test_jitter_draws_a_factor_an_image():
    x = random_images(3)[:1].expand(50, -1, -1, -1) / 2  # no factor takes it above 1
    y = augment.jittered(x, (0.4, 0.0, 0.0, 0.0), draw())
    factors = (y / x).flatten(1).amin(1)
    assert len(factors.unique()) == 50 and 0.6 <= factors.min() < 0.7 and 0.9 < factors.max() <= 1.4


def test_a_random_part_has_the_published_sizes():
    height, width = 80, 120
    rows = torch.arange(height, dtype=torch.uint8).view(1, -1, 1).expand(1, height, width)
    columns = torch.arange(width, dtype=torch.uint8).view(1, 1, -1).expand(1, height, width)
    image = torch.cat([rows, columns, torch.zeros_like(rows)])
    shares, shapes, generator = [], [], draw()
    for _ in range(400):
        part = augment.resized_part(image, 160, generator)[0] * 255  # enlarged, so that its corners are the part's own
        assert part.shape == (3, 160, 160)
        h, w = (part[c].max().item() - part[c].min().item() + 1 for c in (0, 1))
        shares.append(h * w / (height * width))
        shapes.append(w / h)
    assert 0.07 < min(shares) < 0.15 and 0.8 < max(shares) <= 1.01
    assert 0.70 < min(shapes) < 0.85 and 1.2 < max(shapes) < 1.40
    narrow = torch.zeros(3, 10, 400, dtype=torch.uint8)  # where no part fits in ten tries, the middle is taken
    narrow[:, :, 195:205] = 255
    assert augment.resized_part(narrow, 8, draw()).shape == (1, 3, 8, 8)


def test_validation_takes_the_middle():
    image = torch.randint(256, (3, 256, 300), dtype=torch.uint8, generator=draw())
    got = augment.centre(image, 224)
    torch.testing.assert_close(got[0], image[:, 16:240, 38:262] / 255)
    assert augment.centre(image[:, :20, :90], 224).shape == (1, 3, 224, 224)


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"reads images of \(3, 32, 32\), got \(3, 8, 8\)"):
        augment.validation([torch.zeros(3, 8, 8, dtype=torch.uint8)], PLAIN, (0.5,) * 3, (1.0,) * 3)


MIXES = replace(PLAIN, mixup=0.8, cutmix=1.0)


def flat_images(n=6):
    """Image i is i everywhere, so that a mixture shows what it is made of."""
    return torch.arange(float(n)).view(n, 1, 1, 1).expand(n, 3, 12, 9).clone()


def test_mixup_blends_each_image_with_the_one_across():
    x, labels, stayed = flat_images(), torch.arange(6), []
    for seed in range(400):
        y, shares = augment.mixed(x, labels, replace(MIXES, cutmix=0.0), 6, draw(seed))
        assert torch.equal(y[:, 0, 0, 0], y[:, 2, 5, 7])  # still flat: blended, not cut
        torch.testing.assert_close(shares @ torch.arange(6.0), y[:, 0, 0, 0])  # labels in the shares of the images
        torch.testing.assert_close(shares.sum(1), torch.ones(6))
        stayed.append(shares[0, 0].item())
    assert stats.kstest(stayed, stats.beta(0.8, 0.8).cdf).pvalue > 1e-4


def test_cutmix_puts_a_rectangle_in_and_counts_its_area():
    x, labels, stayed = flat_images(), torch.arange(6), []
    for seed in range(400):
        y, shares = augment.mixed(x, labels, replace(MIXES, mixup=0.0), 6, draw(seed))
        foreign = y[0, 0] == 5
        assert torch.equal(foreign, ~(y[0, 0] == 0)) and torch.equal(foreign, y[1, 0] == 4)
        assert torch.equal(foreign, foreign.any(1)[:, None] & foreign.any(0)[None])  # a rectangle
        assert math.isclose(shares[0, 5].item(), foreign.float().mean().item(), abs_tol=1e-6)
        stayed.append(shares[0, 0].item())
    assert min(stayed) < 0.1 and max(stayed) == 1 and torch.equal(x, flat_images())


def test_half_of_the_batches_are_cut_and_half_blended():
    cut = []
    for seed in range(400):
        y, _ = augment.mixed(flat_images(), torch.arange(6), MIXES, 6, draw(seed))
        cut.append(bool(((y[0] == 0) | (y[0] == 5)).all()))
    assert stats.binomtest(sum(cut), 400, 0.5).pvalue > 1e-4
    x, labels = flat_images(), torch.arange(6)
    assert augment.mixed(x, labels, PLAIN, 6, draw()) == (x, labels)


def test_erasing_takes_a_rectangle_of_the_published_size():
    n, side = 2000, 40
    gone = augment.erased(torch.zeros(n, 3, side, side), 0.25, draw()) != 0
    hit = gone[:, 0].flatten(1).any(1)
    assert stats.binomtest(int(hit.sum()), n, 0.25).pvalue > 1e-4
    rows, columns = gone[hit, 0].any(2), gone[hit, 0].any(1)
    assert torch.equal(gone[hit, 1], rows[:, :, None] & columns[:, None, :])
    areas, shapes = rows.sum(1) * columns.sum(1) / side**2, rows.sum(1) / columns.sum(1)
    assert 0.015 < areas.min() < 0.04 and 0.28 < areas.max() < 0.35
    assert 0.25 < shapes.min() < 0.5 and 2 < shapes.max() < 4


# --- loss and metrics


def test_label_smoothing_and_auxiliary_head_are_the_published_formulas():
    logits, extra = torch.randn(2, 6, 10, generator=draw())
    labels, eps = torch.arange(6), 0.1
    recipe = replace(RECIPES["darts_cifar10"], label_smoothing=eps)

    def published(z):
        target = (1 - eps) * F.one_hot(labels, 10) + eps / 10
        return -(target * z.log_softmax(1)).sum(1).mean()

    loss, kept = loop.loss_of((logits, extra), labels, recipe)
    torch.testing.assert_close(loss, published(logits) + 0.4 * published(extra))
    assert kept is logits
    torch.testing.assert_close(loop.loss_of(logits, labels, replace(recipe, auxiliary=0.0))[0], published(logits))
    with pytest.raises(ValueError, match="the network has no auxiliary head, the recipe wants one"):
        loop.loss_of(logits, labels, recipe)
    with pytest.raises(ValueError, match="the network has an auxiliary head, the recipe wants none"):
        loop.loss_of((logits, extra), labels, PLAIN)


def test_drop_path_keeps_the_expectation():
    torch.manual_seed(0)
    x = torch.full((20_000, 1, 1, 1), 3.0)
    y = drop_path(nn.Conv2d(1, 1, 1), x, 0.2)
    assert abs(y.mean() - 3) < 4 * 3 * math.sqrt(0.2 / 0.8 / 20_000)


def test_the_loss_of_mixed_labels_is_the_mixture_of_losses():
    logits, recipe = torch.randn(4, 10, generator=draw()), replace(PLAIN, label_smoothing=0.1)
    labels = torch.arange(4)
    shares = 0.7 * F.one_hot(labels, 10).float() + 0.3 * F.one_hot(labels.flip(0), 10).float()
    parts = [loop.loss_of(logits, each, recipe)[0] for each in (labels, labels.flip(0))]
    torch.testing.assert_close(loop.loss_of(logits, shares, recipe)[0], 0.7 * parts[0] + 0.3 * parts[1])


# --- transformers


def small_vit(recipe, seed=0):
    torch.manual_seed(seed)
    return recipes.network("autoformer_tiny", spaces.get("autoformer_tiny").example, recipe, 10, patch=16)


VIT = RECIPES["tf_tas_imagenet"].short(2, batch=16, augmentation="crop", resolution=32)


def test_stochastic_depth_keeps_the_expectation_and_spares_the_first_block():
    net = small_vit(VIT)
    first, last = net.blocks[0], net.blocks[-1]
    x = torch.randn(4000, 5, 192, generator=draw())[:, :1]  # one token an image
    hidden = torch.ones(4000, 1, last.fc2.in_features)
    whole = last.fc2(hidden)
    with loop.stochastic_depth(net, 0.4):
        torch.manual_seed(0)
        assert torch.equal(first.fc2(torch.ones(9, 1, first.fc2.in_features)).std(0), torch.zeros(1, 192))
        y = last.fc2(hidden)
        gone = (y == 0).all((1, 2))
        assert stats.binomtest(int(gone.sum()), len(x), 0.4).pvalue > 1e-4
        torch.testing.assert_close(y[~gone], whole[~gone] / 0.6)
        net.eval()
        assert torch.equal(last.fc2(hidden), whole)
    net.train()
    assert torch.equal(last.fc2(hidden), whole)
    with (
        pytest.raises(ValueError, match="the network has none: use replace"),
        loop.stochastic_depth(tiny(), 0.1),
    ):
        pass


def test_only_matrices_and_filters_of_a_transformer_are_decayed():
    net = small_vit(VIT)
    decayed, free = loop._groups(net, VIT)
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.05, 0.0)
    names = {id(p): name for name, p in net.named_parameters()}
    spared = {names[id(p)] for p in free["params"]}
    assert {"class_token", "position", "head.bias", "norm.weight", "blocks.0.fc1.bias"} <= spared
    kept = {names[id(p)] for p in decayed["params"]}
    assert {"head.weight", "patch.weight", "blocks.0.attention.qkv.weight"} <= kept and not kept & spared


def test_a_transformer_learns_and_goes_on_where_it_was_stopped(tmp_path):
    images = data.digits(train=33, valid=20)
    whole, half = small_vit(VIT), small_vit(VIT)
    history = train(whole, VIT, images, folder=tmp_path / "whole", **QUICK)
    assert np.isfinite(history[["train_loss", "valid_loss"]]).all(axis=None)
    steps = itertools.count(1)

    def stop(module, inputs):
        if module.training and next(steps) == 4:  # the first step of epoch 2, of three each
            raise KeyboardInterrupt

    handle = half.register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        train(half, VIT, images, folder=tmp_path / "half", **QUICK)
    handle.remove()
    again = small_vit(VIT, seed=1)
    train(again, VIT, images, folder=tmp_path / "half", **QUICK)
    assert torch.equal(weights(again), weights(whole))


def test_top_k():
    logits = torch.randn(50, 7, generator=draw())
    labels = torch.randint(7, (50,), generator=draw())
    for k in (1, 3, 7):
        hits = [
            label in sorted(range(7), key=row.__getitem__)[-k:] for row, label in zip(logits.tolist(), labels, strict=True)
        ]
        assert math.isclose(metrics.top_k(logits, labels, k), 100 * np.mean(hits), rel_tol=1e-6)
    with pytest.raises(ValueError, match="k must lie from 1 to 7"):
        metrics.top_k(logits, labels, 8)


def test_mean_average_precision():
    rng = np.random.default_rng(0)
    scores, labels = rng.random((40, 4)), rng.integers(3, size=40)  # class 3 does not occur
    by_class = []
    for c in range(3):
        ranked = labels[np.argsort(-scores[:, c])] == c
        precisions = [ranked[: i + 1].mean() for i in np.flatnonzero(ranked)]  # at each hit
        by_class.append(np.mean(precisions))
    assert math.isclose(metrics.mean_average_precision(scores, labels), np.mean(by_class))


def test_mean_iou():
    rng = np.random.default_rng(0)
    predicted, truth = rng.integers(4, size=(2, 3, 5, 5))
    predicted[predicted == 3] = 4  # class 3 only in one, class 4 only in the other
    ious = [((predicted == c) & (truth == c)).sum() / ((predicted == c) | (truth == c)).sum() for c in range(5)]
    assert math.isclose(metrics.mean_iou(predicted, truth), np.mean(ious))
    assert metrics.mean_iou(truth, truth) == 1
    with pytest.raises(ValueError, match="the maps must have one shape"):
        metrics.mean_iou(predicted, truth[0])


def test_ssim_is_the_published_formula():
    a, b = random_images(2, 13, 12, seed=0).double(), random_images(2, 13, 12, seed=1).double()
    b = 0.7 * a + 0.3 * b
    g = stats.norm(scale=1.5).pdf(np.arange(11) - 5)
    w = np.outer(g, g) / np.outer(g, g).sum()
    values = []
    for i, c, top, left in itertools.product(range(2), range(3), range(3), range(2)):
        x, y = (z[i, c, top : top + 11, left : left + 11].numpy() for z in (a, b))
        mx, my = (w * x).sum(), (w * y).sum()
        vx, vy, cov = (w * (x - mx) ** 2).sum(), (w * (y - my) ** 2).sum(), (w * (x - mx) * (y - my)).sum()
        values.append((2 * mx * my + 1e-4) * (2 * cov + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4)))
    assert math.isclose(metrics.ssim(a, b), np.mean(values), rel_tol=1e-9)
    assert math.isclose(metrics.ssim(255 * a, 255 * b, span=255.0), np.mean(values), rel_tol=1e-9)
    assert math.isclose(metrics.ssim(a, a), 1) and metrics.ssim(a, b) < 0.99
    with pytest.raises(ValueError, match="a window of 11 does not fit images whose shorter side is 9"):
        metrics.ssim(a[:, :, :9], b[:, :, :9])


# --- data


def test_digits_are_split_once_and_for_all():
    whole = data.digits()
    assert len(whole.train.labels) + len(whole.valid.labels) == 1797
    assert torch.equal(whole.train.images[:33], DIGITS.train.images) and torch.equal(
        whole.train.labels[:33], DIGITS.train.labels
    )
    assert DIGITS.train.images.shape == (33, 3, 32, 32) and DIGITS.train.images.dtype == torch.uint8
    both = torch.cat([whole.train.images, whole.valid.images])[:, 0].flatten(1)
    assert len(both.unique(dim=0)) == 1797  # none in both parts
    x = augment.validation(whole.train.load(torch.arange(1438)), PLAIN, whole.mean, whole.std)
    assert abs(x.mean()) < 1e-3 and abs(x.std() - 1) < 1e-3
    with pytest.raises(ValueError, match="train must lie from 1 to 1438, the digits there are: got 2000"):
        data.digits(train=2000)


def archive(path, files):
    with tarfile.open(path, "w:gz") as made:
        for name, raw in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            made.addfile(info, io.BytesIO(raw))
    return path


def test_cifar_archives(tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(256, size=(3, 4, 3072), dtype=np.uint8)

    def records(*label_columns, part):
        return np.column_stack([*(np.full(4, label, np.uint8) for label in label_columns), pixels[part]]).tobytes()

    ten = archive(
        tmp_path / "ten.tar.gz",
        {
            "cifar-10-batches-bin/data_batch_2.bin": records(2, part=1),
            "cifar-10-batches-bin/data_batch_1.bin": records(1, part=0),
            "cifar-10-batches-bin/test_batch.bin": records(9, part=2),
        },
    )
    hundred = archive(
        tmp_path / "hundred.tar.gz",
        {"cifar-100-binary/train.bin": records(7, 42, part=0), "cifar-100-binary/test.bin": records(7, 99, part=1)},
    )
    monkeypatch.setattr(benchmarks, "fetch", lambda name, progress: ten)
    asked = []
    monkeypatch.setattr(data.pooch, "retrieve", lambda *given, **_: asked.append(given) or str(hundred))
    small, large = data.get("cifar10"), data.get("cifar100")
    assert torch.equal(small.train.images, torch.from_numpy(pixels[:2].reshape(8, 3, 32, 32)))
    assert small.train.labels.tolist() == [1] * 4 + [2] * 4 and small.valid.labels.tolist() == [9] * 4
    assert torch.equal(large.valid.images, torch.from_numpy(pixels[1].reshape(4, 3, 32, 32)))
    assert large.train.labels.tolist() == [42] * 4 and large.valid.labels.tolist() == [99] * 4  # the fine label
    assert (small.classes, large.classes) == (10, 100)
    assert asked[0][1] == "md5:03b5dce01913d631647c71ecec9e9cb8"  # as on the authors' page
    with pytest.raises(ValueError, match="no whole records of 3074 bytes under '/train.bin'"):
        data.read_cifar(ten, "/train.bin", 2)


def test_data_that_cannot_be_had_is_named(monkeypatch):
    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(data.pooch, "retrieve", offline)
    with pytest.raises(benchmarks.MissingData, match=r"cifar-100-binary.tar.gz .*could not be downloaded .*By hand"):
        data.cifar100()


@pytest.fixture
def pictures(tmp_path):
    """An image folder of two classes, in colour and in grey, of several sizes."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 6), ("val", 3)):
        for c, name in enumerate(("cat", "dog")):
            (tmp_path / "pictures" / part / name).mkdir(parents=True)
            for i in range(count):
                shape = (32, 32, 3) if i % 2 else (32, 32)
                image = Image.fromarray((rng.integers(100, size=shape) + 150 * c).astype(np.uint8))
                image.save(tmp_path / "pictures" / part / name / f"{i}.png")
    return tmp_path / "pictures"


def test_an_image_folder(pictures):
    (pictures / "train" / "cat" / "notes.txt").write_text("no image")
    read = data.get(str(pictures))
    assert (read.classes, read.train.labels.tolist(), read.valid.labels.tolist()) == (
        2,
        [0] * 6 + [1] * 6,
        [0] * 3 + [1] * 3,
    )
    first, second = read.train.load(torch.tensor([1, 6]))
    assert torch.equal(first, torch.from_numpy(np.array(Image.open(pictures / "train/cat/1.png"))).permute(2, 0, 1))
    assert second.shape == (3, 32, 32) and torch.equal(second[0], second[2])
    (pictures / "train/dog/0.png").write_bytes(b"\x89PNG cut short")
    with pytest.raises(ValueError, match=r"dog.0\.png cannot be read as an image"):
        read.train.load(torch.tensor([6]))
    (pictures / "val" / "cow").mkdir()
    (pictures / "val" / "cow" / "0.png").write_bytes(b"")
    with pytest.raises(ValueError, match="val has the class 'cow', which .*train has not"):
        data.get(pictures)
    with pytest.raises(ValueError, match="neither one of digits, cifar10, cifar100 nor a folder"):
        data.get("imagnet")


def test_bad_labels_and_empty_data_are_refused():
    images, labels = torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, 5])
    good, none = Tensors(images, labels), Tensors(images[:0], labels[:0])
    with pytest.raises(ValueError, match="the training labels must lie from 0 to 4"):
        Data("mine", 5, (0.0,) * 3, (1.0,) * 3, good, good)
    with pytest.raises(ValueError, match="mine has no validation images"):
        Data("mine", 6, (0.0,) * 3, (1.0,) * 3, good, none)
    single = Data("mine", 6, (0.0,) * 3, (1.0,) * 3, Tensors(images[:1], labels[:1]), good)
    with pytest.raises(ValueError, match="mine has a single training image"):
        train(tiny(), PLAIN, single, folder="never_made", **QUICK)


# --- the loop


SPACE_OF = {"rdarts_cifar10": "s4", "rlnas_imagenet": "mobilenet_v2", "tf_tas_imagenet": "autoformer_tiny"}
SIZE_OF = {"rlnas_imagenet": {}, "tf_tas_imagenet": {"patch": 16}}
RESOLUTION_OF = {"rlnas_imagenet": 64, "tf_tas_imagenet": 32}  # where the network takes other images than published


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains_on_digits(name, tmp_path):
    space = spaces.get(SPACE_OF.get(name, "darts"))
    few = data.digits(train=9, valid=4)
    size = SIZE_OF.get(name, {"channels": 2, "layers": 3})
    arch = "1" * 17 if name == "rlnas_imagenet" else space.sample(np.random.default_rng(1))
    recipe = RECIPES[name].short(2, batch=5, resolution=RESOLUTION_OF.get(name, RECIPES[name].resolution))
    torch.manual_seed(0)
    net = recipes.network(space, arch, recipe, 10, **size)
    before = {key: value.clone() for key, value in net.named_parameters()}
    history = train(net, recipe, few, folder=tmp_path, **QUICK)
    assert list(history.epoch) == [1, 2] and np.isfinite(history.to_numpy()).all()
    assert [value for value in history.learning_rate] == [learning_rate(recipe, e, 0, 2) for e in range(2)]
    moved = [not torch.equal(value, before[key]) for key, value in net.named_parameters()]
    assert sum(moved) > 0.9 * len(moved)
    assert not net.training and getattr(net, "drop_path", 0.0) == 0.0


def test_the_loss_goes_down(tmp_path):
    recipe = RECIPES["darts_cifar10"].short(6, batch=16)
    torch.manual_seed(0)
    net = recipes.network("darts", DARTS_V2, recipe, 10, channels=4, layers=3)
    history = train(net, recipe, data.digits(train=64, valid=20), folder=tmp_path, **QUICK)
    losses = history.train_loss.to_numpy()
    assert losses[-1] < 0.9 * losses[0], losses
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "history.csv"), history)
    figure, (loss, accuracy) = plt.subplots(1, 2)
    plots.plot_training(loss, history, "loss")
    plots.plot_training(accuracy, history)
    np.testing.assert_array_equal(loss.lines[0].get_ydata(), losses)
    np.testing.assert_array_equal(accuracy.lines[1].get_ydata(), history.valid_top1)
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == ("loss", "top-1 accuracy (%)")
    with pytest.raises(ValueError, match="unknown quantity 'f1'"):
        plots.plot_training(loss, history, "f1")
    plt.close(figure)


def test_one_epoch_by_hand(tmp_path):
    """The loop against its definition: same order, same images, plain SGD."""
    recipe = replace(PLAIN, epochs=2, tail=0, label_smoothing=0.1, clip=0.5)
    net = tiny()
    history = train(net, recipe, DIGITS, folder=tmp_path, seed=3, **QUICK)
    hand = tiny()
    momentum = [torch.zeros_like(p) for p in hand.parameters()]
    for epoch in range(2):
        hand.train()
        batches = loop._order(recipe, DIGITS, 3, epoch)
        assert [len(b) for b in batches] == [16, 16]  # 33 images: the one left over is left out
        total = 0.0
        for x, y in loop._images(recipe, DIGITS, batches, 3, epoch):
            hand.zero_grad()
            F.cross_entropy(logits := hand(x), y, label_smoothing=0.1).backward()
            total += F.cross_entropy(logits, y, reduction="sum").item()
            norm = torch.cat([p.grad.flatten() for p in hand.parameters()]).norm()
            rate = 0.0125 * (1 + math.cos(math.pi * epoch / 2))
            with torch.no_grad():
                for p, v in zip(hand.parameters(), momentum, strict=True):
                    v.mul_(0.9).add_(p.grad * min(1.0, 0.5 / norm) + 3e-4 * p)
                    p.sub_(rate * v)
        assert math.isclose(history.train_loss[epoch], total / 32, rel_tol=1e-5)
    torch.testing.assert_close(weights(net), weights(hand), rtol=1e-4, atol=1e-6)
    hand.eval()
    logits = hand(augment.validation(DIGITS.valid.load(torch.arange(20)), recipe, DIGITS.mean, DIGITS.std))
    assert math.isclose(history.valid_loss[1], F.cross_entropy(logits, DIGITS.valid.labels).item(), rel_tol=1e-4)
    assert math.isclose(history.valid_top5[1], metrics.top_k(logits, DIGITS.valid.labels, 5), rel_tol=1e-6)


def test_order_and_images_follow_from_seed_and_epoch():
    def epoch(seed, number, of=(0, 1)):
        order = torch.cat(loop._order(PLAIN, DIGITS, seed, number))
        same = loop._order(PLAIN, DIGITS, *of)  # the same images whatever the epoch, to see the augmentation alone
        return order, torch.cat([x for x, _ in loop._images(PLAIN, DIGITS, same, seed, number)])

    (order, images), (again, same) = epoch(0, 1), epoch(0, 1)
    assert torch.equal(order, again) and torch.equal(images, same)
    assert len(order.unique()) == 32
    for other in (epoch(0, 2), epoch(1, 1)):
        assert not torch.equal(order, other[0]) and not torch.equal(images, other[1])


def test_drop_path_rises_epoch_by_epoch(tmp_path):
    recipe = replace(PLAIN, epochs=4, drop_path=0.2)
    net = tiny()
    net.drop_path, seen = 0.05, []
    net.hook = lambda x: seen.append(net.drop_path) or x
    train(net, recipe, DIGITS, folder=tmp_path, **QUICK)
    np.testing.assert_allclose(seen[::2], [0.0, 0.05, 0.1, 0.15])
    assert net.drop_path == 0.05  # as the caller had it
    with pytest.raises(ValueError, match="the network has no attribute drop_path"):
        train(tiny(), recipe, DIGITS, folder=tmp_path, **QUICK)


def test_weight_decay_can_spare_the_norms():
    net = tiny()
    (all_weights,) = loop._groups(net, PLAIN)
    assert len(all_weights["params"]) == 6 and all_weights["weight_decay"] == 3e-4
    decayed, free = loop._groups(net, RECIPES["rlnas_imagenet"])
    assert {id(p) for p in free["params"]} == {id(p) for p in net.body[1].parameters()}
    assert (len(decayed["params"]), decayed["weight_decay"], free["weight_decay"]) == (4, 4e-5, 0.0)


def test_mixed_precision_runs_in_half_precision(tmp_path):
    kinds = []
    nets = []
    for mixed in (False, True):
        net = tiny()
        net.body[0].register_forward_hook(lambda m, x, y: kinds.append(y.dtype) if m.training else None)
        train(net, replace(PLAIN, epochs=1, mixed_precision=mixed), DIGITS, folder=tmp_path / str(mixed), **QUICK)
        nets.append(net)
    assert kinds == [torch.float32] * 2 + [torch.bfloat16] * 2
    assert nets[1].body[0].weight.dtype == torch.float32
    torch.testing.assert_close(weights(nets[0]), weights(nets[1]), rtol=0.1, atol=0.05)


def test_the_callers_random_state_is_left_alone(tmp_path):
    net = tiny()
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    train(net, PLAIN, DIGITS, folder=tmp_path, **QUICK)
    assert torch.equal(torch.rand(3), wanted)


# --- checkpoints


KILLED = """
    import os, signal, sys
    import numpy as np
    import torch

    torch.set_num_threads(1)
    from ncdlib import spaces
    from ncdlib.training import data, recipes
    from ncdlib.training import train

    recipe = recipes.RECIPES["rdarts_cifar10"].short(3, batch=8)
    arch = spaces.get("s4").sample(np.random.default_rng(0))
    torch.manual_seed(0)
    net = recipes.network("s4", arch, recipe, 10, channels=2, layers=3)
    steps = 0

    def count(module, inputs):
        global steps
        steps += module.training
        if steps == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)

    net.register_forward_pre_hook(count)
    train(net, recipe, data.digits(train=24, valid=8), folder=sys.argv[1], seed=4, device="cpu", progress=False)
"""


def test_a_killed_training_ends_with_the_same_weights(tmp_path):
    recipe = RECIPES["rdarts_cifar10"].short(3, batch=8)
    arch = spaces.get("s4").sample(np.random.default_rng(0))  # with noise, drop path and auxiliary head: all draw or weigh
    assert "noise" in str(arch)

    def run(folder):
        torch.manual_seed(0)
        net = recipes.network("s4", arch, recipe, 10, channels=2, layers=3)
        return net, train(net, recipe, data.digits(train=24, valid=8), folder=folder, seed=4, **QUICK)

    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path / "killed"), "5"]  # the second step of epoch 2
    environment = os.environ | {"PYTHONPATH": str(Path(training.__file__).parents[2])}
    assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
    stored = torch.load(tmp_path / "killed" / "checkpoint.pt", weights_only=True)
    assert [row["epoch"] for row in stored["history"]] == [1]
    (tmp_path / "killed" / "checkpoint.pt.partial").write_bytes(b"a write that was cut short")
    whole, history = run(tmp_path / "whole")
    resumed, continued = run(tmp_path / "killed")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    pd.testing.assert_frame_equal(history.drop(columns="seconds"), continued.drop(columns="seconds"), check_exact=True)
    torch.manual_seed(0)
    other = recipes.network("s4", arch, recipe, 10, channels=2, layers=3)
    train(other, recipe, data.digits(train=24, valid=8), folder=tmp_path / "seed", seed=5, **QUICK)
    assert not torch.equal(weights(other), weights(whole))


def test_a_finished_training_is_not_run_again(tmp_path):
    net = tiny()
    history = train(net, PLAIN, DIGITS, folder=tmp_path, **QUICK)
    again = tiny(1, hook=lambda x: pytest.fail("trained again"))
    pd.testing.assert_frame_equal(train(again, PLAIN, DIGITS, folder=tmp_path, **QUICK), history)
    assert torch.equal(weights(again), weights(net))


def swapped(arch, op=None):
    """The genotype with another source of its first edge, or with another operator there: weights of equal shapes."""
    (first, source), *rest = arch.normal
    return Genotype(((op or first, source if op else 1 - source), *rest), arch.reduce)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("seed", "seed: 0 there, 1 asked for"),
        ("recipe", "recipe learning_rate: 0.025 there, 0.05 asked for"),
        ("data", "data train: 33 images.* there, 20 images.* asked for"),
        ("source", r"network cells.0: Cell\(sources=\[0, .*there, Cell\(sources=\[1, "),
        ("operator", "network cells.0.edges.0: MaxPool2d.*there, AvgPool2d"),
        ("width", r"channels=12.* there, .*channels=18"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(case, message, tmp_path):
    arch = swapped(spaces.get("darts").parse(DARTS_V2), "max_pool_3x3")
    recipe = RECIPES["darts_cifar10"].short(1, batch=33)

    def run(arch, recipe, images=DIGITS, channels=4, seed=0):
        torch.manual_seed(0)
        net = recipes.network("darts", arch, recipe, 10, channels=channels, layers=3)
        train(net, recipe, images, folder=tmp_path, seed=seed, **QUICK)

    run(arch, recipe)
    changed = {
        "seed": lambda: run(arch, recipe, seed=1),
        "recipe": lambda: run(arch, replace(recipe, learning_rate=0.05)),
        "data": lambda: run(arch, recipe, images=data.digits(train=20, valid=20)),
        "source": lambda: run(swapped(arch), recipe),
        "operator": lambda: run(swapped(arch, "avg_pool_3x3"), recipe),
        "width": lambda: run(arch, recipe, channels=6),
    }[case]
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(ValueError, match=message):
        changed()
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


class Payload:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


def test_a_damaged_or_hostile_checkpoint_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "run"
    folder.mkdir()
    hostile = io.BytesIO()
    torch.save({"settings": Payload()}, hostile)
    other = io.BytesIO()
    torch.save([1, 2], other)
    for content in (b"", b"no checkpoint", pickle.dumps(Payload(), protocol=2), hostile.getvalue(), other.getvalue()):
        (folder / "checkpoint.pt").write_bytes(content)
        with pytest.raises(ValueError, match="checkpoint.pt is no checkpoint of a training: remove it"):
            train(tiny(), PLAIN, DIGITS, folder=folder, **QUICK)
    assert not Path("executed").exists()


def test_two_runs_do_not_share_a_folder(tmp_path):
    net = tiny()

    def second(x):
        net.hook = None
        with pytest.raises(checkpoint.Busy, match="another run trains in"):
            train(tiny(), PLAIN, DIGITS, folder=tmp_path, **QUICK)
        return x

    net.hook = second
    train(net, PLAIN, DIGITS, folder=tmp_path, **QUICK)
    assert net.hook is None


@pytest.mark.parametrize("bad", ["loss", "gradient"])
def test_a_diverged_training_stops_and_keeps_its_last_checkpoint(bad, tmp_path):
    steps = itertools.count(1)

    class Spoiled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return grad * math.inf

    def spoil(module, inputs, logits):
        if not module.training or next(steps) != 4:  # two steps an epoch
            return None
        return logits * math.nan if bad == "loss" else Spoiled.apply(logits)

    net = tiny()
    handle = net.register_forward_hook(spoil)
    with pytest.raises(NotFiniteLoss, match=r"epoch 2, step 2: the loss is .*checkpoint.pt holds epoch 1\. Try a lower"):
        train(net, PLAIN, DIGITS, folder=tmp_path / "a", **QUICK)
    handle.remove()
    stored = torch.load(tmp_path / "a" / "checkpoint.pt", weights_only=True)
    assert len(stored["history"]) == 1 and all(value.isfinite().all() for value in stored["net"].values())
    healthy, whole = tiny(), tiny()
    train(healthy, PLAIN, DIGITS, folder=tmp_path / "a", **QUICK)
    train(whole, PLAIN, DIGITS, folder=tmp_path / "b", **QUICK)
    assert torch.equal(weights(healthy), weights(whole))
    with pytest.raises(NotFiniteLoss, match="epoch 1, step 1: the loss is nan.*no epoch was finished"):
        train(tiny(hook=lambda x: x * math.nan), PLAIN, DIGITS, folder=tmp_path / "c", **QUICK)
    assert not (tmp_path / "c" / "checkpoint.pt").exists()


def test_a_negative_seed_is_refused(tmp_path):
    with pytest.raises(ValueError, match="seed must be at least 0, got -1"):
        train(tiny(), PLAIN, DIGITS, folder=tmp_path, seed=-1, **QUICK)


# --- the command


def test_one_command_trains_and_goes_on(pictures, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = [DARTS_V2, "--data", str(pictures), "--out", str(out), "--epochs", "2", "--batch", "6"]
    arguments += ["--channels", "2", "--layers", "3", "--device", "cpu"]
    assert command.main(arguments) == 0
    said = capsys.readouterr().out
    assert "arXiv:1806.09055" in said and "not verified: " in said and "valid_top1" in said
    assert {path.name for path in out.iterdir()} >= {"checkpoint.pt", "history.csv", "training.png", "training.svg"}
    history, begun = pd.read_csv(out / "history.csv"), (out / "checkpoint.pt").stat().st_mtime_ns
    assert command.main(arguments) == 0  # finished: nothing is trained again
    assert capsys.readouterr().out == said and (out / "checkpoint.pt").stat().st_mtime_ns == begun
    pd.testing.assert_frame_equal(pd.read_csv(out / "history.csv"), history)
    assert command.main([*arguments, "--seed", "1"]) == 1
    assert "seed: 0 there, 1 asked for" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["Genotype()", "--data", "digits"], "error: a genotype has the fields"),
        ([DARTS_V2, "--data", "nowhere"], "error: nowhere is neither one of"),
        ([DARTS_V2, "--recipe", "pcdarts_imagenet"], "error: pcdarts_imagenet needs --data, the folder where ImageNet"),
        ([DARTS_V2, "--data", "digits", "--epochs", "0"], "error: epochs must be a whole number of at least 1, got 0"),
        (
            ["1" * 17, "--space", "mobilenet_v2", "--data", "digits", "--channels", "2"],
            "error: the networks of mobilenet_v2 have no 'channels'",
        ),
    ],
)
def test_what_the_command_cannot_do_it_says(arguments, message, tmp_path, capsys):
    assert command.main([*arguments, "--out", str(tmp_path / "out")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
