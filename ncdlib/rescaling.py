"""NIR, non-linear rescaling: another normalisation in BatchNorm's place while a network is scored."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

NAMES = ("bn", "ln", "gn16", "gn8", "in", "dropout", "none")  # gnG takes any number of groups G


class GroupNorm(nn.GroupNorm):
    """Group normalisation that refuses groups of a single value, which it would turn into a constant."""

    def forward(self, x: Tensor) -> Tensor:
        if x[0].numel() == self.num_groups:
            raise ValueError(
                f"{self.num_groups} groups leave a single value each in an input of shape {tuple(x.shape)}: "
                "use fewer groups, as norm 'ln' does, or larger images"
            )
        return super().forward(x)


def make(name: str, channels: int, dims: int = 2) -> nn.Module:
    """A new normalisation layer by its name, over inputs of shape (n, channels, *space) with `dims` axes of space.

    - `bn`: BatchNorm, statistics over (n, *space) for each channel.
    - `ln`: LayerNorm over (channels, *space) for each image, the paper's NIR (Sec. 4.2); a GroupNorm of one group is the
      same function with one scale a channel, and faster.
    - `gnG`: GroupNorm with G groups. `in`: InstanceNorm, a group a channel.
    - `dropout`: Dropout with p = 0.5, the library's default; the paper does not print its own. `none`: the identity.

    Raises ValueError for an unknown name and where the channels cannot be divided into the groups asked for.
    """
    if name == "bn":
        return (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[dims - 1](channels)
    if name == "ln":
        return GroupNorm(1, channels)
    if name == "in":
        return GroupNorm(channels, channels)
    if name == "dropout":
        return nn.Dropout(0.5)
    if name == "none":
        return nn.Identity()
    if isinstance(name, str) and name.startswith("gn") and name[2:].isdecimal() and int(name[2:]) > 0:
        groups = int(name[2:])
        if channels % groups:
            raise ValueError(f"norm {name!r} cannot divide {channels} channels into {groups} groups: use a divisor")
        return GroupNorm(groups, channels)
    raise ValueError(f"unknown norm {name!r}: use one of {', '.join(NAMES)}, or gn followed by a number of groups")


@contextmanager
def nir(model: nn.Module, name: str | None) -> Iterator[None]:
    """While open, every BatchNorm layer of `model` gives its place to a fresh layer of this kind; None changes nothing.

    Raises ValueError where the model holds no BatchNorm layer. The model gets its own layers back at the end, untouched.
    """
    if name is None:
        yield
        return
    places = [
        (parent, key, child)
        for parent in model.modules()
        for key, child in parent._modules.items()  # named_children would name a shared layer once
        if isinstance(child, nn.modules.batchnorm._BatchNorm)
    ]
    if not places:
        raise ValueError(f"norm {name!r} takes the place of BatchNorm, but the model has none: use norm=None")
    fresh: dict[nn.Module, nn.Module] = {}  # a shared layer stays shared
    for _, _, child in places:
        fresh.setdefault(child, _like(child, name, next(model.parameters(), torch.empty(0))))
    try:
        for parent, key, child in places:
            setattr(parent, key, fresh[child])
        yield
    finally:
        for parent, key, child in places:
            setattr(parent, key, child)


def _like(layer: nn.modules.batchnorm._BatchNorm, name: str, weight: Tensor) -> nn.Module:
    dims = {nn.BatchNorm1d: 1, nn.BatchNorm3d: 3}.get(type(layer), 2)
    new = make(name, layer.num_features, dims)
    weight = next(layer.parameters(), weight)  # its own, or where it has none, one of the model's
    return new.to(weight.device, weight.dtype).train(layer.training)
