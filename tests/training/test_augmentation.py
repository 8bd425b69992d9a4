"""Augmentation and batches: the pipeline is what the recipe says, and the seeds decide it."""

from dataclasses import replace
from itertools import chain
import math

import numpy as np
import pytest
from small_training import DIGITS, PLAIN, draw
import torch
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from ncdlib.images import Tensors
from ncdlib.training import augmentation, batches
from ncdlib.training.data import Data
from ncdlib.training.recipes import RECIPES

CPU = torch.device("cpu")
STATISTICS = (0.5, 0.4, 0.3), (0.2, 0.25, 0.5)  # mean, standard deviation


def steps(name):
    return list(augmentation.training(RECIPES[name], *STATISTICS).transforms)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("darts_cifar10", "RandomCrop RandomHorizontalFlip ToDtype Normalize Cutout"),
        ("darts_imagenet", "RandomResizedCrop RandomHorizontalFlip ColorJitter ToDtype Normalize"),
        ("rlnas_imagenet", "RandomResizedCrop RandomHorizontalFlip ToDtype Normalize"),
        (
            "tf_tas_imagenet",
            "RandomResizedCrop RandomHorizontalFlip RandomApply RandomApply ToDtype Normalize RandomErasing",
        ),
    ],
)
def test_the_pipeline_is_the_recipes(name, wanted):
    assert " ".join(type(step).__name__ for step in steps(name)) == wanted


def test_the_settings_of_the_pipeline_are_the_recipes():
    crop, *_, cutout = steps("darts_cifar10")
    assert (crop.size, crop.padding, cutout.side) == ((32, 32), [4, 4, 4, 4], 16)
    part, _, jitter, *_ = steps("darts_imagenet")
    assert (part.size, tuple(part.scale), tuple(part.ratio)) == ((224, 224), (0.08, 1.0), (3 / 4, 4 / 3))
    assert (jitter.brightness, jitter.contrast, jitter.saturation) == ((0.6, 1.4),) * 3 and jitter.hue == (-0.2, 0.2)
    part, _, first, second, _, normalise, erasing = steps("tf_tas_imagenet")
    assert part.interpolation is v2.InterpolationMode.BICUBIC and first is second and first.p == 0.5
    (operation,) = first.transforms
    assert (operation.num_ops, operation.magnitude, operation.num_magnitude_bins) == (1, 9, 11)
    assert operation.fill == [128, 102, 76]  # the mean colour
    assert (erasing.p, erasing.value, erasing.scale, erasing.ratio) == (0.25, None, (0.02, 1 / 3), (0.3, 10 / 3))
    assert (tuple(normalise.mean), tuple(normalise.std)) == STATISTICS


@pytest.mark.parametrize(
    ("change", "wanted"),
    [({"mixup": 0.8}, {"MixUp": 0.8}), ({"cutmix": 1.0}, {"CutMix": 1.0}), ({}, {})],
)
def test_batches_are_mixed_as_the_recipe_says(change, wanted):
    mix = augmentation.mixing(replace(PLAIN, **change), 10)
    assert {type(kind).__name__: kind.alpha for kind in getattr(mix, "transforms", [])} == wanted
    x, labels = torch.rand(4, 3, 8, 8, generator=draw()), torch.tensor([0, 1, 2, 3])
    torch.manual_seed(2)
    mixed, shares = mix(x, labels)
    if not wanted:
        assert mixed is x and shares is labels
    else:
        assert shares.shape == (4, 10) and not torch.equal(mixed, x)
        torch.testing.assert_close(shares.sum(1), torch.ones(4))


def test_half_of_the_batches_are_cut_and_half_blended():
    mix = augmentation.mixing(replace(PLAIN, mixup=0.8, cutmix=1.0), 6)
    x = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 3, 12, 9)  # image i is i everywhere: a blend is flat
    torch.manual_seed(0)
    cut = sum(len(mix(x, torch.arange(6))[0][1].unique()) == 2 for _ in range(400))
    assert abs(cut - 200) < 4 * math.sqrt(100) + 20  # a cut that takes all or nothing looks flat


def test_cutout_covers_the_square_around_a_pixel():
    n, size, side = 3000, 32, 16
    torch.manual_seed(0)
    cutout = augmentation.Cutout(side)
    gone = torch.stack([cutout(torch.ones(3, size, size)) for _ in range(n)]) == 0
    assert (gone[:, 0] == gone[:, 1]).all() and (gone[:, 0] == gone[:, 2]).all()
    lengths = [min(size, at + side // 2) - max(0, at - side // 2) for at in range(size)]  # clipped at the border
    areas = gone[:, 0].flatten(1).sum(1).numpy()
    possible = np.multiply.outer(lengths, lengths).ravel()
    assert set(areas) <= set(possible) and areas.max() == side**2
    assert abs(areas.mean() - possible.mean()) < 4 * possible.std() / math.sqrt(n)
    rows, columns = gone[:, 0].any(2), gone[:, 0].any(1)
    assert torch.equal(gone[:, 0], rows[:, :, None] & columns[:, None, :])  # a rectangle


def test_validation_takes_the_middle():
    recipe = RECIPES["darts_imagenet"]
    image = torch.randint(256, (3, 256, 300), dtype=torch.uint8, generator=draw())
    transform = augmentation.validation(recipe, (0.0,) * 3, (1.0,) * 3)
    torch.testing.assert_close(transform(image), image[:, 16:240, 38:262] / 255)
    assert transform(image[:, :20, :90]).shape == (3, 224, 224)


def test_validation_images_are_standardised_in_their_order():
    x, labels = (torch.cat(parts) for parts in zip(*batches.validation(PLAIN, DIGITS, CPU), strict=True))
    assert torch.equal(labels, DIGITS.valid.labels)
    torch.testing.assert_close(x, (DIGITS.valid.images / 255 - DIGITS.mean[0]) / DIGITS.std[0])


def test_images_of_another_size_are_refused():
    few = Tensors(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"reads images of \(3, 32, 32\), got \(3, 8, 8\)"):
        next(batches.validation(PLAIN, Data("mine", 2, (0.5,) * 3, (1.0,) * 3, few, few), CPU))


def test_order_and_images_follow_from_seed_and_epoch():
    def epoch(seed, number):
        order = batches.order(PLAIN, DIGITS, seed, number)
        same = batches.order(PLAIN, DIGITS, 0, 1)  # the same images whatever the epoch, to see the augmentation alone
        return [*chain(*order)], torch.cat([x for x, _ in batches.training(PLAIN, DIGITS, same, seed, number, CPU)])

    (order, images), (again, same) = epoch(0, 1), epoch(0, 1)
    assert order == again and torch.equal(images, same)
    assert len(set(order)) == 32  # 33 images: the one left over is left out
    for other in (epoch(0, 2), epoch(1, 1)):
        assert order != other[0] and not torch.equal(images, other[1])


def test_an_image_is_the_same_in_every_batch_and_process():
    recipe = RECIPES["tf_tas_imagenet"].short(2, resolution=16)
    transform = augmentation.training(recipe, DIGITS.mean, DIGITS.std)
    images = batches.Augmented(DIGITS.train, recipe, transform, (3, 1))
    alone = torch.stack([images[i][0] for i in range(8)])
    assert len(alone.unique(dim=0)) == 8
    order = [[7, 2, 0], [1, 3], [6, 5, 4]]
    apart = DataLoader(images, batch_sampler=order, num_workers=2, multiprocessing_context="fork")
    for chosen, (x, labels) in zip(order, apart, strict=True):
        assert torch.equal(x, alone[chosen]) and torch.equal(labels, DIGITS.train.labels[chosen])


def test_the_networks_draws_do_not_depend_on_the_images():
    def drawn(recipe):
        torch.manual_seed(5)
        order = batches.order(recipe, DIGITS, 0, 0)
        return [torch.rand(1).item() for _ in batches.training(recipe, DIGITS, order, 0, 0, CPU)]

    assert drawn(PLAIN) == drawn(replace(PLAIN, cutout=0, rand_augment=9, random_erasing=0.5, mixup=1.0))
