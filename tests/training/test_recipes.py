"""Recipes: the published values, schedules, networks, bad input."""

from dataclasses import asdict, replace
import math

import numpy as np
import pytest
from small_training import DARTS_V2
import torch
from torch import nn

from ncdlib import spaces
from ncdlib.training import recipes
from ncdlib.training.recipes import RECIPES, learning_rate


def test_published_values():
    table = {  # epochs, batch size, rate, weight decay, smoothing, auxiliary, drop path, cutout, channels, layers
        "darts_cifar10": (600, 96, 0.025, 3e-4, 0.0, 0.4, 0.2, 16, 36, 20),
        "darts_cifar100": (600, 96, 0.025, 3e-4, 0.0, 0.4, 0.2, 16, 36, 20),
        "rdarts_cifar10": (600, 96, 0.025, 3e-4, 0.0, 0.4, 0.2, 16, None, None),
        "darts_imagenet": (250, 128, 0.1, 3e-5, 0.1, 0.4, 0.0, 0, 48, 14),
        "pcdarts_imagenet": (250, 1024, 0.5, 3e-5, 0.1, 0.4, 0.0, 0, 48, 14),
        "rlnas_imagenet": (240, 1024, 0.5, 4e-5, 0.1, 0.0, 0.0, 0, None, None),
        "tf_tas_imagenet": (300, 2048, 0.002, 0.05, 0.1, 0.0, 0.0, 0, None, None),
    }
    names = ("epochs", "batch_size", "lr", "weight_decay", "label_smoothing", "auxiliary_weight", "drop_path", "cutout")
    stated = {name: tuple(asdict(r)[key] for key in (*names, "channels", "layers")) for name, r in RECIPES.items()}
    assert stated == table
    by_sgd = [r for r in RECIPES.values() if r.optimiser == "sgd"]
    assert all(r.momentum == 0.9 and r.grad_clip == 5 for r in by_sgd)
    assert not any(r.mixup or r.cutmix or r.random_erasing or r.rand_augment for r in by_sgd)
    assert all(r.source and r.unverified for r in RECIPES.values()) and len(by_sgd) == len(RECIPES) - 1
    vit = RECIPES["tf_tas_imagenet"]
    assert (vit.mixup, vit.cutmix, vit.random_erasing, vit.rand_augment) == (0.8, 1.0, 0.25, 9)
    assert (vit.stochastic_depth, vit.grad_clip, vit.interpolation) == (0.1, math.inf, "bicubic")


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
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], recipe.lr)
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
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], recipe.lr)
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
    short = RECIPES["pcdarts_imagenet"].short(50, batch_size=8)
    assert (short.epochs, short.warmup_epochs, short.tail_epochs, short.batch_size, short.grad_clip) == (50, 1, 1, 8, 5.0)
    assert all(learning_rate(RECIPES[name].short(n), n - 1, 0, 1) > 0 for name in RECIPES for n in (1, 2, 3, 10))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs must be a whole number from 1 up to, not including, inf: got 0"),
        ({"batch_size": 1}, "batch_size must be a whole number from 2 up to, not including, inf: got 1"),
        ({"lr": math.inf}, "lr must be above 0 and finite, got inf"),
        ({"weight_decay": -1e-4}, "weight_decay must be a number from 0 up to, not including, inf: got -0.0001"),
        ({"drop_path": 1.0}, "drop_path must be a number from 0 up to, not including, 1: got 1.0"),
        ({"schedule": "step"}, "unknown schedule 'step': use one of cosine, linear, linear_by_step, exponential"),
        ({"augmentation": "mixup"}, "unknown augmentation 'mixup': use one of crop, resize"),
        ({"interpolation": "box"}, "unknown interpolation 'box': use one of bilinear, bicubic"),
        ({"warmup_epochs": 601}, "600 epochs have no room for warmup_epochs = 601"),
        ({"tail_epochs": 600}, "600 epochs have no room for .* tail_epochs = 600: use recipe.short"),
        ({"decayed": "some"}, "unknown decayed 'some': use one of all, all except norms, matrices"),
        ({"optimiser": "lamb"}, "unknown optimiser 'lamb': use one of sgd, adamw"),
        ({"grad_clip": 0.0}, "grad_clip must be above 0, or math.inf for no limit: got 0.0"),
        ({"min_lr": 0.1}, "min_lr must lie from 0 to lr = 0.025, got 0.1"),
        ({"warmup_lr": 0.1}, "warmup_lr must lie from 0 to lr = 0.025, got 0.1"),
        ({"mixup": -0.1}, "mixup must be a number from 0 up to, not including, inf: got -0.1"),
        ({"rand_augment": 11}, "rand_augment must be a whole number from 0 up to, not including, 11: got 11"),
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
