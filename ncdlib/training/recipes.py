"""The published settings for retraining a searched network from scratch (`recipes.toml`), and their learning rates."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
import math
from pathlib import Path
import tomllib

from torch import nn

from ncdlib import spaces

CHOICES = {
    "optimiser": ("sgd", "adamw"),
    "schedule": ("cosine", "linear", "linear_by_step", "exponential"),
    "augmentation": ("crop", "resize"),
    "interpolation": ("bilinear", "bicubic"),
    "decayed": ("all", "all except norms", "matrices"),
}
LIMITS = {  # from, up to and not including; the numbers are whole where the first one is
    **dict.fromkeys(("epochs", "resolution"), (1, math.inf)),
    **dict.fromkeys(("warmup_epochs", "tail_epochs", "cutout"), (0, math.inf)),
    "batch_size": (2, math.inf),  # BatchNorm needs two images
    "rand_augment": (0, 11),
    **dict.fromkeys(("weight_decay", "auxiliary_weight", "mixup", "cutmix"), (0.0, math.inf)),
    **dict.fromkeys(("momentum", "drop_path", "stochastic_depth", "label_smoothing", "random_erasing"), (0.0, 1)),
}
DECAY = 0.97  # what "exponential" multiplies the learning rate by after each epoch (DARTS on ImageNet)


@dataclass(frozen=True)
class Recipe:
    """All that decides a training except the network, the images and the seed.

    - `optimiser`: "sgd", with momentum, or "adamw" (Loshchilov & Hutter 2019, arXiv:1711.05101; betas 0.9 and 0.999).
    - `schedule`, `warmup_epochs`, `warmup_lr`, `tail_epochs`, `min_lr`: see `learning_rate`.
    - `decayed`: the weights that weight decay acts on: "all"; "all except norms", the scale and shift of normalisation
      layers; or "matrices" and filters, so neither norms nor biases, tokens and positions.
    - `grad_clip`: the largest norm of the gradient of all weights together; infinity is no limit.
    - `auxiliary_weight`: of the auxiliary head's loss; 0 is no head. `drop_path`: its probability at the end; it rises
      linearly from 0, epoch by epoch. `stochastic_depth`: that of transformers; it rises block by block, not by epochs.
    - `augmentation`: "crop" pads by 4 and crops, "resize" takes a random part and resizes it by `interpolation`; both flip.
      `rand_augment`: the magnitude of RandAugment, of 10 (0: none). `color_jitter`: the strengths of brightness, contrast,
      saturation and hue. `cutout`: the side of the square that is set to the mean. `random_erasing`: the probability of a
      rectangle of noise. `mixup`, `cutmix`: parameters of the Beta distribution that says how much of another image is
      mixed in (0: none); with both, each batch takes one of them. See `augmentation.training`.
    - `mixed_precision`: bfloat16 where it is safe. Of the runs published with these recipes, only those of vision
      transformers used half precision.
    - `data`: the images it was published for. `channels`, `layers`, `stem`: sizes of the network, None the space's own.
    - `source`: where the values come from. `unverified`: what could not be checked against a paper or published code.
    """

    source: str
    unverified: str
    data: str  # cifar10, cifar100 or imagenet
    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    schedule: str
    momentum: float = 0.9
    warmup_epochs: int = 0
    warmup_lr: float | None = None
    tail_epochs: int = 0
    min_lr: float = 0.0
    optimiser: str = "sgd"
    decayed: str = "all"
    grad_clip: float = 5.0
    label_smoothing: float = 0.0
    auxiliary_weight: float = 0.0
    drop_path: float = 0.0
    stochastic_depth: float = 0.0
    augmentation: str = "crop"
    resolution: int = 32
    interpolation: str = "bilinear"
    rand_augment: int = 0
    color_jitter: Sequence[float] = (0.0, 0.0, 0.0, 0.0)
    cutout: int = 0
    random_erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    channels: int | None = None
    layers: int | None = None
    stem: str | None = None
    mixed_precision: bool = False

    def __post_init__(self) -> None:
        for name, (least, most) in LIMITS.items():
            value, whole = getattr(self, name), isinstance(least, int)
            if not least <= value < most or (whole and type(value) is not int):
                kind = "a whole number" if whole else "a number"
                raise ValueError(f"{name} must be {kind} from {least:g} up to, not including, {most:g}: got {value!r}")
        if not 0 < self.lr < math.inf:
            raise ValueError(f"lr must be above 0 and finite, got {self.lr!r}")
        if not self.grad_clip > 0:
            raise ValueError(f"grad_clip must be above 0, or math.inf for no limit: got {self.grad_clip!r}")
        for name, value in {"min_lr": self.min_lr, "warmup_lr": self.warmup_lr or 0.0}.items():
            if not 0 <= value <= self.lr:
                raise ValueError(f"{name} must lie from 0 to lr = {self.lr}, got {value!r}")
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}: use one of {', '.join(choices)}")
        if self.warmup_epochs > self.epochs or self.tail_epochs >= self.epochs:
            raise ValueError(
                f"{self.epochs} epochs have no room for warmup_epochs = {self.warmup_epochs} and tail_epochs = "
                f"{self.tail_epochs}: use recipe.short(epochs), which shortens both"
            )

    def short(self, epochs: int, **changes: object) -> "Recipe":
        """The recipe over fewer epochs, warm-up and tail shortened in proportion, and with other fields changed."""
        scaled = {name: round(getattr(self, name) * epochs / self.epochs) for name in ("warmup_epochs", "tail_epochs")}
        return replace(self, epochs=epochs, **{**scaled, **changes})


def learning_rate(recipe: Recipe, epoch: int, step: int, steps: int) -> float:
    """The learning rate at a step of an epoch, both counted from 0, of `steps` in each epoch.

    With r = `lr`, e the epoch, E the number of epochs, T = `tail_epochs`, W = `warmup_epochs`:

    - `cosine`: m + (r - m)/2 (1 + cos(pi e / E)) with m = `min_lr`, constant within an epoch (Loshchilov & Hutter 2017,
      arXiv:1608.03983, Eq. 5).
    - `linear`: r (1 - e / (E - T)), except over the last T epochs: r (E - e) / (T (E - T)), a smaller slope.
    - `linear_by_step`: r times the share of steps that are still to be done. `exponential`: r * 0.97^e.

    In the first W epochs the rate is multiplied by (e + 1) / W; or, where there is a `warmup_lr` w, it is
    w + (r - w) e / W instead.
    """
    if recipe.warmup_lr is not None and epoch < recipe.warmup_epochs:
        return recipe.warmup_lr + (recipe.lr - recipe.warmup_lr) * epoch / recipe.warmup_epochs
    epochs, tail = recipe.epochs, recipe.tail_epochs
    match recipe.schedule:
        case "cosine":
            least = recipe.min_lr / recipe.lr
            factor = least + (1 - least) * (1 + math.cos(math.pi * epoch / epochs)) / 2
        case "linear" if epochs - epoch > tail:
            factor = 1 - epoch / (epochs - tail)
        case "linear":
            factor = (epochs - epoch) / (tail * (epochs - tail))
        case "linear_by_step":
            factor = 1 - (epoch * steps + step) / (epochs * steps)
        case "exponential":
            factor = DECAY**epoch
    if epoch < recipe.warmup_epochs:
        factor *= (epoch + 1) / recipe.warmup_epochs
    return recipe.lr * factor


def network(space: str | spaces.Space, arch: Hashable | str, recipe: Recipe, classes: int, **size: int | None) -> nn.Module:
    """The network that the recipe trains, its weights decided by `torch.manual_seed`; `size` overrides the recipe's.

    A transformer is built for images of the recipe's resolution.
    """
    space = spaces.get(space)
    wanted = {"channels": recipe.channels, "layers": recipe.layers, "stem": recipe.stem}
    wanted |= {"image": recipe.resolution if "image" in space.sizes else None} | size
    wanted = {name: value for name, value in wanted.items() if value is not None}
    if recipe.auxiliary_weight:
        wanted["auxiliary"] = True
    for name in wanted:
        if name not in space.sizes:
            raise ValueError(
                f"the networks of {space.name} have no {name!r}, which the recipe sets: choose another recipe, or change "
                "this one with recipe.short"
            )
    return space.build(arch, classes=classes, **wanted)


_SETTINGS = tomllib.loads(Path(__file__).with_name("recipes.toml").read_text(encoding="utf-8"))
RECIPES = {name: Recipe(**settings) for name, settings in _SETTINGS.items()}
