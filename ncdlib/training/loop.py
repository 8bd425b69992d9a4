"""Train a searched network from scratch by a published recipe; `python -m ncdlib.training` does it in one command.

torch.manual_seed(0)
recipe = RECIPES["darts_cifar10"]
net = recipes.network("darts", genotype, recipe, classes=10)
history = train(net, recipe, data.cifar10(), folder="runs/genotype")
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
import time

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from ncdlib.spaces.autoformer import Block
from ncdlib.training import augmentation as augment
from ncdlib.training import checkpoint, metrics
from ncdlib.training.data import Data
from ncdlib.training.recipes import Recipe, learning_rate

NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)

Row = dict[str, float]


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
    """Train a network in place; a row an epoch: epoch, learning_rate, train_ and valid_ loss and top1, valid_top5, seconds.

    Accuracies are in percent. `learning_rate` is that of the epoch's first step. Both losses are the plain cross entropy of
    the logits, to be compared; what is minimised has label smoothing and the auxiliary head's share besides. Where images
    are mixed, so are the labels that the training loss sees, and the larger share is the label that top1 asks for.

    After each epoch `folder` holds `checkpoint.pt` and `history.csv`. A call that finds a checkpoint goes on from there, and
    ends with the same weights as a run that was never interrupted: order, augmentation and whatever the network draws
    are decided by `seed` and the epoch alone. On a GPU that is as exact as its kernels are (see
    `torch.use_deterministic_algorithms`). The net is left on `device`, by default the GPU if there is one, in eval mode.

    Raises ValueError for a checkpoint of another network, recipe, seed or data, and says which; `NotFiniteLoss` where the
    training diverges: the checkpoint of the last good epoch stays.
    """
    if seed < 0:
        raise ValueError(f"seed must be at least 0, got {seed}")
    if len(data.train.labels) < 2:
        raise ValueError(f"{data.name} has a single training image: BatchNorm needs two")
    if recipe.drop_path and not hasattr(net, "drop_path"):
        raise ValueError(
            "the recipe drops paths, but the network has no attribute drop_path: use replace(recipe, drop_path=0.0)"
        )
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    net.to(device)
    groups = _groups(net, recipe)
    if recipe.optimiser == "sgd":
        optimiser = torch.optim.SGD(groups, recipe.learning_rate, momentum=recipe.momentum)
    else:
        optimiser = torch.optim.AdamW(groups, recipe.learning_rate)
    scaler = torch.amp.GradScaler(device.type, enabled=recipe.mixed_precision and device.type == "cuda")
    run = checkpoint.Checkpoint(Path(folder), net, optimiser, scaler, checkpoint.settings(net, recipe, data, seed))
    drop_path = getattr(net, "drop_path", None)
    with run.alone(), _own_draws(device), stochastic_depth(net, recipe.stochastic_depth):
        history = run.restore()
        with tqdm(total=recipe.epochs, initial=len(history), unit="epoch", disable=not progress) as bar:
            try:
                for epoch in range(len(history), recipe.epochs):
                    begun = time.perf_counter()
                    torch.manual_seed(_derived(seed, epoch, 0))
                    if recipe.drop_path:
                        net.drop_path = recipe.drop_path * epoch / recipe.epochs
                    row = _train_epoch(net, recipe, data, optimiser, scaler, epoch, seed, device)
                    row |= evaluate(net, recipe, data)
                    history.append({"epoch": epoch + 1, **row, "seconds": time.perf_counter() - begun})
                    run.save(history)
                    bar.set_postfix({name: f"{row[name]:.3g}" for name in ("train_loss", "valid_loss", "valid_top1")})
                    bar.update()
            except NotFiniteLoss as error:
                kept = f"{run.path} holds epoch {len(history)}" if history else "no epoch was finished"
                raise NotFiniteLoss(f"{error}; {kept}. Try a lower learning rate") from None
            finally:
                if drop_path is not None:
                    net.drop_path = drop_path
    net.eval()
    return pd.DataFrame(history)


def evaluate(net: nn.Module, recipe: Recipe, data: Data) -> Row:
    """Loss, without label smoothing, and top-1 and top-5 accuracy in percent on the validation images."""
    net.eval()
    device = next(net.parameters()).device
    logits = []
    with torch.no_grad():
        for chosen in torch.arange(len(data.valid.labels)).split(recipe.batch):
            x = augment.validation(data.valid.load(chosen), recipe, data.mean, data.std)
            logits.append(net(x.to(device)).float().cpu())
    predicted, labels = torch.cat(logits), data.valid.labels
    return {
        "valid_loss": cross_entropy(predicted, labels).item(),
        "valid_top1": metrics.top_k(predicted, labels),
        "valid_top5": metrics.top_k(predicted, labels, min(5, data.classes)),
    }


def _train_epoch(
    net: nn.Module,
    recipe: Recipe,
    data: Data,
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    epoch: int,
    seed: int,
    device: torch.device,
) -> Row:
    """One pass over the training images."""
    net.train()
    half = torch.float16 if device.type == "cuda" else torch.bfloat16
    batches = _order(recipe, data, seed, epoch)
    loss_sum = correct = seen = 0
    for step, (x, labels) in enumerate(_ahead(_images(recipe, data, batches, seed, epoch))):
        x, labels = x.to(device), labels.to(device)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(recipe, epoch, step, len(batches))
        optimiser.zero_grad()
        with torch.autocast(device.type, half, enabled=recipe.mixed_precision):
            output = net(x)
            loss, logits = loss_of(output, labels, recipe)
        scaler.scale(loss).backward()
        scaler.unscale_(optimiser)
        norm = nn.utils.clip_grad_norm_(net.parameters(), recipe.clip)
        if not loss.isfinite() or not (norm.isfinite() or scaler.is_enabled()):  # the scaler skips a step that overflows
            raise NotFiniteLoss(
                f"epoch {epoch + 1}, step {step + 1}: the loss is {loss.item():g}, the norm of its gradient {norm.item():g}"
            )
        scaler.step(optimiser)
        scaler.update()
        loss_sum += cross_entropy(logits.detach().float(), labels, reduction="sum").item()
        correct += (logits.argmax(1) == (labels.argmax(1) if labels.dim() == 2 else labels)).sum().item()
        seen += len(x)
    first = learning_rate(recipe, epoch, 0, len(batches))
    return {"learning_rate": first, "train_loss": loss_sum / seen, "train_top1": 100 * correct / seen}


def loss_of(output: Tensor | tuple[Tensor, Tensor], labels: Tensor, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """The training loss and the logits: smoothed cross entropy, and that of the auxiliary head times its weight.

    `labels` are classes (n,) or, of mixed images, shares of classes (n, classes).
    """
    if isinstance(output, tuple) != (recipe.auxiliary > 0):
        has, wants = ("an", "none") if recipe.auxiliary == 0 else ("no", "one")
        raise ValueError(f"the network has {has} auxiliary head, the recipe wants {wants}: build it with recipes.network")
    logits, *auxiliary = output if isinstance(output, tuple) else (output,)
    loss = cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
    for extra in auxiliary:
        loss = loss + recipe.auxiliary * cross_entropy(extra, labels, label_smoothing=recipe.label_smoothing)
    return loss, logits


def _groups(net: nn.Module, recipe: Recipe) -> list[dict]:
    """The weights in two groups, with and without weight decay."""
    scales = {id(p) for m in net.modules() if isinstance(m, NORMS) for p in m.parameters(recurse=False)}
    spared = set() if recipe.decay_norms else scales
    if not recipe.decay_vectors:  # a token is (1, 1, embed), positions are (1, tokens, embed)
        spared |= {id(p) for p in net.parameters() if p.dim() not in (2, 4)}
    decayed = [p for p in net.parameters() if id(p) not in spared]
    free = [p for p in net.parameters() if id(p) in spared]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": free, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _derived(*key: int) -> int:
    """A seed for torch out of several numbers."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)


def _order(recipe: Recipe, data: Data, seed: int, epoch: int) -> list[Tensor]:
    """The indices of each batch of an epoch. A single image left over is left out: it has no variance for BatchNorm."""
    order = torch.from_numpy(np.random.default_rng((seed, epoch)).permutation(len(data.train.labels)))
    return [chosen for chosen in order.split(recipe.batch) if len(chosen) > 1]


def _images(recipe: Recipe, data: Data, batches: list[Tensor], seed: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    for step, chosen in enumerate(batches):
        draw = torch.Generator().manual_seed(_derived(seed, epoch, step + 1))  # 0 is what the network draws
        x = augment.training(data.train.load(chosen), recipe, data.mean, data.std, draw)
        yield augment.mixed(x, data.train.labels[chosen], recipe, data.classes, draw)


def _ahead(items: Iterator[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """The same items, the next one made in a thread while the last one is used."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, items, None)
        while (item := waiting.result()) is not None:
            waiting = pool.submit(next, items, None)
            yield item


@contextmanager
def stochastic_depth(net: nn.Module, rate: float) -> Iterator[None]:
    """While open, and in training, leave out branches of a transformer's blocks, for each image by itself.

    Both branches of block i of L are left out with probability rate * i / (L - 1), i from 0, and otherwise divided by the
    probability that they stay (Huang et al. 2016, arXiv:1603.09382). ValueError for a network without such blocks.
    """
    blocks = [module for module in net.modules() if isinstance(module, Block)]
    if rate and not blocks:
        raise ValueError(
            "the recipe drops branches of transformer blocks, but the network has none: use "
            "replace(recipe, stochastic_depth=0.0)"
        )

    def dropped(out: float, layer: nn.Module, _: tuple[Tensor, ...], y: Tensor) -> Tensor:
        if not layer.training:
            return y
        stays = torch.rand(len(y), *[1] * (y.dim() - 1), device=y.device) >= out
        return y * stays / (1 - out)

    handles = [
        last.register_forward_hook(partial(dropped, rate * i / max(len(blocks) - 1, 1)))
        for i, block in enumerate(blocks if rate else [])
        for last in (block.attention, block.fc2)  # what each branch ends with
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _own_draws(device: torch.device) -> Iterator[None]:
    """Leave torch's global random state as it was."""
    index = torch.cuda.current_device() if device.type == "cuda" and device.index is None else device.index
    with torch.random.fork_rng([index] if device.type == "cuda" else []):
        yield
