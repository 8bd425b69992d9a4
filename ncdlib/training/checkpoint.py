"""The state of a training on disk: whole at any moment, and refused by a training that it does not belong to."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
import pickle
import zlib

from filelock import FileLock, Timeout
import pandas as pd
import torch
from torch import nn

from ncdlib.training.data import Data
from ncdlib.training.recipes import Recipe

TOLD = 3  # differences that an error names

Row = dict[str, float]


class Busy(RuntimeError):
    """Another run trains in this folder."""


@dataclass(frozen=True)
class Checkpoint:
    """`checkpoint.pt` and `history.csv` in a folder; `settings` say which training they belong to.

    No random state is stored: every draw of an epoch follows from the seed and the epoch.
    """

    folder: Path
    net: nn.Module
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    settings: dict[str, str]

    @property
    def path(self) -> Path:
        return self.folder / "checkpoint.pt"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """The folder belongs to this run until the end; the operating system frees it if the process is killed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / "training.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise Busy(f"another run trains in {self.folder}: wait for it to end, or train in another folder") from None
        try:
            yield
        finally:
            lock.release()

    def save(self, history: list[Row]) -> None:
        """Write both files beside their places, then rename them: the old or the new one stands whole."""
        parts = {name: getattr(self, name).state_dict() for name in ("net", "optimiser", "scaler")}
        partial = self.path.with_name(f"{self.path.name}.partial")
        torch.save({"settings": self.settings, "history": history, **parts}, partial)
        partial.replace(self.path)
        self._write(history)

    def restore(self) -> list[Row]:
        """Put the stored state, if any, into net, optimiser and scaler; the rows of its epochs.

        Raises ValueError where the file is damaged or of another training. Nothing in it is executed.
        """
        if not self.path.exists():
            return []
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            stored, history = state["settings"], state["history"]
        except (OSError, EOFError, LookupError, TypeError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
            raise ValueError(
                f"{self.path} is no checkpoint of a training: remove it, or train in another folder ({error})"
            ) from error
        names = [name for name in {**self.settings, **stored} if stored.get(name) != self.settings.get(name)]
        if names:
            said = [
                f"{name}: {stored.get(name, 'nothing')} there, {self.settings.get(name, 'nothing')} asked for"
                for name in names[:TOLD]
            ]
            more = f"; and {len(names) - TOLD} more" if len(names) > TOLD else ""
            raise ValueError(f"{self.path} is of another training ({'; '.join(said)}{more}): train in another folder")
        for name in ("net", "optimiser", "scaler"):
            getattr(self, name).load_state_dict(state[name])
        self._write(history)
        return history

    def _write(self, history: list[Row]) -> None:
        partial = self.folder / "history.csv.partial"
        pd.DataFrame(history).to_csv(partial, index=False)
        partial.replace(self.folder / "history.csv")


def settings(net: nn.Module, recipe: Recipe, data: Data, seed: int) -> dict[str, str]:
    """What must be the same when a training goes on, as text."""
    said = {"seed": str(seed), "data": data.name}
    said |= {f"recipe {name}": str(value) for name, value in asdict(recipe).items() if name not in ("source", "unverified")}
    for part, split in {"train": data.train, "valid": data.valid}.items():
        said[f"data {part}"] = f"{len(split.labels)} images, labels of crc {zlib.crc32(split.labels.numpy().tobytes()):08x}"
    said |= {f"network {name or 'itself'}": plain(module) for name, module in net.named_modules()}
    return said | {f"network {name}": str(tuple(value.shape)) for name, value in net.state_dict().items()}


def plain(module: nn.Module) -> str:
    """A module's class and the numbers and strings it holds: networks with weights of equal shapes may differ in these."""

    def is_plain(value: object) -> bool:
        if isinstance(value, list | tuple):
            return all(map(is_plain, value))
        return value is None or isinstance(value, bool | int | float | str)

    own = {k: v for k, v in sorted(vars(module).items()) if not k.startswith("_") and v is not None and is_plain(v)}
    values = ", ".join(f"{k}={v!r}" for k, v in own.items() if k not in ("training", "drop_path"))  # these change on the way
    return f"{type(module).__name__}({values})"
