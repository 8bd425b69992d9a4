"""Proxies of Jacobians equal plain formulations and closed forms, and say what they leave undefined."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from untouched import assert_same, snapshot

import ncdlib
from ncdlib import masking, rescaling, spaces

PROXIES = ["jacov", "epe_nas", "ntk"]
CELL = "|nor_conv_3x3~0|+|nor_conv_1x1~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|none~2|"
NOTHING = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
K = 1e-5


def batch(n: int, *shape: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, *shape, generator=generator, dtype=torch.float64), torch.arange(n) % 3


def nasbench201(cell: str = CELL, classes: int = 5) -> nn.Module:
    torch.manual_seed(0)
    return spaces.get("nasbench201").build(cell, channels=4, cells_per_stage=1, classes=classes).double()


def autoformer() -> nn.Module:
    torch.manual_seed(0)
    space = spaces.get("autoformer_tiny")
    return space.build(space.example, image=16, patch=8, classes=5).double()


def plain() -> nn.Module:
    """No normalisation, and an activation that overwrites what it reads."""
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 4, 3, stride=2)
    return nn.Sequential(
        convolution, nn.SiLU(inplace=True), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 5)
    ).double()


SETTINGS = {
    "nasbench201": (nasbench201, (8, 3, 8, 8)),
    "autoformer": (autoformer, (5, 3, 16, 16)),
    "plain": (plain, (8, 3, 8, 8)),
}


class Half(nn.Module):
    """x^2 / 2, whose gradient is x."""

    def forward(self, x: Tensor) -> Tensor:
        return x.square() / 2


# Oracles: the Jacobian of every output of every image by the batch, correlations pair by pair, weights one by one.


def rows(network: nn.Module, images: Tensor) -> np.ndarray:
    jacobian = torch.autograd.functional.jacobian(network, images)  # (n, classes, n, *shape)
    return jacobian.flatten(0, jacobian.dim() - images.dim() - 1).sum(0).flatten(1).numpy()


def correlations(rows: np.ndarray) -> np.ndarray:
    return np.array([[np.corrcoef(a, b)[0, 1] for b in rows] for a in rows])


def textbook_jacov(network, images, labels):
    values = np.linalg.eig(np.corrcoef(rows(network, images)))[0]
    return -np.sum(np.log(values + K) + 1 / (values + K))


def textbook_epe_nas(network, images, labels):
    gradients, classes = rows(network, images), network(images).shape[1]
    s = {}
    for label in set(labels.tolist()):
        own = gradients[[i for i in range(len(images)) if labels[i] == label]]
        if len(own) > 1 or classes <= 100:
            total = sum(math.log(abs(c) + K) for c in correlations(own).ravel())
            s[label] = total / len(own) if classes > 100 else total
    if classes <= 100:
        return sum(abs(value) for value in s.values())
    return sum(2 * abs(a - b) for a, b in itertools.combinations(s.values(), 2)) / len(s)


def textbook_ntk(network, images, labels):
    gradients = []
    for i in range(len(images)):
        network.zero_grad()
        network(images)[i].sum().backward()
        gradients.append(
            np.concatenate(
                [p.grad.numpy().ravel() for name, p in network.named_parameters() if "weight" in name and p.grad is not None]
            )
        )
    values = np.linalg.svd(np.stack(gradients), compute_uv=False)
    return -((values[0] / values[-1]) ** 2)


TEXTBOOK = {name: globals()[f"textbook_{name}"] for name in PROXIES}


@pytest.mark.parametrize("name", PROXIES)
@pytest.mark.parametrize("setting", SETTINGS)
def test_equals_its_textbook_form(setting, name):
    make, shape = SETTINGS[setting]
    model, (images, labels) = make(), batch(*shape)
    expected = TEXTBOOK[name](copy.deepcopy(model), images, labels)
    assert math.isfinite(expected)
    assert ncdlib.score(model, images, name, labels=labels) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("name", PROXIES)
def test_equals_its_textbook_form_under_masks_and_another_norm(name):
    model, (images, labels) = nasbench201(), batch(6, 3, 8, 8)
    twin = copy.deepcopy(model)
    with rescaling.nir(twin, "ln"):
        expected = TEXTBOOK[name](twin, images, labels)
    assert ncdlib.score(model, images, name, labels=labels, norm="ln") == pytest.approx(expected, rel=1e-7)
    if name != "ntk":  # its textbook form runs often, and would draw other masks each time
        with masking.sam(twin := plain(), 0.5, seed=3):
            kept = TEXTBOOK[name](OneMask(twin, images), images, labels)
        assert ncdlib.score(plain(), images, name, labels=labels, alpha=0.5, seed=3) == pytest.approx(kept, rel=1e-7)


class OneMask(nn.Module):
    """A network whose masks are those of its first pass, whenever it runs."""

    def __init__(self, network, images):
        super().__init__()
        self.network, self.masks = network, []
        layers = [m for m in network.modules() if isinstance(m, masking.LAYERS)]
        inputs = [m.register_forward_pre_hook(lambda m, i: self.masks.append(i[0] != 0)) for m in layers]
        with torch.no_grad():
            network(images)  # the hooks come after those of SAM
        for handle in inputs:
            handle.remove()
        for layer, mask in zip(layers, self.masks, strict=True):
            layer._forward_pre_hooks.clear()
            layer.register_forward_pre_hook(lambda m, i, mask=mask: (i[0] * mask,))

    def forward(self, x):
        return self.network(x)


@pytest.mark.parametrize("name", PROXIES)
def test_float32_agrees_with_float64(name):
    make, shape = SETTINGS["nasbench201"]
    model, (images, labels) = make(), batch(*shape)
    exact = ncdlib.score(model, images, name, labels=labels)
    assert ncdlib.score(model.float(), images.float(), name, labels=labels) == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize("name", PROXIES)
def test_the_order_of_images_does_not_matter(name):
    model, (images, labels) = nasbench201(), batch(8, 3, 8, 8)
    order = torch.tensor([3, 1, 7, 0, 6, 2, 5, 4])
    expected = ncdlib.score(model, images, name, labels=labels)
    assert ncdlib.score(model, images[order], name, labels=labels[order]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", PROXIES)
def test_the_model_and_the_images_are_left_alone(name):
    model, (images, labels) = nasbench201(), batch(6, 3, 8, 8)
    next(model.parameters()).requires_grad_(False)
    before, pixels = snapshot(model), images.clone()
    score = ncdlib.score(model, images, name, labels=labels)
    assert_same(before, snapshot(model))
    assert not images.requires_grad and images.grad is None and torch.equal(images, pixels)
    assert score == ncdlib.score(model.requires_grad_(False), images, name, labels=labels)


@pytest.mark.parametrize("name", PROXIES)
def test_runs_the_model_once(name):
    model, (images, labels) = nasbench201(), batch(6, 3, 8, 8)
    calls = []
    model.register_forward_hook(lambda m, i, o: calls.append(len(i[0])))
    ncdlib.score(model, images, name, labels=labels)
    assert calls == [6]


# Closed forms


@pytest.mark.parametrize("n", [2, 5])
def test_jacov_of_a_linear_model_whose_gradients_are_all_one(n):
    model, (images, _) = nn.Linear(4, 3).double(), batch(n, 4)
    expected = -(math.log(n + K) + 1 / (n + K)) - (n - 1) * (math.log(K) + 1 / K)
    assert ncdlib.score(model, images, "jacov") == pytest.approx(expected, rel=1e-6)


def test_jacov_where_no_two_images_correlate_is_largest():
    images = torch.tensor([[1.0, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]])
    largest = ncdlib.score(Half(), images, "jacov")
    assert largest == pytest.approx(-3 * (math.log(1 + K) + 1 / (1 + K)), rel=1e-12)
    assert ncdlib.score(Half(), torch.randn(3, 4), "jacov") < largest


def test_jacov_of_two_images_by_hand():
    images = torch.tensor([[1.0, 0, 0], [1, 1, 0]])
    rho = 0.5
    expected = -sum(math.log(v + K) + 1 / (v + K) for v in (1 + rho, 1 - rho))
    assert ncdlib.score(Half(), images, "jacov") == pytest.approx(expected, rel=1e-12)


def test_epe_nas_by_hand():
    images = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 1, 5], [3, -1, 0]])  # correlations 1/2 in class 7; others apart
    labels = torch.tensor([7, 7, 0, 1])
    within = abs(2 * math.log(1 + K) + 2 * math.log(0.5 + K))
    assert ncdlib.score(Half(), images, "epe_nas", labels=labels) == pytest.approx(within + 2 * math.log(1 + K), rel=1e-9)


def wide(rows: list[list[float]], classes: int) -> Tensor:
    return torch.nn.functional.pad(torch.tensor(rows), (0, classes - len(rows[0])))


def test_epe_nas_compares_classes_where_there_are_more_than_100():
    """The number of outputs decides; x^2 / 2 has as many as inputs. Of padded rows the correlation is numpy's."""
    labels = torch.tensor([4, 4, 9, 9, 9])
    vectors = [[1.0, 0, 0], [1, 1, 0], [0, 1, 5], [3, -1, 0], [2, 2, 1]]

    def s(classes):
        corr = np.corrcoef(wide(vectors, classes).numpy())
        return [np.log(np.abs(corr[i:j, i:j]) + K).sum() for i, j in ((0, 2), (2, 5))]

    a, b = s(100)
    assert ncdlib.score(Half(), wide(vectors, 100), "epe_nas", labels=labels) == pytest.approx(abs(a) + abs(b))
    a, b = s(101)
    expected = 2 * abs(a / 2 - b / 3) / 2
    assert ncdlib.score(Half(), wide(vectors, 101), "epe_nas", labels=labels) == pytest.approx(expected)


def test_epe_nas_and_classes_of_one_image():
    images, _ = batch(5, 3, 8, 8)
    alone, pair = torch.arange(5), torch.tensor([0, 0, 1, 2, 3])
    few, many = nasbench201(classes=100), nasbench201(classes=101)
    assert ncdlib.score(few, images, "epe_nas", labels=alone) == pytest.approx(5 * math.log(1 + K), rel=1e-6)
    assert math.isnan(ncdlib.score(many, images, "epe_nas", labels=alone))
    assert ncdlib.score(many, images, "epe_nas", labels=pair) == 0  # one class is left, and compared with itself
    both = torch.tensor([0, 0, 1, 1, 3])
    expected = textbook_epe_nas(copy.deepcopy(many), images, both)
    assert expected > 0
    assert ncdlib.score(many, images, "epe_nas", labels=both) == pytest.approx(expected, rel=1e-7)


def test_ntk_of_a_linear_model():
    model, (images, _) = nn.Linear(6, 3).double(), batch(4, 6)
    values = np.linalg.eigvalsh(images.numpy() @ images.numpy().T)  # times 3, the outputs; the bias takes no part
    assert ncdlib.score(model, images, "ntk") == pytest.approx(-values[-1] / values[0], rel=1e-9)


def test_ntk_by_finite_differences():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.SiLU(), nn.Linear(4, 2)).double()
    images, _ = batch(5, 3)
    columns, h = [], 1e-5
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            for index in np.ndindex(*parameter.shape) if "weight" in name else ():
                ends = []
                for sign in (1, -1):
                    moved = copy.deepcopy(model)
                    dict(moved.named_parameters())[name][index] += sign * h
                    ends.append(moved(images).sum(1))
                columns.append((ends[0] - ends[1]) / (2 * h))
    values = np.linalg.svd(torch.stack(columns).numpy(), compute_uv=False)
    assert len(columns) == 12 + 4 + 8
    assert ncdlib.score(model, images, "ntk") == pytest.approx(-((values[0] / values[-1]) ** 2), rel=1e-5)


def test_ntk_resolves_ratios_beyond_float32():
    """Two images that differ by 1e-4: the ratio is some 1e8, and float32 kernels would make noise of it."""
    model = nn.Linear(6, 3, bias=False)
    first = torch.tensor([1.0, 2, 3, 4, 5, 6])
    images = torch.stack([first, first + torch.tensor([1e-3, -1e-3, 1e-3, 0, 0, 0])])
    x = images.double().numpy()
    values = np.linalg.svd(x, compute_uv=False)
    ratio = (values[0] / values[-1]) ** 2
    assert 1e7 < ratio < 1e9
    assert ncdlib.score(model, images, "ntk") == pytest.approx(-ratio, rel=1e-4)


# Undefined, and misused


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ntk_of_equal_images_is_undefined(dtype):
    for model, shape in ((nasbench201(), (4, 3, 8, 8)), (nn.Linear(6, 3), (4, 6))):
        images, _ = batch(*shape)
        images[2] = images[0]
        assert math.isnan(ncdlib.score(model.to(dtype), images.to(dtype), "ntk"))


def test_ntk_of_more_images_than_weights_is_undefined():
    assert math.isnan(ncdlib.score(nn.Linear(2, 3), torch.randn(4, 2), "ntk"))


@pytest.mark.parametrize("name", ["jacov", "epe_nas"])
def test_undefined_where_nothing_of_an_image_reaches_the_output(name):
    images, labels = batch(4, 3, 8, 8)
    assert math.isnan(ncdlib.score(nasbench201(NOTHING), images, name, labels=labels))
    flat = batch(4, 7)[0]
    flat[0] = 0.1
    assert (flat[0] - flat[0].mean()).abs().max() > 0  # the mean of one value is rounded
    assert math.isnan(ncdlib.score(Half(), flat, name, labels=labels))


def test_jacov_of_equal_images_is_one_over_k_lower():
    images = torch.tensor([[1.0, -1, 1, -1], [1, 1, -1, -1], [1, 1, -1, -1]])
    expected = -sum(math.log(v + K) + 1 / (v + K) for v in (0, 1, 2))
    assert ncdlib.score(Half(), images, "jacov") == pytest.approx(expected, rel=1e-9)


class Root(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x):
        return (self.layer(x) * 0).sqrt()


@pytest.mark.parametrize("name", PROXIES)
def test_a_gradient_that_is_not_finite_gives_nan_and_a_word(name):
    images, labels = batch(4, 3)
    with pytest.warns(UserWarning, match=f"{name}.*gradient of .*(layer.weight|images) is not finite"):
        assert math.isnan(ncdlib.score(Root().double(), images, name, labels=labels))


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x):
        return self.layer(x), x


@pytest.mark.parametrize("name", PROXIES)
def test_misuse_is_told(name):
    images, labels = batch(4, 3)
    with pytest.raises(ValueError, match="a row for each of 4 images, the model gives tuple"):
        ncdlib.score(Pair().double(), images, name, labels=labels)


def test_misuse_of_single_proxies_is_told():
    images, labels = batch(4, 3, 8, 8)
    with pytest.raises(ValueError, match="epe_nas.*needs labels"):
        ncdlib.score(nasbench201(), images, "epe_nas")
    with pytest.raises(ValueError, match=r"output of shape \(n, classes\), the model gives \(4, 2, 6, 6\)"):
        ncdlib.score(nn.Conv2d(3, 2, 3).double(), images, "epe_nas", labels=labels)
    with pytest.raises(ValueError, match="no parameters"):
        ncdlib.score(Half(), images, "ntk")
    only_bias = nn.Linear(3, 2)
    del only_bias.weight
    only_bias.register_parameter("table", nn.Parameter(torch.randn(2, 3)))
    only_bias.forward = lambda x: nn.functional.linear(x, only_bias.table, only_bias.bias)
    with pytest.raises(ValueError, match="named weight, but the model has none"):
        ncdlib.score(only_bias, torch.randn(4, 3), "ntk")
