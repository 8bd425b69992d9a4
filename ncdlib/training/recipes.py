"""The published settings for retraining a searched network from scratch, and their learning rates."""

from collections.abc import Hashable
from dataclasses import dataclass, replace
import inspect
import math

from torch import nn

from ncdlib import spaces

CHOICES = {
    "optimiser": ("sgd", "adamw"),
    "schedule": ("cosine", "linear", "linear_by_step", "exponential"),
    "augmentation": ("crop", "resize"),
    "interpolation": ("bilinear", "bicubic"),
}
DECAY = 0.97  # what "exponential" multiplies the learning rate by after each epoch (DARTS on ImageNet)


@dataclass(frozen=True)
class Recipe:
    """All that decides a training except the network, the images and the seed.

    - `optimiser`: "sgd", with momentum, or "adamw" (Loshchilov & Hutter 2019, arXiv:1711.05101; betas 0.9 and 0.999).
    - `schedule`, `warmup_epochs`, `warmup_lr`, `tail_epochs`, `min_lr`: see `learning_rate`.
    - `decay_norms`: whether weight decay acts on the scale and shift of normalisation layers, too. `decay_vectors`: whether
      it acts on biases, tokens and positions, too; if not, only matrices and filters are decayed.
    - `grad_clip`: the largest norm of the gradient of all weights together; infinity is no limit.
    - `auxiliary_weight`: of the auxiliary head's loss; 0 is no head. `drop_path`: its probability at the end; it rises
      linearly from 0, epoch by epoch. `stochastic_depth`: that of transformers; it rises block by block, not by epochs.
    - `augmentation`: "crop" pads by 4 and crops, "resize" takes a random part and resizes it by `interpolation`; both flip.
      `rand_augment`: the magnitude of RandAugment, of 10 (0: none). `color_jitter`: the strengths of brightness, contrast,
      saturation and hue. `cutout`: the side of the square that is set to the mean. `random_erasing`: the probability of a
      rectangle of noise. `mixup`, `cutmix`: parameters of the Beta distribution that says how much of another image is
      mixed in (0: none); with both, each batch takes one of them. See `augmentation.training`.
    - `mixed_precision`: half precision where it is safe, float16 on a GPU and bfloat16 on a CPU. Of the runs published with
      these recipes, only those of vision transformers used it.
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
    decay_norms: bool = True
    decay_vectors: bool = True
    grad_clip: float = 5.0
    label_smoothing: float = 0.0
    auxiliary_weight: float = 0.0
    drop_path: float = 0.0
    stochastic_depth: float = 0.0
    augmentation: str = "crop"
    resolution: int = 32
    interpolation: str = "bilinear"
    rand_augment: int = 0
    color_jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    cutout: int = 0
    random_erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    channels: int | None = None
    layers: int | None = None
    stem: str | None = None
    mixed_precision: bool = False

    def __post_init__(self) -> None:
        whole = {"epochs": 1, "batch_size": 2, "warmup_epochs": 0, "tail_epochs": 0, "resolution": 1, "rand_augment": 0}
        for name, least in {**whole, "cutout": 0}.items():
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
        if self.rand_augment > 10:
            raise ValueError(f"rand_augment must lie from 0 to 10, got {self.rand_augment!r}")
        if not 0 < self.lr < math.inf:
            raise ValueError(f"lr must be above 0 and finite, got {self.lr!r}")
        if not self.grad_clip > 0:
            raise ValueError(f"grad_clip must be above 0, or math.inf for no limit: got {self.grad_clip!r}")
        for name, value in {"min_lr": self.min_lr, "warmup_lr": self.warmup_lr or 0.0}.items():
            if not 0 <= value <= self.lr:
                raise ValueError(f"{name} must lie from 0 to lr = {self.lr}, got {value!r}")
        for name in ("weight_decay", "auxiliary_weight", "mixup", "cutmix"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be at least 0 and finite, got {getattr(self, name)!r}")
        for name in ("momentum", "drop_path", "stochastic_depth", "label_smoothing", "random_erasing"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie from 0 up to, not including, 1: got {getattr(self, name)!r}")
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
    space = spaces.get(space) if isinstance(space, str) else space
    takes = inspect.signature(space.build).parameters
    wanted = {"channels": recipe.channels, "layers": recipe.layers, "stem": recipe.stem}
    wanted |= {"image": recipe.resolution if "image" in takes else None} | size
    wanted = {name: value for name, value in wanted.items() if value is not None}
    if recipe.auxiliary_weight:
        wanted["auxiliary"] = True
    for name in wanted:
        if name not in takes:
            raise ValueError(
                f"the networks of {space.name} have no {name!r}, which the recipe sets: choose another recipe, or change "
                "this one with recipe.short"
            )
    return space.build(arch, classes=classes, **wanted)


_IMAGENET = {
    "data": "imagenet",
    "auxiliary_weight": 0.4,
    "label_smoothing": 0.1,
    "augmentation": "resize",
    "resolution": 224,
    "color_jitter": (0.4, 0.4, 0.4, 0.2),
    "channels": 48,
    "layers": 14,
    "stem": "imagenet",
    "weight_decay": 3e-5,
}

_DARTS = Recipe(
    source="Liu et al. 2019 (arXiv:1806.09055, App. A.1 and A.2) and the command of github.com/quark0/darts",
    unverified="the script itself: gradient clip and cutout length are those of its forks, PC-DARTS and RobustDARTS",
    data="cifar10",
    epochs=600,
    batch_size=96,
    lr=0.025,
    weight_decay=3e-4,
    schedule="cosine",
    auxiliary_weight=0.4,
    drop_path=0.2,
    cutout=16,
    channels=36,
    layers=20,
)

RECIPES: dict[str, Recipe] = {
    "darts_cifar10": _DARTS,
    "darts_cifar100": replace(
        _DARTS,
        source="the CIFAR-10 recipe with 100 classes, as in the scripts of github.com/yuhuixu1993/PC-DARTS (--set cifar100)",
        unverified="the original has no CIFAR-100 experiment; later papers differ in weight decay and drop path",
        data="cifar100",
    ),
    "rdarts_cifar10": replace(
        _DARTS,
        source="Zela et al. 2020 (arXiv:1909.09656) and src/evaluation of github.com/automl/RobustDARTS",
        unverified="whether NCD used this recipe (its App. C) or PC-DARTS's (its App. B), which has drop_path=0.3",
        channels=None,  # S1 and S3 are retrained 36 wide, S2 and S4 16 wide, all 20 deep: the defaults of these spaces
        layers=None,
    ),
    "darts_imagenet": Recipe(
        source="Liu et al. 2019 (arXiv:1806.09055, App. A.2.3) and cnn/train_imagenet.py of github.com/quark0/darts",
        unverified="the script's own defaults changed between its versions: epochs, batch and rate here are the paper's",
        epochs=250,
        batch_size=128,
        lr=0.1,
        schedule="exponential",
        **_IMAGENET,
    ),
    "pcdarts_imagenet": Recipe(
        source="Xu et al. 2020 (arXiv:1907.05737) and train_imagenet.py of github.com/yuhuixu1993/PC-DARTS",
        unverified=(
            "batch 1024 at rate 0.5 are those of this script as RLNAS publishes it, where PC-DARTS's has 256 at 0.1; the "
            "network is taken to be DARTS's; the batch was spread over several GPUs, which normalised apart"
        ),
        epochs=250,
        batch_size=1024,
        lr=0.5,
        schedule="linear",
        warmup_epochs=5,
        tail_epochs=5,
        **_IMAGENET,
    ),
    "rlnas_imagenet": Recipe(
        source="mobilenet_search_space/rlnas/retrain_architecture/retrain.py of github.com/megvii-model/RLNAS",
        unverified=(
            "RLNAS's network is wider than MobileNetV2 and its file was not found, so that its dropout, if any, is unknown; "
            "the batch was spread over eight GPUs, which normalised apart"
        ),
        data="imagenet",
        epochs=240,
        batch_size=1024,
        lr=0.5,
        weight_decay=4e-5,
        decay_norms=False,
        schedule="linear_by_step",
        label_smoothing=0.1,
        augmentation="resize",
        resolution=224,
    ),
    "tf_tas_imagenet": Recipe(
        source=(
            "the defaults of a public copy of TF-TAS's train.py, which are AutoFormer's (github.com/microsoft/Cream), on "
            "eight GPUs as in train_searched_result.sh of github.com/decemberzhou/TF_TAS; a rate of 5e-4 for each 512 images"
        ),
        unverified=(
            "the original train.py was not at hand; its copy has 256 images a GPU where AutoFormer's has 64. AutoFormer's "
            "supernets take 500 epochs with a warm-up of 20. RandAugment is torchvision's, whose set of operations has no "
            "Invert and no SolarizeAdd, and its magnitude is 9 of 10 where the published one is drawn around it (standard "
            "deviation 0.5). Left out: repeated augmentation, which the published runs have"
        ),
        data="imagenet",
        epochs=300,
        batch_size=2048,
        lr=2e-3,
        weight_decay=0.05,
        optimiser="adamw",
        schedule="cosine",
        warmup_epochs=5,
        warmup_lr=1e-6,
        min_lr=1e-5,
        decay_norms=False,
        decay_vectors=False,
        grad_clip=math.inf,
        label_smoothing=0.1,
        stochastic_depth=0.1,
        augmentation="resize",
        resolution=224,
        interpolation="bicubic",
        rand_augment=9,
        random_erasing=0.25,
        mixup=0.8,
        cutmix=1.0,
    ),
}
