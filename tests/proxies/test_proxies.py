"""What holds for every proxy: the model is left alone, seeds decide, neighbours do not matter, misuse is told."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from untouched import assert_same, snapshot

import ncdlib
from ncdlib import images, proxies, spaces

CELL = "|nor_conv_3x3~0|+|nor_conv_1x1~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|none~2|"
SINGLE = [name for name in proxies.names() if proxies.get(name).reads != "ranks"]
RANKED = [name for name in proxies.names() if proxies.get(name).reads == "ranks"]
FOR_VITS = ("dss", "auto_prox")
IMAGES, LABELS = images.batch(n=6, resolution=16), images.labels(n=6)
SMALL = {"channels": 4, "cells_per_stage": 1}


def cnn(seed: int = 0, **build) -> nn.Module:
    torch.manual_seed(seed)
    return spaces.get("nasbench201").build(CELL, **SMALL | build)


def vit() -> nn.Module:
    torch.manual_seed(0)
    space = spaces.get("autoformer_tiny")
    return space.build(space.sample(np.random.default_rng(0)), image=16, classes=10)


def network_for(proxy: str) -> nn.Module:
    return vit() if proxy in FOR_VITS else cnn()


def test_every_proxy_of_the_papers_is_here():
    wanted = {
        "params", "flops", "units", "nwot", "swap", "regularised_swap", "jacov", "epe_nas", "grad_norm", "snip", "grasp",
        "synflow", "fisher", "gradsign", "plain", "l2_norm", "zico", "croze", "ntk", "linear_regions", "zen", "meco",
        "az_nas", "dss", "auto_prox",
    }  # fmt: skip
    assert wanted <= set(proxies.names())


@pytest.mark.parametrize("proxy", SINGLE)
def test_the_model_is_left_alone_and_the_seed_decides(proxy):
    model = network_for(proxy)
    frozen = next(model.parameters()).requires_grad_(False)
    last = list(model.parameters())[-1]
    last.grad = torch.ones_like(last)
    before = snapshot(model)
    first = ncdlib.score(model, IMAGES, proxy, labels=LABELS, alpha=0.3, seed=3)
    torch.rand(7)  # the global state does not matter
    again = ncdlib.score(model, IMAGES, proxy, labels=LABELS, alpha=0.3, seed=3)
    torch.manual_seed(0)
    assert first == again or (math.isnan(first) and math.isnan(again))
    torch.set_rng_state(before[-1])
    ncdlib.score(model, IMAGES, proxy, labels=LABELS, mode="eval" if proxy != "zen" else "train")
    assert_same(before, snapshot(model))
    assert not frozen.requires_grad and last.requires_grad
    assert torch.equal(last.grad, torch.ones_like(last)) and frozen.grad is None
    hooked = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    assert not any(getattr(module, kind) for module in model.modules() for kind in hooked)


def test_proxies_in_one_call_do_not_disturb_each_other():
    together = [name for name in SINGLE if name not in FOR_VITS]
    arguments = {"labels": LABELS, "alpha": 0.5, "norm": None, "seed": 2}
    scores = ncdlib.score(cnn(), IMAGES, together, **arguments)
    backwards = ncdlib.score(cnn(), IMAGES, together[::-1], **arguments)
    alone = {name: ncdlib.score(cnn(), IMAGES, name, **arguments) for name in together}
    assert list(backwards) == together[::-1]
    assert scores == pytest.approx(alone, rel=0, abs=0, nan_ok=True)
    assert scores == pytest.approx(backwards, rel=0, abs=0, nan_ok=True)


@pytest.mark.parametrize("proxy", [name for name in SINGLE if any(proxies.get(p).labels for p in proxies.parts([name]))])
def test_labels_that_are_needed_are_asked_for(proxy):
    model = network_for(proxy)
    for labels, message in {
        None: f"'{proxy}' needs labels: pass labels=",
        LABELS[:3]: r"labels must be 6 whole numbers, one per image: got shape \(3,\) of torch.int64",
        LABELS.float(): r"labels must be 6 whole numbers, one per image: got shape \(6,\) of torch.float32",
    }.items():
        with pytest.raises(ValueError, match=message):
            ncdlib.score(model, IMAGES, proxy, labels=labels)


@pytest.mark.parametrize("proxy", ["grad_norm", "snip", "grasp", "fisher", "gradsign", "zico", "croze"])
def test_labels_outside_the_classes_and_networks_that_classify_nothing(proxy):
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.9, the model's classes"):
        ncdlib.score(cnn(), IMAGES, proxy, labels=LABELS + 10)
    headless = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    with pytest.raises(ValueError, match=r"the loss needs a classifier's output of shape \(n, classes\), but the model"):
        ncdlib.score(headless, IMAGES, proxy, labels=LABELS)


@pytest.mark.parametrize("proxy", ["grad_norm", "snip", "grasp", "synflow", "fisher", "gradsign", "zico", "croze", "ntk"])
def test_a_network_without_parameters_has_no_gradients(proxy):
    empty = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ValueError, match="the model (has no parameters|ran no convolution or linear layer)"):
        ncdlib.score(empty, IMAGES, proxy, labels=LABELS % 3)


@pytest.mark.parametrize("proxy", FOR_VITS)
def test_a_proxy_for_vision_transformers_refuses_a_cnn(proxy):
    with pytest.raises(ValueError, match="is defined for vision transformers: the model has no attention"):
        ncdlib.score(cnn(), IMAGES, proxy, labels=LABELS)


def test_a_proxy_for_cnns_refuses_a_vision_transformer():
    with pytest.raises(ValueError, match="zen"):
        ncdlib.score(vit(), IMAGES, "zen")


class Infinite(nn.Module):
    """Its output is the square root of zero, where the gradient is infinite."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(12, 4)

    def forward(self, x):
        return (0 * self.head(x.flatten(1)[:, :12])).sqrt()


@pytest.mark.parametrize("proxy", ["grad_norm", "snip", "plain", "fisher", "gradsign", "zico"])
def test_a_gradient_that_is_not_finite_is_reported_with_its_layer(proxy):
    with pytest.warns(UserWarning, match=rf"{proxy}.*head.*not finite.*the score is nan"):
        assert math.isnan(ncdlib.score(Infinite(), IMAGES, proxy, labels=LABELS % 4))


@pytest.mark.parametrize("proxy", RANKED)
def test_a_proxy_that_ranks_a_set_needs_one(proxy):
    with pytest.raises(ValueError, match=f"'{proxy}' ranks a set of networks: use score_space, or ask for its parts"):
        ncdlib.score(cnn(), IMAGES, proxy)


@pytest.mark.parametrize("proxy", RANKED)
def test_score_space_ranks_the_set_of_each_setting(proxy, tmp_path):
    rng = np.random.default_rng(1)
    space = spaces.get("nasbench201")
    archs = [str(space.sample(rng)) for _ in range(5)]
    asked = [proxy, "params"]
    settings = {"batch": 4, "resolution": 16, "size": SMALL, "progress": False, "jobs": 1, "seeds": (0, 1)}
    rows = ncdlib.score_space(space, archs, asked, out=tmp_path / "scores.parquet", **settings)
    assert list(rows["proxy"]) == asked * (5 * 2)
    parts = ncdlib.score_space(space, archs, proxies.get(proxy).of, **settings)
    for seed in (0, 1):
        columns = [
            parts[(parts.seed == seed) & (parts.proxy == part)].set_index("arch").score.loc[archs].to_numpy()
            for part in proxies.get(proxy).of
        ]
        mine = rows[(rows.seed == seed) & (rows.proxy == proxy)].set_index("arch").score.loc[archs]
        np.testing.assert_array_equal(mine, proxies.get(proxy).function(*columns))
    stored = ncdlib.scoring.file.read(tmp_path / "scores.parquet")
    assert set(stored["proxy"]) == {*proxies.get(proxy).of, "params"}  # ranks depend on the set, and are not stored


@pytest.mark.parametrize("codes", [torch.eye(5).repeat(2, 3), torch.ones(4, 7), torch.tensor([[0, 1], [1, 0], [0, 1]])])
def test_linear_regions_are_the_distinct_rows(codes):
    codes = codes.to(torch.int8)
    assert proxies.get("linear_regions").function(codes) == len(torch.unique(codes, dim=0))


def test_linear_regions_of_a_network_are_its_distinct_codes():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))
    points = torch.randn(300, 2)
    first = model[0](points) > 0
    second = model[2](model[1](model[0](points))) > 0
    regions = len(torch.unique(torch.cat([first, second], dim=1), dim=0))
    assert 3 < regions < 60
    assert ncdlib.score(model, points, "linear_regions") == regions


def test_a_weight_that_is_not_finite_is_reported_with_its_layer():
    model = cnn()
    next(model.parameters()).data[0] = math.inf
    with pytest.warns(UserWarning, match="l2_norm: the norm of .*weight is not finite: the score is nan"):
        assert math.isnan(ncdlib.score(model, IMAGES, "l2_norm"))
