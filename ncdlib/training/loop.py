"""Train a searched network from scratch by a published recipe; `python -m ncdlib.training` does it in one command.

torch.manual_seed(0)
recipe = RECIPES["darts_cifar10"]
net = recipes.network("darts", genotype, recipe, classes=10)
history = train(net, recipe, data.cifar10(), folder="runs/genotype")
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
import time

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from ncdlib.scoring.checks import whole_seed
from ncdlib.training import batches
from ncdlib.training.batches import derived
from ncdlib.training.checkpoint import Checkpoint, Row, settings
from ncdlib.training.data import Data
from ncdlib.training.recipes import Recipe, learning_rate

WITH_SCALE_AND_SHIFT = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)  # what `decayed` is about


class NotFiniteLoss(ArithmeticError):
    """The loss or its gradient became nan or infinite: the training has diverged."""


def train(
    net: nn.Module,
    recipe: Recipe,
    data: Data,
    *,
    folder: str | Path,
    seed: int = 0,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Train a network in place; one row per epoch, the columns of `history.csv`.

    They are epoch, learning_rate, train_loss, train_top1, valid_loss, valid_top1, valid_top5, seconds. Accuracies are in
    percent. `learning_rate` is that of the epoch's first step. Both losses are the plain cross entropy of the logits, to be
    compared; what is minimised also has label smoothing and the auxiliary head's share. Where images are mixed, so are the
    labels that the training loss sees, and the larger share is the label that top1 asks for.

    After each epoch `folder` has `checkpoint.pt` and `history.csv`. A call that finds a checkpoint goes on from there and
    ends with the same weights as a run that was never interrupted: order, augmentation and whatever the network draws
    are decided by `seed` and the epoch alone. On a GPU that is as exact as its kernels are (see
    `torch.use_deterministic_algorithms`). The net is left on `device`, by default the GPU if there is one, in eval mode.

    Raises ValueError for a damaged checkpoint and for one of another network, recipe, seed or data, and says which;
    RuntimeError where another run trains in the folder; `NotFiniteLoss` where the training diverges: the checkpoint of the
    last good epoch stays.
    """
    seed, device = whole_seed(seed), checked_device(device)
    if len(data.train.labels) < 2:
        raise ValueError(f"{data.name} has a single training image: BatchNorm needs two")
    net.to(device)
    optimiser = make_optimiser(net, recipe)
    run = Checkpoint(Path(folder), net, optimiser, settings(net, recipe, data, seed))
    gpus = [device.index] if device.type == "cuda" else []  # whose random state is left as it was, as the CPU's is
    with run.alone(), torch.random.fork_rng(gpus):
        history = run.restore()
        with tqdm(total=recipe.epochs, initial=len(history), unit="epoch", disable=not progress) as bar:
            for epoch in range(len(history), recipe.epochs):
                begun = time.perf_counter()
                with drop_path(net, recipe, epoch):
                    row = _train_epoch(net, recipe, data, optimiser, epoch, seed)
                row |= evaluate(net, recipe, data)
                history.append({"epoch": epoch + 1, **row, "seconds": time.perf_counter() - begun})
                run.save(history)
                bar.set_postfix({name: f"{row[name]:.3g}" for name in ("train_loss", "valid_loss", "valid_top1")})
                bar.update()
    net.eval()
    return pd.DataFrame(history)


def checked_device(device: str | torch.device | None) -> torch.device:
    """The device, by default the GPU if there is one, or ValueError where it is not there."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:  # an unknown name; a device that torch was built without, or not there
        raise ValueError(
            f"device {str(device)!r} cannot be used on this machine: use cpu, or cuda where there is a GPU"
        ) from error


def make_optimiser(net: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser, its weights in two groups: with weight decay and, where there are such weights, without."""
    norms = {id(p) for m in net.modules() if isinstance(m, WITH_SCALE_AND_SHIFT) for p in m.parameters(recurse=False)}
    vectors = {id(p) for p in net.parameters() if p.dim() not in (2, 4)}  # also a token, (1, 1, embed), and positions
    spared = {"all": set(), "all except norms": norms, "matrices": vectors}[recipe.decayed]
    groups = [
        {"params": [p for p in net.parameters() if id(p) not in spared], "weight_decay": recipe.weight_decay},
        {"params": [p for p in net.parameters() if id(p) in spared], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(groups, recipe.lr, momentum=recipe.momentum)
    return torch.optim.AdamW(groups, recipe.lr)


@contextmanager
def drop_path(net: nn.Module, recipe: Recipe, epoch: int) -> Iterator[None]:
    """The attributes `drop_path` of the network and of a transformer's blocks in this epoch; afterwards they are as before.

    The network's is drop_path * epoch / epochs (DARTS). That of block i of L is stochastic_depth * i / (L - 1), i from 0,
    throughout (Huang et al. 2016, arXiv:1603.09382). ValueError where the recipe wants one that is not there.
    """
    before = {module: module.drop_path for module in net.modules() if hasattr(module, "drop_path")}
    blocks = [module for module in before if module is not net]
    for name, found in {"drop_path": net in before, "stochastic_depth": blocks}.items():
        if getattr(recipe, name) and not found:
            where = "the network has" if name == "drop_path" else "its blocks have"
            raise ValueError(f"the recipe sets {name}, but {where} no attribute drop_path: use replace(recipe, {name}=0.0)")
    if recipe.drop_path:
        net.drop_path = recipe.drop_path * epoch / recipe.epochs
    for i, block in enumerate(blocks if recipe.stochastic_depth else []):
        block.drop_path = recipe.stochastic_depth * i / max(len(blocks) - 1, 1)
    try:
        yield
    finally:
        for module, value in before.items():
            module.drop_path = value


def evaluate(net: nn.Module, recipe: Recipe, data: Data) -> Row:
    """Loss, without label smoothing, and top-1 and top-5 accuracy in percent on the validation images."""
    net.eval()
    device = next(net.parameters()).device
    with torch.no_grad():
        logits = torch.cat([net(x.to(device)).float().cpu() for x, _ in batches.validation(recipe, data, device)])
    labels = data.valid.labels
    hits = logits.topk(min(5, data.classes)).indices == labels[:, None]  # (n, 5), best first
    return {
        "valid_loss": cross_entropy(logits, labels).item(),
        "valid_top1": 100 * hits[:, 0].float().mean().item(),
        "valid_top5": 100 * hits.any(1).float().mean().item(),
    }


def _train_epoch(net: nn.Module, recipe: Recipe, data: Data, optimiser: torch.optim.Optimizer, epoch: int, seed: int) -> Row:
    """One pass over the training images."""
    net.train()
    device = next(net.parameters()).device
    order = batches.order(recipe, data, seed, epoch)
    torch.manual_seed(derived(seed, epoch))  # decides what the network draws
    loss_sum = correct = seen = 0
    for step, (x, labels) in enumerate(batches.training(recipe, data, order, seed, epoch, device)):
        x, labels = x.to(device), labels.to(device)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(recipe, epoch, step, len(order))
        optimiser.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.mixed_precision):
            loss, logits = loss_of(net(x), labels, recipe)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(net.parameters(), recipe.grad_clip)
        if not (loss.isfinite() and norm.isfinite()):
            kept = f"the checkpoint is of epoch {epoch}" if epoch else "no epoch was finished"
            raise NotFiniteLoss(
                f"epoch {epoch + 1}, step {step + 1}: the loss is {loss.item():g}, the norm of its gradient "
                f"{norm.item():g}; {kept}. Try a lower learning rate"
            )
        optimiser.step()
        loss_sum += cross_entropy(logits.detach().float(), labels, reduction="sum").item()
        correct += (logits.argmax(1) == (labels.argmax(1) if labels.dim() == 2 else labels)).sum().item()
        seen += len(x)
    first = learning_rate(recipe, epoch, 0, len(order))
    return {"learning_rate": first, "train_loss": loss_sum / seen, "train_top1": 100 * correct / seen}


def loss_of(output: Tensor | tuple[Tensor, Tensor], labels: Tensor, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """The training loss and the logits: smoothed cross entropy, and that of the auxiliary head times its weight.

    `labels` are classes (n,) or, of mixed images, shares of classes (n, classes).
    """
    if isinstance(output, tuple) != (recipe.auxiliary_weight > 0):
        has, wants = ("an", "none") if recipe.auxiliary_weight == 0 else ("no", "one")
        raise ValueError(f"the network has {has} auxiliary head, the recipe wants {wants}: build it with recipes.network")
    logits, *auxiliary = output if isinstance(output, tuple) else (output,)
    loss = cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
    for extra in auxiliary:
        loss = loss + recipe.auxiliary_weight * cross_entropy(extra, labels, label_smoothing=recipe.label_smoothing)
    return loss, logits
