"""Input batches: shape, scale, seeds, sources."""

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile

import numpy as np
import offline
from offline import DATA, needs
from PIL import Image
import pytest
from sklearn.datasets import load_digits, load_sample_images
import torch

from ncdlib import benchmarks, images
from ncdlib.benchmarks import files

needs_cifar10, needs_imagenet = needs("cifar10_first_1000.bin"), needs("imagenet-sample")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty data folder, no network, and nothing remembered of other folders, before and after."""

    def forget():
        images._labelled.cache_clear()
        images._photographs.cache_clear()

    forget()
    yield offline.use(tmp_path, monkeypatch)
    forget()


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


def archive(path, batches):
    """An archive like CIFAR-10's, with these records in each training batch. Returns its checksum."""
    with tarfile.open(path, "w:gz") as tar:
        for i, records in reversed(list(enumerate(batches, start=1))):
            info = tarfile.TarInfo(f"cifar-10-batches-bin/data_batch_{i}.bin")
            info.size = records.size
            tar.addfile(info, io.BytesIO(records.tobytes()))
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


def records_like_cifar10(count):
    rng = np.random.default_rng(0)
    return np.column_stack([rng.integers(10, size=count), rng.integers(256, size=(count, 3072))]).astype(np.uint8)


def standardised(pixels):
    """Each channel of (n, 3, height, width) with mean 0 and variance 1, in double precision."""
    pixels = pixels.astype(float)
    return (pixels - pixels.mean((0, 2, 3), keepdims=True)) / pixels.std((0, 2, 3), keepdims=True, ddof=1)


def matched(batch, source):
    """For each image of the batch the index of the nearest one of the source, and the largest difference from it."""
    source = torch.from_numpy(source)
    which = torch.cdist(batch.flatten(1).double(), source.flatten(1)).argmin(1)
    return which.numpy(), (batch - source[which]).abs().max().item()


def test_an_archive_is_read_in_the_order_of_its_names(tmp_path):
    records = records_like_cifar10(20)
    archive(tmp_path / "made-up.tar.gz", records.reshape(5, 4, 3073))
    training = images.read_cifar(images.archived(tmp_path / "made-up.tar.gz", "/data_batch_"), 1, "made-up")
    assert torch.equal(training.images, torch.from_numpy(records[:, 1:].reshape(20, 3, 32, 32)))
    assert training.labels.tolist() == records[:, 0].tolist()


def test_cifar10_is_the_first_thousand_records_of_the_archive(folder, monkeypatch):
    records = records_like_cifar10(1200)
    checksum = archive(folder / "cifar-10-binary.tar.gz", [records, records[::-1]])
    monkeypatch.setitem(files.PUBLIC.registry, "cifar-10-binary.tar.gz", checksum)
    batch, labels = images.batch("cifar10", 1000, seed=3), images.labels("cifar10", 1000, seed=3)
    which, difference = matched(batch, standardised(records[:1000, 1:].reshape(1000, 3, 32, 32)))
    assert difference < 1e-4 and sorted(which) == list(range(1000))  # each record once
    assert labels.tolist() == records[which, 0].tolist()


@needs_cifar10
def test_the_cut_of_the_archive_gives_the_same_batch_as_the_archive(folder, monkeypatch):
    raw = (DATA / "cifar10_first_1000.bin").read_bytes()
    records = np.frombuffer(raw, np.uint8).reshape(1000, 3073)
    checksum = archive(folder / "cifar-10-binary.tar.gz", [np.concatenate([records, records[:50]])])
    monkeypatch.setitem(files.PUBLIC.registry, "cifar-10-binary.tar.gz", checksum)
    whole = images.batch("cifar10", 40, seed=1), images.labels("cifar10", 40, seed=1)
    (folder / "cifar-10-binary.tar.gz").unlink()
    images._labelled.cache_clear()
    shutil.copy(DATA / "cifar10_first_1000.bin", folder)
    cut = images.batch("cifar10", 40, seed=1), images.labels("cifar10", 40, seed=1)
    assert torch.equal(whole[0], cut[0]) and torch.equal(whole[1], cut[1])
    which, difference = matched(cut[0], standardised(records[:, 1:].reshape(1000, 3, 32, 32)))
    assert difference < 1e-4 and len(set(which)) == 40
    assert cut[1].tolist() == records[which, 0].tolist()


@needs_imagenet
@pytest.mark.parametrize("resolution", [16, 32])
def test_imagenet_is_128_photographs_cropped_at_the_centre(resolution):
    pixels = []
    for path in sorted((DATA / "imagenet-sample").glob("*.JPEG")):
        image = Image.open(path).convert("RGB")
        side = min(image.size)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        how = Image.Resampling.BOX if resolution == 16 else Image.Resampling.BILINEAR
        resized = image.resize((resolution, resolution), how, (left, top, left + side, top + side))
        pixels.append(np.asarray(resized).transpose(2, 0, 1))
    batch = images.batch("imagenet", 128, seed=2, resolution=resolution)
    assert torch.allclose(batch.mean((0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(batch.std((0, 2, 3)), torch.ones(3), atol=1e-5)
    which, difference = matched(batch, standardised(np.stack(pixels)))
    assert difference < 1e-4 and len(set(which)) == 128
    assert not torch.equal(batch, images.batch("imagenet", 128, seed=3, resolution=resolution))


@pytest.mark.parametrize("wide", [True, False])
def test_sixteen_pixels_are_the_means_of_square_blocks_of_the_centre(tmp_path, wide):
    pixels = np.random.default_rng(0).integers(256, size=(48, 80, 3), dtype=np.uint8)
    pixels[:, :16] = pixels[:, 64:] = 0  # outside the centre
    pixels = pixels if wide else pixels.transpose(1, 0, 2)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    read = images.opened(tmp_path / "image.png", 16).permute(1, 2, 0).numpy()
    centre = (pixels[:, 16:64] if wide else pixels[16:64]).astype(float)
    assert np.abs(read - centre.reshape(16, 3, 16, 3, 3).mean((1, 3))).max() <= 1  # rounded twice
    assert images.opened(tmp_path / "image.png").shape == (3, *pixels.shape[:2])


def test_labels_belong_to_the_images_of_the_same_seed():
    batch, labels = images.batch("digits", 20, seed=3, resolution=8), images.labels("digits", 20, seed=3)
    source = load_digits()
    standardised = (source.images - source.images.mean()) / source.images.std(ddof=1)
    for image, label in zip(batch, labels, strict=True):
        which = np.abs(standardised - image[0].numpy()).max((1, 2)).argmin()
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
        ({"kind": "digits", "n": 2000}, "digits has 1797 images, fewer than a batch of 2000"),
        ({"kind": "cifar10", "n": 1001}, "cifar10 has 1000 images, fewer than a batch of 1001"),
        ({"kind": "imagenet", "n": 129}, "imagenet has 128 images, fewer than a batch of 129"),
        ({"n": True}, "n must be a whole number of at least 1, got True"),
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
    ],
)
def test_bad_input(folder, arguments, message):
    with pytest.raises(ValueError, match=message):
        images.batch(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "svhn"}, "unknown input 'svhn'"),
        ({"n": -1}, "n must be a whole number of at least 1, got -1"),
        ({"classes": 0}, "classes must be a whole number of at least 1, got 0"),
        ({"kind": "cifar10", "n": 1001}, "cifar10 has 1000 images"),
        ({"kind": "cifar10", "classes": 9}, "cifar10 has 10 classes, the network 9"),
    ],
)
def test_bad_input_for_labels(folder, arguments, message):
    with pytest.raises(ValueError, match=message):
        images.labels(**arguments)


def test_values_of_another_type_are_named():
    """In a process of its own, because the tests check the types of all arguments before the function does."""
    calls = [
        ("batch(kind=['digits'])", "unknown input ['digits']"),
        ("batch(n=1e12)", "n must be a whole number of at least 1, got 1000000000000.0"),
        ("batch(seed=None)", "seed must be a whole number of at least 0, got None"),
        ("labels(seed=None)", "seed must be a whole number of at least 0, got None"),
        ("labels(classes=2.5)", "classes must be a whole number of at least 1, got 2.5"),
    ]
    code = "from ncdlib.images import *"
    for call, _ in calls:
        code += f"\ntry:\n    {call}\nexcept ValueError as error:\n    print(error)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == len(calls)
    for line, (_, message) in zip(lines, calls, strict=True):
        assert line.startswith(message)


def test_numbers_may_come_from_a_table():
    plain = images.batch("digits", 3, 2, 16), images.labels("digits", 3, 2), images.labels("gaussian", 3, 2, 5)
    n, seed, resolution, classes = np.array([3, 2, 16, 5])
    assert torch.equal(images.batch("digits", n, seed, resolution), plain[0])
    assert torch.equal(images.labels("digits", n, seed), plain[1])
    assert torch.equal(images.labels("gaussian", n, seed, classes), plain[2])


# --- no source is replaced by another -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind, file", [("cifar10", "cifar-10-binary.tar.gz"), ("imagenet", "imagenet-sample/n01440764_")])
def test_images_that_are_absent_are_an_error(folder, kind, file):
    with pytest.raises(benchmarks.MissingData, match=f"{file}.* is not in {folder}.*no network in this test"):
        images.batch(kind, 4)
    assert offline.files_in(folder) == []


@needs_cifar10
def test_a_cut_that_was_altered_is_an_error_even_beside_the_archive(folder, monkeypatch):
    checksum = archive(folder / "cifar-10-binary.tar.gz", [records_like_cifar10(1000)])
    monkeypatch.setitem(files.PUBLIC.registry, "cifar-10-binary.tar.gz", checksum)
    (folder / "cifar10_first_1000.bin").write_bytes((DATA / "cifar10_first_1000.bin").read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"is not the published cifar10_first_1000\.bin"):
        images.batch("cifar10", 4)


@needs_imagenet
@pytest.mark.parametrize("broken", ["truncated", "absent"])
def test_one_photograph_that_is_truncated_or_absent_is_an_error(folder, broken):
    shutil.copytree(DATA / "imagenet-sample", folder / "imagenet-sample", copy_function=os.symlink)
    last = sorted((folder / "imagenet-sample").iterdir())[-1]
    content = last.read_bytes()
    last.unlink()
    if broken == "truncated":
        last.write_bytes(content[: len(content) // 2])
    expected = f"is not the published .*{last.name}" if broken == "truncated" else f"{last.name} is not in"
    with pytest.raises((ValueError, benchmarks.MissingData), match=expected):
        images.batch("imagenet", 4, resolution=16)


def test_an_image_file_that_is_none(tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "whole.png")
    content = (tmp_path / "whole.png").read_bytes()
    bad = {"cut.png": content[: len(content) // 2], "junk.jpg": b"junk", "empty.png": b""}
    bad["eps.png"] = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    for name, raw in bad.items():
        (tmp_path / name).write_bytes(raw)
        with pytest.raises(ValueError, match=f"{name} cannot be read as an image"):
            images.opened(tmp_path / name)


def test_an_image_of_too_many_pixels_is_refused(tmp_path, monkeypatch):
    Image.new("1", (300, 300)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40_000)  # Pillow refuses twice this number
    with pytest.raises(ValueError, match=r"large\.png cannot be read as an image: .*90000 pixels"):
        images.opened(tmp_path / "large.png")


@pytest.mark.parametrize("raw", [b"", b"junk", bytes(3074)])
def test_records_that_are_not_whole(raw):
    with pytest.raises(ValueError, match="made-up holds no whole records of 3073 bytes"):
        images.read_cifar(raw, 1, "made-up")


def test_an_archive_that_is_cut_short_or_none(tmp_path):
    archive(tmp_path / "whole.tar.gz", np.zeros((5, 4, 3073), np.uint8))
    content = (tmp_path / "whole.tar.gz").read_bytes()
    for name, raw in {"cut": content[: len(content) // 2], "junk": b"junk"}.items():
        (tmp_path / name).write_bytes(raw)
        with pytest.raises(ValueError, match=f"{name} cannot be read as an archive"):
            images.archived(tmp_path / name, "/data_batch_")
