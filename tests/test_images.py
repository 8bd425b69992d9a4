"""Input batches: shape, scale, seeds, sources."""

import io
import tarfile

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_sample_images
import torch

from ncdlib import images


@pytest.mark.parametrize("kind", ["gaussian", "patches", "digits"])
def test_shape_scale_and_seed(kind):
    batch = images.batch(kind, 48, seed=3)
    assert batch.shape == (48, 3, 32, 32) and batch.dtype == torch.float32 and batch.is_contiguous()
    assert torch.equal(batch, images.batch(kind, 48, seed=3))
    assert not torch.equal(batch, images.batch(kind, 48, seed=4))
    assert abs(batch.mean().item()) < 0.4 and 0.5 < batch.std().item() < 1.5
    assert len(batch.flatten(1).unique(dim=0)) == 48
    assert images.batch(kind, 2, resolution=16).shape == (2, 3, 16, 16)


def test_patches_are_cut_from_the_photographs():
    photographs = torch.from_numpy(np.stack(load_sample_images().images)).permute(0, 3, 1, 2).float()
    mean, std = photographs.mean((0, 2, 3)), photographs.std((0, 2, 3))
    patch = images.batch("patches", 1, seed=0, resolution=8)[0] * std.view(3, 1, 1) + mean.view(3, 1, 1)
    windows = photographs.unfold(2, 8, 1).unfold(3, 8, 1).permute(0, 2, 3, 1, 4, 5)
    assert (windows - patch.round()).abs().amax((3, 4, 5)).min() < 0.1


def test_digits_are_scikit_learns():
    digits = torch.from_numpy(load_digits().images).float()
    drawn = images.batch("digits", 4, resolution=8)[:, 0] * digits.std() + digits.mean()
    nearest = (digits[None] - drawn[:, None]).abs().amax((2, 3)).min(1).values
    assert nearest.max() < 1e-3


def test_cifar10_is_read_from_the_binary_archive(tmp_path):
    pixels = np.random.default_rng(0).integers(256, size=(5, 4, 3072), dtype=np.uint8)
    path = tmp_path / "cifar-10-binary.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for i, part in enumerate(pixels, start=1):
            raw = np.column_stack([np.full(4, i, np.uint8), part]).tobytes()
            info = tarfile.TarInfo(f"cifar-10-batches-bin/data_batch_{i}.bin")
            info.size = len(raw)
            archive.addfile(info, io.BytesIO(raw))
    training = images.read_cifar(images.archived(path, "/data_batch_"), 1, str(path))
    read, labels = training.images, training.labels
    assert read.shape == (20, 3, 32, 32)
    assert torch.equal(read, torch.from_numpy(pixels.reshape(20, 3, 32, 32)))
    assert labels.tolist() == [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4 + [5] * 4


def test_labels_belong_to_the_images_of_the_same_seed():
    batch, labels = images.batch("digits", 20, seed=3, resolution=8, channels=1), images.labels("digits", 20, seed=3)
    source = load_digits()
    standardised = (source.images - source.images.mean()) / source.images.std(ddof=1)
    for image, label in zip(batch, labels, strict=True):
        which = np.abs(standardised - image.numpy()).max((1, 2)).argmin()
        assert source.target[which] == label


def test_images_without_classes_get_some_of_every_class_decided_by_the_seed():
    drawn = images.labels("gaussian", 300, seed=5, classes=7)
    assert set(drawn.tolist()) == set(range(7))
    assert torch.equal(drawn, images.labels("patches", 300, seed=5, classes=7))
    assert not torch.equal(drawn, images.labels("gaussian", 300, seed=6, classes=7))


def test_a_network_of_too_few_classes_has_no_true_labels():
    with pytest.raises(ValueError, match="digits has 10 classes, the network 3: build it with 10, or use gaussian images"):
        images.labels("digits", 4, classes=3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "svhn"}, "unknown input 'svhn': use one of gaussian, patches, digits, cifar10, imagenet"),
        ({"n": 0}, "n must be a whole number of at least 1, got 0"),
        ({"resolution": -1}, "resolution must be a whole number"),
        ({"kind": "patches", "resolution": 500}, "the photographs are 427 pixels high"),
        ({"kind": "patches", "channels": 1}, "the photographs have 3 channels, not 1"),
        ({"kind": "digits", "n": 2000}, "digits has 1797 images, fewer than a batch of 2000"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        images.batch(**arguments)
