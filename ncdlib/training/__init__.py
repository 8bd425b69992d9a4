"""Retrain a searched network by a published recipe. Needs the extra `train`."""

from ncdlib.training.loop import NotFiniteLoss, train

__all__ = ["NotFiniteLoss", "train"]
