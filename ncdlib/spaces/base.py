"""What every search space offers."""

from abc import ABC, abstractmethod
from collections.abc import Hashable
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
from torch import nn

if TYPE_CHECKING:
    import matplotlib.axes

Arch = TypeVar("Arch", bound=Hashable)


class Space(ABC, Generic[Arch]):
    """A set of architectures that can be drawn from, read, built, counted and drawn.

    An architecture is hashable, and `str(arch)` is the native string of its benchmark.
    """

    name: str

    @abstractmethod
    def sample(self, rng: np.random.Generator) -> Arch:
        """An architecture drawn uniformly; each space says over what."""

    @abstractmethod
    def parse(self, text: str) -> Arch:
        """The architecture of a native string. ValueError names the bad part and shows a good example."""

    def checked(self, arch: object) -> Arch:
        """The architecture of a string, or one that `build` takes as it is. ValueError for what is of another space."""
        if isinstance(arch, str):
            return self.parse(arch)
        try:
            own = self.parse(str(arch)) == arch
        except ValueError as error:
            raise ValueError(f"{arch!r} is no architecture of {self.name}: {error}") from error
        if not own:
            raise ValueError(
                f"{arch!r} is no architecture of {self.name}, though its string is one: use space.parse(str(arch))"
            )
        return arch

    @abstractmethod
    def build(
        self,
        arch: Arch | str,
        norm: str = "bn",
        activation: str = "relu",
        *,
        init: str = "default",
        complete: bool = True,
        **size: int,
    ) -> nn.Module:
        """A network at initialisation, decided by `torch.manual_seed`; every `size` defaults to the published one.

        - `norm`: a name of `rescaling.make`; `activation`: a name of `activations.make`; `init`: of `blocks.initialise`.
        - `complete=False`: the space may leave out work that cannot change the output. Activations record as before, so
          the codes are the same; the FLOPs are not.

        Under `torch.device("meta")` it builds without memory, for counting.
        """

    @abstractmethod
    def convolutions(self, arch: Arch) -> int:
        """Number of convolutions that the architecture chooses."""

    @abstractmethod
    def draw(self, arch: Arch, ax: "matplotlib.axes.Axes") -> None:
        """Draw the architecture into `ax`."""
