"""`python -m ncdlib.training`: retrain one architecture by a published recipe."""

import argparse
from collections.abc import Sequence
from pathlib import Path
import sys

from matplotlib.figure import Figure
import psutil
import torch

from ncdlib.scoring.checks import whole_seed
from ncdlib.training import curves, recipes
from ncdlib.training import data as data_
from ncdlib.training.loop import NotFiniteLoss, checked_device, train
from ncdlib.training.recipes import RECIPES, Recipe


def main(arguments: Sequence[str] | None = None) -> int:
    """Retrain one architecture; go on where `--out` has a checkpoint. The exit status is 0, or 1 with a reason."""
    chosen = _parser().parse_args(arguments)
    try:
        recipe = _recipe(chosen)
        seed, device = whole_seed(chosen.seed), checked_device(chosen.device)
        size = {name: getattr(chosen, name) for name in ("channels", "layers", "patch") if getattr(chosen, name) is not None}
        _check_network(chosen.space, chosen.arch, recipe, size, device)
        data = data_.get(chosen.data or recipe.data)
        torch.manual_seed(seed)
        net = recipes.network(chosen.space, chosen.arch, recipe, data.classes, **size)
        print(f"{chosen.recipe}: {recipe.source}")
        print(f"not verified: {recipe.unverified}")
        print(f"{sum(p.numel() for p in net.parameters()):,} parameters, auxiliary head included; {data.name}")
        history = train(net, recipe, data, folder=chosen.out, seed=seed, device=device)
    except (ValueError, OSError, RuntimeError, NotFiniteLoss) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    figure = Figure((10, 4), layout="constrained")
    for ax, quantity in zip(figure.subplots(1, 2), curves.QUANTITIES, strict=True):
        curves.draw(history, ax, quantity)
    figure.suptitle(f"{chosen.recipe} on {data.name}, seed {seed}, {len(history)} epochs")
    figure.savefig(chosen.out / "training.png", dpi=150)
    last = history.iloc[-1]
    print("  ".join(f"{name} {last[name]:.2f}" for name in ("train_loss", "valid_loss", "valid_top1", "valid_top5")))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ncdlib.training", description="Retrain a searched architecture.")
    add = parser.add_argument
    add("arch", help="the architecture in its space's native string, in quotes")
    add("--space", default="darts", help="its search space: darts (the default), s1 to s4, mobilenet_v2, ...")
    add("--recipe", default="darts_cifar10", choices=RECIPES, help="the published recipe (default: darts_cifar10)")
    add("--data", help="digits, cifar10, cifar100 or a folder with train/CLASS and val/CLASS (default: the recipe's)")
    add("--out", required=True, type=Path, help="the folder for checkpoint, history and training curves")
    add("--epochs", type=int, help="fewer epochs than published")
    for name in ("batch-size", "resolution", "channels", "layers", "patch"):
        add(f"--{name}", type=int, help="other than published")
    add("--seed", type=int, default=0, help="decides weights, order and augmentation (default: 0)")
    add("--device", help="cpu, cuda, cuda:1, ... (default: the GPU if there is one)")
    add("--mixed-precision", action="store_true", help="half precision where it is safe; the published runs had none")
    return parser


def _recipe(chosen: argparse.Namespace) -> Recipe:
    recipe = RECIPES[chosen.recipe]
    if not chosen.data and recipe.data == "imagenet":
        raise ValueError(f"{chosen.recipe} needs --data, the folder where ImageNet is unpacked, with train/ and val/")
    changes = {name: getattr(chosen, name) for name in ("batch_size", "resolution") if getattr(chosen, name) is not None}
    epochs = recipe.epochs if chosen.epochs is None else chosen.epochs
    return recipe.short(epochs, mixed_precision=chosen.mixed_precision, **changes)


def _check_network(space: str, arch: str, recipe: Recipe, size: dict[str, int], device: torch.device) -> None:
    """Raise ValueError for a network that cannot be built or is too large, before any download."""
    with torch.device("meta"):
        weights = sum(p.numel() for p in recipes.network(space, arch, recipe, 10, **size).parameters())
    copies = {"sgd": 3, "adamw": 4}[recipe.optimiser]  # weights, gradients and what the optimiser keeps
    needed = 4 * copies * weights / 2**30
    there = (torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else psutil.virtual_memory().total) / 2**30
    if needed > there:
        raise ValueError(
            f"the network has {weights:,} weights, which need at least {needed:,.1f} GiB to train where {device} has "
            f"{there:,.1f}: choose fewer --channels or --layers"
        )


if __name__ == "__main__":
    sys.exit(main())
