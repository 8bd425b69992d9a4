"""The published settings for retraining a searched network from scratch, and their learning rates."""

from collections.abc import Hashable
from dataclasses import dataclass, replace
import inspect
import math

from torch import nn

from ncdlib import spaces

SCHEDULES = ("cosine", "linear", "linear_by_step", "exponential")
DECAY = 0.97  # what "exponential" multiplies the learning rate by after each epoch (DARTS on ImageNet)


@dataclass(frozen=True)
class Recipe:
    """All that decides a training but the network, the images and the seed.

    - `optimiser`: "sgd", with momentum, or "adamw" (Loshchilov & Hutter 2019, arXiv:1711.05101; betas 0.9 and 0.999).
    - `schedule`: see `learning_rate`, as for `warm_up` and `tail`, which are epochs, `warm_up_rate` and `least_rate`.
    - `decay_norms`: whether weight decay acts on the scale and shift of normalisation layers, too. `decay_vectors`: whether
      it acts on biases, tokens and positions, too; if not, only matrices and filters are decayed.
    - `clip`: the largest norm of the gradient of all weights together; infinity is no limit.
    - `auxiliary`: weight of the auxiliary head's loss; 0 is no head. `drop_path`: its probability at the end; it rises
      linearly from 0, epoch by epoch. `stochastic_depth`: of transformers; it rises block by block, not by epochs.
    - `augmentation`: "crop" pads by 4 and crops, "resize" takes a random part and resizes it; both flip. `jitter`: the
      strengths of brightness, contrast, saturation and hue. `cutout`: the side of the square that is set to the mean.
      `erase`: the probability of a random rectangle of noise. `mixup`, `cutmix`: parameters of the Beta distribution that
      says how much of another image is mixed in; 0 is none, and with both each batch takes one of them.
    - `mixed_precision`: half precision where it is safe, float16 on a GPU and bfloat16 on a CPU. Of the runs published with
      these recipes, only those of vision transformers used it.
    - `data`: the images it was published for. `channels`, `layers`, `stem`: sizes of the network, None the space's own.
    - `source`: where the values come from. `unverified`: what could not be checked against a paper or published code.
    """

    source: str
    unverified: str
    data: str  # cifar10, cifar100 or imagenet
    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float
    schedule: str
    momentum: float = 0.9
    warm_up: int = 0
    tail: int = 0
    optimiser: str = "sgd"
    warm_up_rate: float | None = None
    least_rate: float = 0.0
    decay_norms: bool = True
    decay_vectors: bool = True
    clip: float = 5.0
    label_smoothing: float = 0.0
    auxiliary: float = 0.0
    drop_path: float = 0.0
    stochastic_depth: float = 0.0
    augmentation: str = "crop"
    resolution: int = 32
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    cutout: int = 0
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    channels: int | None = None
    layers: int | None = None
    stem: str | None = None
    mixed_precision: bool = False

    def __post_init__(self) -> None:
        for name, least in {"epochs": 1, "batch": 2, "warm_up": 0, "tail": 0, "resolution": 1, "cutout": 0}.items():
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be above 0 and finite, got {self.learning_rate!r}")
        if not self.clip > 0:
            raise ValueError(f"clip must be above 0, or math.inf for no limit: got {self.clip!r}")
        if not 0 <= self.least_rate <= self.learning_rate:
            raise ValueError(f"least_rate must lie from 0 to learning_rate = {self.learning_rate}, got {self.least_rate!r}")
        for name in ("weight_decay", "auxiliary", "mixup", "cutmix"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be at least 0 and finite, got {getattr(self, name)!r}")
        for name in ("momentum", "drop_path", "stochastic_depth", "label_smoothing", "erase"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie from 0 up to, not including, 1: got {getattr(self, name)!r}")
        if self.optimiser not in ("sgd", "adamw"):
            raise ValueError(f"unknown optimiser {self.optimiser!r}: use 'sgd' or 'adamw'")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"unknown schedule {self.schedule!r}: use one of {', '.join(SCHEDULES)}")
        if self.augmentation not in ("crop", "resize"):
            raise ValueError(f"unknown augmentation {self.augmentation!r}: use 'crop' or 'resize'")
        if self.warm_up > self.epochs or self.tail >= self.epochs:
            raise ValueError(
                f"{self.epochs} epochs have no room for a warm-up of {self.warm_up} and a tail of {self.tail}: "
                "use recipe.short(epochs), which shortens both"
            )

    def short(self, epochs: int, **changes: object) -> "Recipe":
        """The recipe over fewer epochs, warm-up and tail shortened in proportion, and with other fields changed."""
        scaled = {name: round(getattr(self, name) * epochs / self.epochs) for name in ("warm_up", "tail")}
        return replace(self, epochs=epochs, **{**scaled, **changes})


def learning_rate(recipe: Recipe, epoch: int, step: int, steps: int) -> float:
    """The learning rate at a step of an epoch, both counted from 0, of `steps` in each epoch.

    With r the initial rate, e the epoch, E the number of epochs:

    - `cosine`: m + (r - m)/2 (1 + cos(pi e / E)) with m = `least_rate`, constant within an epoch (Loshchilov & Hutter 2017,
      arXiv:1608.03983, Eq. 5).
    - `linear`: r (1 - e / (E - tail)), but over the last `tail` epochs r (E - e) / (tail (E - tail)), a smaller slope.
    - `linear_by_step`: r (1 - t / T) with t the steps done of T in all. `exponential`: r * 0.97^e.

    In the first `warm_up` epochs the rate is multiplied by (e + 1) / warm_up; or, where there is a `warm_up_rate` w, it is
    w + (r - w) e / warm_up instead.
    """
    if recipe.warm_up_rate is not None and epoch < recipe.warm_up:
        return recipe.warm_up_rate + (recipe.learning_rate - recipe.warm_up_rate) * epoch / recipe.warm_up
    all_epochs, tail = recipe.epochs, recipe.tail
    match recipe.schedule:
        case "cosine":
            least = recipe.least_rate / recipe.learning_rate
            factor = least + (1 - least) * (1 + math.cos(math.pi * epoch / all_epochs)) / 2
        case "linear" if all_epochs - epoch > tail:
            factor = 1 - epoch / (all_epochs - tail)
        case "linear":
            factor = (all_epochs - epoch) / (tail * (all_epochs - tail))
        case "linear_by_step":
            factor = 1 - (epoch * steps + step) / (all_epochs * steps)
        case "exponential":
            factor = DECAY**epoch
    if epoch < recipe.warm_up:
        factor *= (epoch + 1) / recipe.warm_up
    return recipe.learning_rate * factor


def network(space: str | spaces.Space, arch: Hashable | str, recipe: Recipe, classes: int, **size: int | None) -> nn.Module:
    """The network that the recipe trains, its weights decided by `torch.manual_seed`; `size` overrides the recipe's.

    A transformer is built for images of the recipe's resolution.
    """
    space = spaces.get(space) if isinstance(space, str) else space
    takes = inspect.signature(space.build).parameters
    wanted = {"channels": recipe.channels, "layers": recipe.layers, "stem": recipe.stem}
    wanted |= {"image": recipe.resolution if "image" in takes else None} | size
    wanted = {name: value for name, value in wanted.items() if value is not None}
    if recipe.auxiliary:
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
    "auxiliary": 0.4,
    "label_smoothing": 0.1,
    "augmentation": "resize",
    "resolution": 224,
    "jitter": (0.4, 0.4, 0.4, 0.2),
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
    batch=96,
    learning_rate=0.025,
    weight_decay=3e-4,
    schedule="cosine",
    auxiliary=0.4,
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
        batch=128,
        learning_rate=0.1,
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
        batch=1024,
        learning_rate=0.5,
        schedule="linear",
        warm_up=5,
        tail=5,
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
        batch=1024,
        learning_rate=0.5,
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
            "supernets take 500 epochs with a warm-up of 20. Left out: RandAugment and repeated augmentation, which the "
            "published runs have; images are resized bilinearly, not bicubically"
        ),
        data="imagenet",
        epochs=300,
        batch=2048,
        learning_rate=2e-3,
        weight_decay=0.05,
        optimiser="adamw",
        schedule="cosine",
        warm_up=5,
        warm_up_rate=1e-6,
        least_rate=1e-5,
        decay_norms=False,
        decay_vectors=False,
        clip=math.inf,
        label_smoothing=0.1,
        stochastic_depth=0.1,
        augmentation="resize",
        resolution=224,
        erase=0.25,
        mixup=0.8,
        cutmix=1.0,
    ),
}
