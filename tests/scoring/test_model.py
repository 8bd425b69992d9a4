"""`ncdlib.score` leaves everything as it was, and says what is wrong with what it is given."""

import inspect
import math

import numpy as np
import pytest
import torch
from torch import nn
from untouched import assert_same, snapshot

import ncdlib
from ncdlib import activations, spaces

CELL = "|nor_conv_3x3~0|+|nor_conv_1x1~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|none~2|"
IMAGES = torch.randn(6, 3, 16, 16)


def network(seed: int = 0, **build) -> nn.Module:
    torch.manual_seed(seed)
    return spaces.get("nasbench201").build(CELL, channels=8, cells_per_stage=1, **build)


class Counter(nn.Module):
    """Counts its calls in a buffer, in place and by assignment, and draws random numbers."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))
        self.register_buffer("last", torch.zeros(2))

    def forward(self, x):
        self.calls += 1
        self.last = torch.rand(2)
        return x + torch.rand_like(x)


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("norm", [None, "ln"])
@pytest.mark.parametrize("alpha", [0.0, 0.9])
def test_the_model_is_left_as_it_was(mode, norm, alpha):
    model = nn.Sequential(network(), Counter())
    model.train()
    model[0][1].eval()  # a mixture of modes
    before = snapshot(model)
    proxies = ["nwot", "swap", "params", "flops", "units", "regularised_swap"]
    first = ncdlib.score(model, IMAGES, proxies, alpha=alpha, norm=norm, mode=mode, seed=4)
    assert_same(before, snapshot(model))
    torch.rand(1)  # the global state does not matter
    assert ncdlib.score(model, IMAGES, proxies, alpha=alpha, norm=norm, mode=mode, seed=4) == first
    assert list(first) == proxies
    for name in proxies:  # alone or together
        alone = ncdlib.score(model, IMAGES, name, alpha=alpha, norm=norm, mode=mode, seed=4)
        assert alone == first[name] or (math.isnan(alone) and math.isnan(first[name]))


def test_the_model_is_left_as_it_was_when_it_raises():
    class Raises(nn.Module):
        def forward(self, x):
            raise RuntimeError("broken")

    model = nn.Sequential(network(), Raises())
    before = snapshot(model)
    with pytest.raises(ValueError, match="cannot run on images of shape.*broken"):
        ncdlib.score(model, IMAGES, "nwot", alpha=0.5, norm="ln")
    assert_same(before, snapshot(model))


def test_a_model_that_takes_more_than_images():
    class Two(nn.Sequential):
        def forward(self, x, y):
            return super().forward(x + y)

    with pytest.raises(ValueError, match=r"cannot run on images of shape \(6, 3, 16, 16\).*'y'"):
        ncdlib.score(Two(network()), IMAGES, "nwot")


def test_train_and_eval_mode_differ_and_the_models_own_mode_does_not_matter():
    model = network()
    train, evaluated = (ncdlib.score(model, IMAGES, "nwot", mode=mode) for mode in ("train", "eval"))
    assert train != evaluated
    model.eval()
    assert ncdlib.score(model, IMAGES, "nwot", mode="train") == train


def test_scores_inside_a_callers_inference_mode():
    model = network()
    expected = ncdlib.score(model, IMAGES, ["nwot", "swap"], alpha=0.5)
    with torch.inference_mode():
        assert ncdlib.score(model, IMAGES * 1, ["nwot", "swap"], alpha=0.5) == expected


def test_permuting_the_batch_changes_nothing():
    model = network()
    permuted = IMAGES[torch.randperm(len(IMAGES))]
    for norm in (None, "ln"):
        a, b = (ncdlib.score(model, x, ["nwot", "swap"], norm=norm, mode="eval") for x in (IMAGES, permuted))
        assert a["swap"] == b["swap"] and a["nwot"] == pytest.approx(b["nwot"], rel=1e-9)


def test_both_layouts_agree_to_rounding():
    model = network()
    last = IMAGES.contiguous(memory_format=torch.channels_last)
    for alpha, norm in ((0.0, None), (0.7, "ln")):
        a, b = (ncdlib.score(model, x, ["nwot", "hamming"], alpha=alpha, norm=norm) for x in (IMAGES, last))
        assert a["nwot"] == pytest.approx(b["nwot"], rel=1e-4) and a["hamming"] == pytest.approx(b["hamming"], abs=1e-4)


def test_what_does_not_run_does_not_change_the_codes():
    torch.manual_seed(0)
    for alpha in (0.0, 0.8):
        whole, pruned = (
            ncdlib.score(network(complete=c), IMAGES, ["nwot", "swap", "units"], alpha=alpha) for c in (True, False)
        )
        assert whole == pruned


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return torch.relu(self.layer(x))


class Beside(nn.Module):
    """A convolution called as a function on a parameter, and an activation called as `function`, beside a module."""

    def __init__(self, function=None):
        super().__init__()
        self.weight, self.activation, self.function = nn.Parameter(torch.randn(4, 3, 3, 3)), nn.ReLU(), function

    def forward(self, x):
        x = self.activation(nn.functional.conv2d(x, self.weight))
        return (self.function(x - 1) if self.function else x).mean((2, 3))


def test_a_mask_that_reaches_no_layer_is_an_error():
    assert ncdlib.score(Beside(), IMAGES, "units") == 4 * 14 * 14
    for proxy in ("nwot", "ntk", "meco"):
        with pytest.raises(ValueError, match=r"alpha = 0.5 masked nothing: SAM masks the inputs of convolutions, nn.Linear"):
            ncdlib.score(Beside(), IMAGES, proxy, alpha=0.5)


def test_a_compiled_model_is_masked_or_refused():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 196, 10))
    labels = torch.arange(6)
    whole = {alpha: ncdlib.score(model, IMAGES, "snip", labels=labels, alpha=alpha) for alpha in (0.0, 0.5)}
    compiled = torch.compile(Wrapped(model), backend="eager")
    for alpha in (0.0, 0.5):  # compiled without hooks, it ignores those that come later
        try:
            assert ncdlib.score(compiled, IMAGES, "snip", labels=labels, alpha=alpha) == whole[alpha]
        except ValueError as error:
            assert alpha and "alpha = 0.5 masked nothing" in str(error) and "before it is compiled" in str(error)


class Wrapped(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x)


def test_a_proxy_that_runs_nothing_needs_no_mask():
    assert ncdlib.score(nn.Linear(4, 4), torch.randn(3, 4), "l2_norm", alpha=0.5) > 0


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (torch.relu, "relu"), (nn.functional.relu, "relu"), (nn.functional.relu_, "relu_"), (nn.functional.gelu, "gelu"),
        (lambda x: x * torch.sigmoid(x), "sigmoid"), (lambda x: x.tanh(), "tanh"), (nn.functional.softplus, "softplus"),
    ],
)  # fmt: skip
def test_activations_called_as_functions_are_reported(function, name):
    with pytest.warns(UserWarning, match=rf"calls activations as functions \({name}\), which codes do not hold"):
        assert ncdlib.score(Beside(function), IMAGES, "units") == 4 * 14 * 14


@pytest.mark.filterwarnings("error")
def test_activation_modules_are_not_reported_as_functions():
    every = nn.Sequential(nn.Linear(8, 8), *(module() for module in activations.MODULES))
    assert ncdlib.score(every, torch.randn(3, 8), "units") == 8 * len(activations.MODULES)
    for name in ("nasbench101", "darts", "mobilenet_v2", "autoformer_tiny"):
        space = spaces.get(name)
        network = space.build(space.sample(np.random.default_rng(0)), **{"image": 32} if "auto" in name else {})
        ncdlib.score(network, torch.randn(2, 3, 32, 32), "units")


def test_numpy_numbers_are_numbers():
    score = inspect.unwrap(ncdlib.score)
    assert score(network(), IMAGES, "nwot", alpha=np.float64(0.5), seed=np.int64(3)) == score(
        network(), IMAGES, "nwot", alpha=0.5, seed=3
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"proxy": 3}, "proxy must be a name or a list of names, got 3: use nwot, swap"),
        ({"proxy": [["nwot"]]}, r"proxy must be a name or a list of names, got \[\['nwot'\]\]"),
        ({"alpha": 0.5, "seed": 1.5}, "a seed is a whole number from 0.*got 1.5"),
        ({"seed": None}, "a seed is a whole number from 0.*got None"),
        ({"proxy": "naswot"}, "unknown proxy 'naswot': use one of nwot, swap"),
        ({"proxy": ["nwot", "x"]}, "unknown proxy 'x'"),
        ({"proxy": []}, "no proxy asked for"),
        ({"images": IMAGES[:1]}, r"at least 2.*\(1, 3, 16, 16\)"),
        ({"images": IMAGES[0, 0, 0]}, r"at least 2.*\(16,\)"),
        ({"images": IMAGES[:, :2]}, r"cannot run on images of shape \(6, 2, 16, 16\)"),
        ({"images": IMAGES[:, :2], "proxy": "flops"}, r"cannot run on images of shape \(6, 2, 16, 16\)"),
        ({"images": (IMAGES * 255).to(torch.uint8)}, r"images are torch.uint8, the model is torch.float32: convert"),
        ({"images": IMAGES.double()}, r"images are torch.float64, the model is torch.float32: convert"),
        ({"images": IMAGES.numpy()}, "must be a torch tensor, got ndarray"),
        ({"images": torch.where(IMAGES > 3, math.nan, IMAGES)}, "values that are nan or infinite"),
        ({"images": IMAGES / 0}, "values that are nan or infinite"),
        ({"alpha": 1.0}, "alpha is the share"),
        ({"alpha": math.nan}, "alpha is the share.*nan"),
        ({"mask": "all"}, "unknown mask 'all'"),
        ({"norm": "batchnorm"}, "unknown norm 'batchnorm'"),
        ({"norm": "gn3"}, r"cannot divide \d+ channels into 3 groups"),
        ({"mode": "test"}, "unknown mode 'test'"),
        ({"count": "twice"}, "unknown count 'twice'"),
        ({"model": Functional(), "images": torch.randn(3, 4)}, "ran no activation module.*torch.relu is not seen"),
    ],
)
def test_bad_input(change, message):
    model, images, proxy = (
        change.get(name, value) for name, value in (("model", network()), ("images", IMAGES), ("proxy", "nwot"))
    )
    before = snapshot(model)
    rest = {name: value for name, value in change.items() if name not in ("model", "images", "proxy")}
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(ncdlib.score)(model, images, proxy, **rest)  # past the tests' own check of types
    assert_same(before, snapshot(model))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: "resnet18", "the model must be a torch.nn.Module, got str"),
        (lambda: torch.jit.trace(nn.ReLU(), IMAGES), "a scripted or traced model takes no hooks: score the nn.Module"),
        (lambda: nn.Sequential(nn.LazyConv2d(3, 3)), "the model has lazy layers.*: run it once on a batch"),
    ],
)
def test_models_that_cannot_be_scored(make, message):
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(ncdlib.score)(make(), IMAGES, "nwot")


def test_a_batch_that_is_not_in_the_first_dimension():
    class Folds(nn.Sequential):
        def forward(self, x):
            return super().forward(x.reshape(-1, 2))

    with pytest.raises(ValueError, match=r"'0' reads a tensor of shape \(12, 2\), but the batch has 3 images"):
        ncdlib.score(Folds(nn.ReLU()), torch.randn(3, 8), "nwot")


def test_the_first_lines_a_practitioner_writes():
    mine = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.SiLU(), nn.Flatten(), nn.Linear(8 * 36, 10))
    images = ncdlib.images.batch("gaussian", 16, resolution=8)
    score = ncdlib.score(mine, images, proxy="nwot", alpha=0.95, norm="ln")
    assert isinstance(score, float) and math.isfinite(score)
