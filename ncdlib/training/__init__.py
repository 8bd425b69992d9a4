"""Retrain a searched network by a published recipe. Needs the extra `train`."""

from ncdlib.training import _torchvision  # noqa: F401  first: it says what to install
from ncdlib.training.loop import NotFiniteLoss, train

__all__ = ["NotFiniteLoss", "train"]
