"""The transforms of a recipe, from torchvision: images of bytes in, standardised numbers out.

Every draw comes from torch's global generator on the CPU.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, v2

from ncdlib.training.recipes import Recipe

PADDING = 4
ENLARGED = 256 / 224  # ImageNet's validation images are resized to 256 and cropped to 224
LEVELS = 11  # RandAugment's magnitudes, 0 to 10


def training(recipe: Recipe, mean: Sequence[float], std: Sequence[float]) -> v2.Transform:
    """What a recipe does to an image (3, h, w) that is trained on.

    - RandAugment (Cubuk et al. 2020, arXiv:1909.13719) draws two operations; each acts with probability 1/2, as in the
      published code of vision transformers, which is timm's (`rand-m9-mstd0.5-inc1`). Corners are filled with the mean.
    - Random erasing (Zhong et al. 2020, arXiv:1708.04896) replaces a rectangle, 2% to 33% of the area and 3:10 to 10:3 in
      shape, by normal noise.
    """
    if recipe.augmentation == "crop":
        steps = [v2.RandomCrop(recipe.resolution, padding=PADDING)]
    else:
        steps = [v2.RandomResizedCrop(recipe.resolution, interpolation=InterpolationMode(recipe.interpolation))]
    steps.append(v2.RandomHorizontalFlip())
    if recipe.rand_augment:
        fill = [round(255 * value) for value in mean]
        operation = v2.RandAugment(1, recipe.rand_augment, LEVELS, InterpolationMode.BILINEAR, fill)
        steps += 2 * [v2.RandomApply([operation], p=0.5)]
    if any(recipe.color_jitter):
        steps.append(v2.ColorJitter(*recipe.color_jitter))
    steps += _standardised(mean, std)
    if recipe.cutout:
        steps.append(Cutout(recipe.cutout))
    if recipe.random_erasing:
        steps.append(v2.RandomErasing(recipe.random_erasing, (0.02, 1 / 3), (3 / 10, 10 / 3), "random"))
    return v2.Compose(steps)


def validation(recipe: Recipe, mean: Sequence[float], std: Sequence[float]) -> v2.Transform:
    """What a recipe does to an image to validate on: the centre of a slightly larger image, or the image as it is."""
    steps = []
    if recipe.augmentation == "resize":
        larger = v2.Resize(round(recipe.resolution * ENLARGED), InterpolationMode(recipe.interpolation))
        steps = [larger, v2.CenterCrop(recipe.resolution)]
    return v2.Compose([*steps, *_standardised(mean, std)])


def mixing(recipe: Recipe, classes: int) -> nn.Module:
    """What a recipe does to a batch and its labels: MixUp (arXiv:1710.09412), CutMix (arXiv:1905.04899), either, neither.

    Labels (n,) become shares of the classes (n, classes) where images are mixed.
    """
    alphas = {v2.MixUp: recipe.mixup, v2.CutMix: recipe.cutmix}
    kinds = [kind(alpha=alpha, num_classes=classes) for kind, alpha in alphas.items() if alpha]
    return v2.RandomChoice(kinds) if kinds else v2.Identity()


def _standardised(mean: Sequence[float], std: Sequence[float]) -> list[v2.Transform]:
    return [v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)]


class Cutout(v2.Transform):
    """Zeros in a square around a random pixel, clipped at the border (DeVries & Taylor 2017, arXiv:1708.04552).

    torchvision's RandomErasing differs: its rectangle lies wholly inside the image.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def make_params(self, flat_inputs: list[Tensor]) -> dict[str, int]:
        half = self.side // 2
        sides = {}
        for size, start, length in zip(flat_inputs[0].shape[-2:], "ij", "hw", strict=True):
            at = int(torch.randint(size, ()))
            sides[start] = max(at - half, 0)
            sides[length] = min(at + half, size) - sides[start]
        return sides

    def transform(self, inpt: Tensor, params: dict[str, int]) -> Tensor:
        return v2.functional.erase(inpt, v=torch.zeros(1), **params)
