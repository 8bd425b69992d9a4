"""Every norm against its definition, on any module, which is left untouched."""

import inspect

import pytest
import torch
from torch import nn

import ncdlib
from ncdlib import rescaling, spaces


def normalised(x: torch.Tensor, dims: tuple[int, ...]) -> torch.Tensor:
    mean, variance = x.mean(dims, keepdim=True), x.var(dims, correction=0, keepdim=True)
    return (x - mean) / torch.sqrt(variance + 1e-5)


X = torch.randn(6, 16, 5, 7, dtype=torch.float64) * 3 + 2


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bn", normalised(X, (0, 2, 3))),
        ("ln", normalised(X, (1, 2, 3))),
        ("in", normalised(X, (2, 3))),
        ("gn16", normalised(X, (2, 3))),
        ("gn8", normalised(X.view(6, 8, 2, 5, 7), (2, 3, 4)).view_as(X)),
        ("gn2", normalised(X.view(6, 2, 8, 5, 7), (2, 3, 4)).view_as(X)),
        ("none", X),
    ],
)
def test_norms_equal_their_definition(name, expected):
    layer = rescaling.make(name, 16).double().train()
    assert torch.allclose(layer(X), expected, atol=1e-10)
    last = X.contiguous(memory_format=torch.channels_last)
    assert torch.allclose(layer(last), expected, atol=1e-10)


def test_ln_is_torchs_layer_norm_and_dropout_drops_half():
    assert torch.allclose(rescaling.make("ln", 16).double()(X), nn.LayerNorm([16, 5, 7]).double()(X), atol=1e-12)
    dropped = rescaling.make("dropout", 16).train()(torch.ones(100_000))
    assert (dropped == 0).double().mean().item() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("name", ["batch", "gn0", "gn", "gn-2", "LN", "", None, 3])
def test_unknown_norm(name):
    with pytest.raises(ValueError, match="unknown norm.*use one of bn, ln"):
        inspect.unwrap(rescaling.make)(name, 16)  # past the tests' own check of types


def test_channels_that_cannot_be_divided():
    with pytest.raises(ValueError, match="'gn16' cannot divide 24 channels into 16 groups"):
        rescaling.make("gn16", 24)


class Mine(nn.Module):
    """A user's model: nested, one layer used in two places, one dimension after the head."""

    def __init__(self):
        super().__init__()
        shared = nn.BatchNorm2d(8)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), shared, nn.ReLU(), nn.Conv2d(8, 8, 3), shared, nn.ReLU())
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))

    def forward(self, x):
        return self.head(self.body(x))


@pytest.mark.parametrize("name", ["bn", "ln", "gn2", "gn4", "dropout", "none"])
def test_replaces_in_a_users_model_and_leaves_it_untouched(name):
    model = Mine().eval()
    layers = {key: module for key, module in model.named_modules(remove_duplicate=False)}
    state = {key: value.clone() for key, value in model.state_dict().items()}
    with rescaling.nir(model, name):
        norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
        assert (len(norms) > 0) == (name == "bn")
        assert model.body[1] is model.body[4] is not layers["body.1"]
        assert not model.body[1].training
        model(torch.randn(4, 3, 12, 12))
    assert {key: module for key, module in model.named_modules(remove_duplicate=False)} == layers
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_a_model_that_raises_gets_its_layers_back():
    model = Mine()
    first = model.body[1]
    with pytest.raises(KeyError), rescaling.nir(model, "ln"):
        raise KeyError
    assert model.body[1] is first


def test_no_batch_norm_and_no_space():
    with pytest.raises(ValueError, match="the model has none: use norm=None"), rescaling.nir(nn.Linear(3, 3), "ln"):
        pass
    with pytest.raises(ValueError, match="8 groups leave a single value each in an input of shape"):
        ncdlib.score(Mine(), torch.randn(4, 3, 12, 12), "nwot", norm="in")


def test_scoring_with_a_norm_equals_building_with_it():
    space = spaces.get("nasbench201")
    cell = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"
    images = torch.randn(8, 3, 16, 16)
    for norm in ("bn", "ln", "gn16", "in", "none"):
        scores = []
        for built, scored in (("bn", norm), (norm, None)):
            torch.manual_seed(0)
            network = space.build(cell, built, channels=16, cells_per_stage=1)
            scores.append(ncdlib.score(network, images, ["nwot", "swap"], norm=scored, alpha=0.5))
        assert scores[0]["swap"] == scores[1]["swap"]
        assert scores[0]["nwot"] == pytest.approx(scores[1]["nwot"], nan_ok=True)
