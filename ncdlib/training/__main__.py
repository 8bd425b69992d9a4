"""`python -m ncdlib.training`: retrain one architecture by a published recipe."""

import argparse
from collections.abc import Sequence
from pathlib import Path
import sys

import torch

from ncdlib.reproduction import plots
from ncdlib.training import checkpoint, recipes
from ncdlib.training import data as data_
from ncdlib.training.loop import NotFiniteLoss, train
from ncdlib.training.recipes import RECIPES


def main(arguments: Sequence[str] | None = None) -> int:
    """Retrain one architecture; go on where `--out` holds a checkpoint. The exit status is 0, or 1 with a reason."""
    parser = argparse.ArgumentParser(prog="python -m ncdlib.training", description="Retrain a searched architecture.")
    add = parser.add_argument
    add("arch", help="the architecture in its space's native string, in quotes")
    add("--space", default="darts", help="its search space: darts (the default), s1 to s4, mobilenet_v2, ...")
    add("--recipe", default="darts_cifar10", choices=RECIPES, help="the published recipe (default: darts_cifar10)")
    add("--data", help="digits, cifar10, cifar100 or a folder with train/CLASS and val/CLASS (default: the recipe's)")
    add("--out", required=True, type=Path, help="the folder for checkpoint, history and training curves")
    add("--epochs", type=int, help="fewer epochs than published")
    for name in ("batch", "resolution", "channels", "layers", "patch"):
        add(f"--{name}", type=int, help="other than published")
    add("--seed", type=int, default=0, help="decides weights, order and augmentation (default: 0)")
    add("--device", help="cpu, cuda, cuda:1, ... (default: the GPU if there is one)")
    add("--mixed-precision", action="store_true", help="half precision where it is safe; the published runs had none")
    chosen = parser.parse_args(arguments)
    try:
        recipe = RECIPES[chosen.recipe]
        images = chosen.data or recipe.data
        if images == "imagenet":
            raise ValueError(f"{chosen.recipe} needs --data, the folder where ImageNet is unpacked, with train/ and val/")
        changes = {name: getattr(chosen, name) for name in ("batch", "resolution") if getattr(chosen, name) is not None}
        epochs = recipe.epochs if chosen.epochs is None else chosen.epochs
        recipe = recipe.short(epochs, mixed_precision=chosen.mixed_precision, **changes)
        data = data_.get(images)
        torch.manual_seed(chosen.seed)
        size = {name: getattr(chosen, name) for name in ("channels", "layers", "patch") if getattr(chosen, name) is not None}
        net = recipes.network(chosen.space, chosen.arch, recipe, data.classes, **size)
        print(f"{chosen.recipe}: {recipe.source}")
        print(f"not verified: {recipe.unverified}")
        print(f"{sum(p.numel() for p in net.parameters()):,} parameters, auxiliary head included; {data.name}")
        history = train(net, recipe, data, folder=chosen.out, seed=chosen.seed, device=chosen.device)
    except (ValueError, OSError, NotFiniteLoss, checkpoint.Busy) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    figure, axes = plots.figure(columns=2)
    for ax, quantity in zip(axes[0], ("loss", "top1"), strict=True):
        plots.plot_training(ax, history, quantity)
    plots.note(figure, f"{chosen.recipe} on {data.name}, seed {chosen.seed}, {len(history)} epochs")
    plots.save(figure, chosen.out / "training")
    last = history.iloc[-1]
    print("  ".join(f"{name} {last[name]:.2f}" for name in ("train_loss", "valid_loss", "valid_top1", "valid_top5")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
