"""What every search space offers."""

from abc import ABC, abstractmethod
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np
from torch import nn

from ncdlib.spaces.blocks import check_sizes, initialise

if TYPE_CHECKING:
    import matplotlib.axes

Arch = TypeVar("Arch", bound=Hashable)


class Space(ABC, Generic[Arch]):
    """A set of architectures: sample one, read its string, build its network, count its convolutions, draw it.

    An architecture is hashable, and `str(arch)` is the native string of its benchmark. A space says in its documentation
    what its `sizes` mean.
    """

    name: str
    sizes: ClassVar[dict[str, Any]]  # what else `build` takes, with the published values
    norm, activation, init = "bn", "relu", "default"  # what `build` takes where they are None

    def sample(self, rng: np.random.Generator) -> Arch:
        """An architecture drawn uniformly; each space says over what. ValueError unless `rng` is numpy's Generator."""
        if not isinstance(rng, np.random.Generator):
            raise ValueError(f"sample draws from a numpy generator, such as numpy.random.default_rng(0): got {rng!r}")
        return self._sample(rng)

    @abstractmethod
    def _sample(self, rng: np.random.Generator) -> Arch: ...

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

    def build(
        self,
        arch: Arch | str,
        norm: str | None = None,
        activation: str | None = None,
        *,
        init: str | None = None,
        complete: bool = True,
        **size: object,
    ) -> nn.Module:
        """A network at initialisation, decided by `torch.manual_seed`; what is not given is as published.

        - `norm`: a name of `rescaling.make`; `activation`: a name of `activations.make`; `init`: of `initialise`.
        - `complete=False`: the space may leave out work that cannot change the output. Activations record as before, so
          the codes are the same; the FLOPs are not.
        - `size`: any of `sizes`.

        Under `torch.device("meta")` it builds without memory, for counting.
        """
        for name in size:
            if name not in self.sizes:
                raise ValueError(f"{self.name} has no size {name!r}: use {', '.join(self.sizes)}")
        size = {**self.sizes, **size}
        check_sizes(**{name: value for name, value in size.items() if type(self.sizes[name]) is int})
        arch = self.checked(arch)
        norm = self.norm if norm is None else norm
        activation = self.activation if activation is None else activation
        network = self.network(arch, norm, activation, complete, **size)
        self.initialise(network, self.init if init is None else init)
        return network

    @abstractmethod
    def network(self, arch: Arch, norm: str, activation: str, complete: bool, **size: Any) -> nn.Module:  # noqa: ANN401
        """The network of `build`, whose weights wait for `initialise`."""

    def initialise(self, network: nn.Module, init: str) -> None:
        """Draw the weights: see `blocks.initialise`."""
        initialise(network, init)

    @abstractmethod
    def convolutions(self, arch: Arch) -> int:
        """Number of convolutions that the architecture chooses."""

    @abstractmethod
    def picture(self, arch: Arch) -> tuple:
        """What `draw` shows: the name of a function of `drawing`, and what it takes after the axes."""

    def draw(self, arch: Arch, ax: "matplotlib.axes.Axes") -> None:
        """Draw the architecture into `ax`."""
        from ncdlib.spaces import drawing  # here, because it loads matplotlib

        kind, *shown = self.picture(arch)
        getattr(drawing, kind)(ax, *shown)
