"""`ncdlib.score` leaves everything as it was, and says what is wrong with what it is given."""

import inspect
import math

import pytest
import torch
from torch import nn
from untouched import assert_same, snapshot

import ncdlib
from ncdlib import spaces

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


@pytest.mark.parametrize(
    ("change", "message"),
    [
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
