"""The course of a training as a figure."""

from matplotlib.axes import Axes
import pandas as pd

from ncdlib.spaces.palette import BLUE, GREY

QUANTITIES = {"loss": "loss", "top1": "top-1 accuracy (%)"}


def draw(history: pd.DataFrame, ax: Axes, quantity: str = "top1") -> None:
    """Training and validation, epoch by epoch: `quantity` is "top1", accuracy in percent, or "loss"."""
    if quantity not in QUANTITIES:
        raise ValueError(f"unknown quantity {quantity!r}: use one of {', '.join(QUANTITIES)}")
    marker = "o" if len(history) < 30 else ""  # a single epoch is a point
    for part, label, color, line in (("train", "training", GREY, "--"), ("valid", "validation", BLUE, "-")):
        ax.plot(history["epoch"], history[f"{part}_{quantity}"], line, color=color, marker=marker, label=label)
    ax.set(xlabel="epoch", ylabel=QUANTITIES[quantity])
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend()
