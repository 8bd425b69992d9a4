"""Batches of augmented images: what is drawn for an image follows from the seed, the epoch and its index alone."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
import os

from jaxtyping import Float, Int
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from ncdlib.images import Tensors
from ncdlib.training import augmentation
from ncdlib.training.data import Data, Files
from ncdlib.training.recipes import Recipe

WORKERS = 8  # processes, at most, that prepare images for a GPU
IMAGES, MIXTURES = 1, 2  # draws of one epoch that must not be the same

Batch = tuple[Float[Tensor, "n 3 r r"], Int[Tensor, " n"] | Float[Tensor, "n classes"]]


def order(recipe: Recipe, data: Data, seed: int, epoch: int) -> list[list[int]]:
    """The indices of each batch of an epoch. A single image left over is left out: it has no variance for BatchNorm."""
    shuffled = np.random.default_rng((seed, epoch)).permutation(len(data.train.labels)).tolist()
    batches = [shuffled[i : i + recipe.batch_size] for i in range(0, len(shuffled), recipe.batch_size)]
    return [batch for batch in batches if len(batch) > 1]


def training(
    recipe: Recipe, data: Data, order: list[list[int]], seed: int, epoch: int, device: torch.device
) -> Iterator[Batch]:
    """Augmented, standardised and, where the recipe says so, mixed images and their labels."""
    transform = augmentation.training(recipe, data.mean, data.std)
    mix = augmentation.mixing(recipe, data.classes)
    images = Augmented(data.train, recipe, transform, (seed, epoch, IMAGES))
    for step, (x, labels) in enumerate(_loader(images, order, device)):
        with seeded(seed, epoch, MIXTURES, step):
            x, labels = mix(x, labels)
        yield x, labels


def validation(recipe: Recipe, data: Data, device: torch.device) -> Iterator[Batch]:
    """The validation images, standardised, in their order."""
    transform = augmentation.validation(recipe, data.mean, data.std)
    batches = torch.arange(len(data.valid.labels)).split(recipe.batch_size)
    yield from _loader(Augmented(data.valid, recipe, transform, ()), [batch.tolist() for batch in batches], device)


class Augmented(Dataset):
    """Transformed images and their labels; each image is transformed with draws of its own."""

    def __init__(self, split: Tensors | Files, recipe: Recipe, transform: v2.Transform, key: tuple[int, ...]) -> None:
        self.split, self.transform, self.key = split, transform, key
        self.shape = (3, recipe.resolution, recipe.resolution) if recipe.augmentation == "crop" else None

    def __getitem__(self, index: int) -> tuple[Float[Tensor, "3 r r"], Int[Tensor, ""]]:
        image = self.split.images[index]
        if self.shape and image.shape != self.shape:
            raise ValueError(f"the recipe reads images of {self.shape}, got {tuple(image.shape)}")
        with seeded(*self.key, index):
            return self.transform(image), self.split.labels[index]


def _loader(images: Augmented, order: Sequence[list[int]], device: torch.device) -> DataLoader:
    """On a CPU the images are prepared by the process that trains: it needs the cores itself."""
    gpu = device.type == "cuda"
    workers = min(WORKERS, os.cpu_count() or 1) if gpu else 0
    return DataLoader(images, batch_sampler=order, num_workers=workers, pin_memory=gpu)


def derived(*key: int) -> int:
    """A seed for torch out of several numbers."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """While open, torch's global generator on the CPU draws what follows from the key; afterwards it goes on as before."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derived(*key))
        yield
