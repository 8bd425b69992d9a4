"""What holds for every search space: scoring under every norm, mask and activation, by seed; drawing; errors."""

import math

from matplotlib.figure import Figure
import numpy as np
import pytest
import torch

import ncdlib
from ncdlib import masking, rescaling, spaces

SMALL = {
    "nasbench201": {"channels": 16, "cells_per_stage": 1},
    "nasbench101": {"channels": 16, "cells_per_stack": 1},
    "transnas_micro": {"channels": 16, "cells_per_module": 1},
    "transnas_macro": {"channels": 16, "cells_per_module": 1},
    **{name: {"channels": 16, "layers": 3} for name in ("darts", "s1", "s2", "s3", "s4")},
    "mobilenet": {},
    "mobilenet_v2": {},
    **{f"autoformer_{size}": {"image": 32} for size in ("tiny", "small", "base")},
}
VITS = ("autoformer_tiny", "autoformer_small", "autoformer_base")


def scores(name: str, seed: int = 0, **arguments) -> dict[str, float]:
    space = spaces.get(name)
    build = {key: arguments.pop(key) for key in ("norm_built", "activation") if key in arguments}
    options = {"norm": build["norm_built"]} if "norm_built" in build else {}
    options |= {"activation": build["activation"]} if "activation" in build else {}
    arch = space.sample(np.random.default_rng(3))
    torch.manual_seed(seed)
    network = space.build(str(arch), **options, **SMALL[name])
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return ncdlib.score(network, images, ["nwot", "swap", "units"], seed=seed, **arguments)


def test_every_space_is_here():
    assert set(SMALL) == set(spaces.names())


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("mask", masking.KINDS)
def test_scores_under_every_mask_by_seed(name, mask):
    first, again, other = (scores(name, seed, alpha=0.5, mask=mask) for seed in (0, 0, 1))
    assert first == again
    assert first["units"] == other["units"] > 0
    assert 0 < first["swap"] <= 2**4
    plain = scores(name)
    assert plain == scores(name)
    assert math.isfinite(plain["nwot"])


@pytest.mark.parametrize("name", [name for name in SMALL if name not in VITS])
@pytest.mark.parametrize("norm", [norm for norm in rescaling.NAMES if norm not in ("in", "gn16", "gn8")] + ["gn2"])
def test_scores_under_every_norm_built_or_replaced(name, norm):
    built = scores(name, norm_built=norm)
    assert built == scores(name, norm=norm)
    assert built["units"] == scores(name)["units"]


@pytest.mark.parametrize("name", ["nasbench201", "darts", "s4"])
@pytest.mark.parametrize("norm", ["gn16", "gn8", "in"])
def test_scores_under_the_norms_of_table_4(name, norm):
    assert scores(name, norm_built=norm) == scores(name, norm=norm)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("activation", ["relu", "gelu", "leaky_relu", "silu"])
def test_scores_with_every_activation(name, activation):
    assert scores(name, activation=activation)["units"] > 0


@pytest.mark.parametrize("name", VITS)
def test_a_vision_transformer_has_no_batch_norm_to_replace(name):
    with pytest.raises(ValueError, match="the model has none: use norm=None"):
        scores(name, norm="ln")


@pytest.mark.parametrize("name", SMALL)
def test_strings_pictures_counts_and_errors(name):
    space = spaces.get(name)
    rng = np.random.default_rng(0)
    for _ in range(5):
        arch = space.sample(rng)
        assert space.parse(str(arch)) == arch and hash(space.parse(str(arch))) == hash(arch)
        assert space.convolutions(arch) >= 0
    space.draw(arch, Figure().subplots())
    for bad in ("", "nonsense", str(arch)[: len(str(arch)) // 2], f"{arch}?"):
        with pytest.raises(ValueError):
            space.parse(bad)


def test_unknown_space():
    with pytest.raises(ValueError, match="unknown search space 'nats': use one of nasbench201, nasbench101"):
        spaces.get("nats")
