"""How good predictions are: top-k accuracy, mean average precision, mean intersection over union, structural similarity."""

from jaxtyping import Float, Int
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d


def top_k(logits: Float[Tensor, "n classes"], labels: Int[Tensor, " n"], k: int = 1) -> float:
    """The percentage of rows whose class is among the k highest logits; k at most the number of classes."""
    if not 1 <= k <= logits.shape[1]:
        raise ValueError(f"k must lie from 1 to {logits.shape[1]}, the number of classes: got {k!r}")
    return 100 * (logits.topk(k).indices == labels[:, None]).any(1).float().mean().item()


def mean_average_precision(scores: Float[np.ndarray, "n classes"], labels: Int[np.ndarray, " n"]) -> float:
    """The mean over the classes that occur of the average precision of finding a class by its score.

    scikit-learn's `average_precision_score`, one class against the rest. This is classification; COCO's metric of the same
    name also matches boxes.
    """
    from sklearn.metrics import average_precision_score  # slow to import, seldom needed

    there = np.unique(labels)
    return float(np.mean([average_precision_score(labels == c, scores[:, c]) for c in there]))


def mean_iou(predicted: Int[np.ndarray, "..."], truth: Int[np.ndarray, "..."]) -> float:
    """The mean over the classes in either map of |both| / |either|, as Jaccard: `jaccard_score` of scikit-learn.

    All pixels of all images count together.
    """
    from sklearn.metrics import jaccard_score

    if predicted.shape != truth.shape:
        raise ValueError(f"the maps must have one shape: got {predicted.shape} and {truth.shape}")
    return float(jaccard_score(truth.ravel(), predicted.ravel(), average="macro", zero_division=0))


def ssim(
    first: Float[Tensor, "n c h w"],
    second: Float[Tensor, "n c h w"],
    span: float = 1.0,
    window: int = 11,
    sigma: float = 1.5,
) -> float:
    """Structural similarity of images whose values span `span`, mean over windows, channels and images; 1 if they are equal.

    Wang et al. 2004 (IEEE TIP 13(4), Eq. 13), Gaussian window, K1 = 0.01, K2 = 0.03; only windows wholly inside count.
    """
    channels, side = first.shape[1], min(first.shape[2:])
    if window > side:
        raise ValueError(f"a window of {window} does not fit images whose shorter side is {side}: give a smaller window")
    line = torch.exp(-((torch.arange(window, dtype=first.dtype) - (window - 1) / 2) ** 2) / (2 * sigma**2))
    weights = (line[:, None] * line / line.sum() ** 2).to(first.device).expand(channels, 1, window, window)

    def mean(x: Tensor) -> Tensor:
        return conv2d(x, weights, groups=channels)

    m1, m2 = mean(first), mean(second)
    v1, v2, covariance = mean(first**2) - m1**2, mean(second**2) - m2**2, mean(first * second) - m1 * m2
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    similar = (2 * m1 * m2 + c1) * (2 * covariance + c2) / ((m1**2 + m2**2 + c1) * (v1 + v2 + c2))
    return similar.mean().item()
