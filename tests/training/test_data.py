"""The images to train on: digits, CIFAR, folders, bad input."""

import io
import tarfile

import numpy as np
from PIL import Image
import pytest
from small_training import DIGITS
import torch

from ncdlib import benchmarks
from ncdlib.images import Tensors
from ncdlib.training import data
from ncdlib.training.data import Data


def test_digits_are_split_once_and_for_all():
    whole = data.digits()
    assert len(whole.train.labels) + len(whole.valid.labels) == 1797
    assert torch.equal(whole.train.images[:33], DIGITS.train.images)
    assert torch.equal(whole.train.labels[:33], DIGITS.train.labels)
    assert DIGITS.train.images.shape == (33, 3, 32, 32) and DIGITS.train.images.dtype == torch.uint8
    both = torch.cat([whole.train.images, whole.valid.images])[:, 0].flatten(1)
    assert len(both.unique(dim=0)) == 1797  # none in both parts
    pixels = whole.train.images.double() / 255
    assert abs(pixels.mean() - whole.mean[0]) < 1e-4 and abs(pixels.std() - whole.std[0]) < 1e-4
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
    files = {"cifar-10-binary.tar.gz": ten, "cifar-100-binary.tar.gz": hundred}
    monkeypatch.setattr(benchmarks, "fetch", lambda name, progress: files[name])
    small, large = data.get("cifar10"), data.get("cifar100")
    assert torch.equal(small.train.images, torch.from_numpy(pixels[:2].reshape(8, 3, 32, 32)))
    assert small.train.labels.tolist() == [1] * 4 + [2] * 4 and small.valid.labels.tolist() == [9] * 4
    assert torch.equal(large.valid.images, torch.from_numpy(pixels[1].reshape(4, 3, 32, 32)))
    assert large.train.labels.tolist() == [42] * 4 and large.valid.labels.tolist() == [99] * 4  # the fine label
    assert (small.classes, large.classes) == (10, 100)


def test_an_image_folder(pictures):
    (pictures / "train" / "cat" / "notes.txt").write_text("no image")
    read = data.get(str(pictures))
    assert read.classes == 2
    assert read.train.labels.tolist() == [0] * 6 + [1] * 6 and read.valid.labels.tolist() == [0] * 3 + [1] * 3
    first, second = read.train.images[1], read.train.images[6]
    assert torch.equal(first, torch.from_numpy(np.array(Image.open(pictures / "train/cat/1.png"))).permute(2, 0, 1))
    assert second.shape == (3, 32, 32) and torch.equal(second[0], second[2])  # grey in every channel
    (pictures / "train/dog/0.png").write_bytes(b"\x89PNG cut short")
    with pytest.raises(ValueError, match=r"dog.0\.png cannot be read as an image"):
        read.train.images[6]


def test_a_folder_of_another_layout_is_refused(pictures):
    (pictures / "val" / "cow").mkdir()
    (pictures / "val" / "cow" / "0.png").write_bytes(b"")
    with pytest.raises(ValueError, match="val has the class 'cow', which .*train has not: both need the same classes"):
        data.get(pictures)
    (pictures / "val" / "cow" / "0.png").unlink()
    with pytest.raises(FileNotFoundError, match="Found no valid file for the classes cow"):
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
