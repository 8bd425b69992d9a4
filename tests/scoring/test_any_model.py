"""What models a user may bring: each row of "What models work" in `notebooks/reference.md` is tried here.

A row ends in the right score, in a score and a warning, or in an error that says what to do; the model is left as it was.
"""

from contextlib import nullcontext
import copy
import re
import threading

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, relu

import ncdlib

X = torch.randn(6, 3, 10, 10, generator=torch.Generator().manual_seed(0))
SEQUENCES = torch.randn(6, 5, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(6) % 2
UNITS = 4 * 8 * 8
HALVES = torch.bfloat16, torch.float16
RELU = "calls activations as functions (relu), which codes do not hold"


def plain(activation=None):
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), activation or nn.ReLU(), nn.Flatten(), nn.Linear(UNITS, 5)
    return nn.Sequential(*layers)


class Then(nn.Module):
    """Modules, and what becomes of their output."""

    def __init__(self, inner, function):
        super().__init__()
        self.inner, self.function = inner, function

    def forward(self, *inputs):
        return self.function(self.inner(*inputs))


class Sum(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = plain()

    def forward(self, x, y):
        return self.inner(x + y)


class Shared(nn.Module):
    """One convolution and one activation, each called twice."""

    def __init__(self):
        super().__init__()
        self.conv, self.activation = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU()

    def forward(self, x):
        return self.activation(self.conv(self.activation(self.conv(x)))).mean((2, 3))


class Recurrent(nn.Module):
    def __init__(self, kind, activation):
        super().__init__()
        self.layer, self.head = kind(8, 8, batch_first=True), nn.Sequential(nn.Linear(8, 4), activation)

    def forward(self, x):
        return self.head(self.layer(x)[0][:, -1])


class Weight(nn.Module):
    """A convolution that is a function of a parameter."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 3, 3, 3))

    def forward(self, x):
        return conv2d(x, self.weight)


def in_place():
    return plain(nn.ReLU(inplace=True))


def parallel():
    return nn.DataParallel(plain())


def compiled():
    return torch.compile(plain())


def inference():
    with torch.inference_mode():
        return plain()


def initialised():
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5))
    model(X)
    model.load_state_dict(plain().state_dict())
    return model


def quantised():
    return torch.ao.quantization.quantize_dynamic(plain(), {nn.Linear})


def state(model):
    """Everything that scoring might change, in a form that can be compared."""
    values = {}
    for key, value in model.state_dict(keep_vars=True).items():
        real = isinstance(value, torch.Tensor) and not value.is_meta and not nn.parameter.is_lazy(value)
        same = id(value) if isinstance(value, nn.Parameter) else None
        values[key] = type(value), same, getattr(value, "requires_grad", None), value.tolist() if real else repr(value)
    for name, module in model.named_modules():
        hooks = [len(getattr(module, hooks)) for hooks in ("_forward_hooks", "_forward_pre_hooks")]
        if not isinstance(module, torch.jit.ScriptModule):  # each access to one of its children makes another object
            values[f"module {name}"] = id(module), module.training, hooks, getattr(module, "track_running_stats", None)
    return values, torch.get_rng_state().tolist()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:torch.quantize_per")
@pytest.mark.parametrize(
    ("make", "images", "arguments", "expected"),
    [
        # a score equal to that of the plain model
        *(
            (make, X, {"proxy": proxy, "alpha": alpha}, "plain")
            for make in (in_place, parallel, compiled)
            for proxy in ("nwot", "snip")
            for alpha in (0.0, 0.5)
        ),
        *((lambda: Then(plain(), lambda y: (y, y)), X, {"proxy": "nwot", "alpha": a}, "plain") for a in (0.0, 0.5)),
        (lambda: Then(plain(), lambda y: {"logits": y}), X, {"proxy": "swap"}, "plain"),
        (initialised, X, {"proxy": "snip"}, "plain"),
        (inference, X, {"proxy": "nwot", "alpha": 0.5}, "plain"),
        (lambda: copy.deepcopy(inference()), X, {"proxy": "snip"}, "plain"),
        (quantised, X, {"proxy": "nwot"}, "plain"),
        (lambda: plain().to("meta"), X, {"proxy": "params"}, "plain"),
        (lambda: plain().to("meta"), X, {"proxy": "flops"}, "plain"),
        (lambda: plain().requires_grad_(False), X, {"proxy": "snip"}, "plain"),
        # a score of its own
        *((lambda t=t: plain().to(t), X.to(t), {"proxy": "units", "alpha": 0.5}, UNITS) for t in HALVES),
        (Shared, X, {"proxy": "units", "alpha": 0.5}, 2 * 3 * 10 * 10),
        # a score, and a warning
        (lambda: Then(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), relu), X, {"proxy": "units"}, (UNITS, RELU)),
        (lambda: Then(plain(), lambda y: y.clamp(min=0)), X, {"proxy": "units"}, (UNITS, "as functions (clamp)")),
        (lambda: Then(plain(), nn.functional.elu_), X, {"proxy": "units"}, (UNITS, "as functions (elu_)")),
        (lambda: nn.Sequential(plain(), nn.Threshold(0, 0)), X, {"proxy": "units"}, (UNITS, "as functions (threshold)")),
        (
            lambda: nn.Sequential(Weight(), nn.ReLU(), nn.Flatten(), nn.Linear(UNITS, 5)),
            X, {"proxy": "units", "alpha": 0.5}, (UNITS, "calls layers as functions (conv2d), whose inputs SAM"),
        ),
        (lambda: Recurrent(nn.LSTM, nn.ReLU()), SEQUENCES, {"proxy": "units"}, (4, "(LSTM), which codes do not hold")),
        (lambda: Recurrent(nn.GRU, nn.ReLU()), SEQUENCES, {"proxy": "units", "alpha": 0.5}, (4, "(GRU), whose inputs SAM")),
        # an error that says what to do
        (lambda: Then(nn.Conv2d(3, 4, 3), relu), X, {"proxy": "nwot"}, "ran no activation module.*it called relu"),
        (lambda: Recurrent(nn.GRU, nn.Identity()), SEQUENCES, {"proxy": "nwot"}, "ran no activation module.*it called GRU"),
        (Weight, X, {"proxy": "meco", "alpha": 0.5}, "alpha = 0.5 masked nothing.*write functions such as F.conv2d"),
        (quantised, X, {"proxy": "nwot", "alpha": 0.5}, "masks no quantised layer, such as '4.*before it is quantised"),
        (lambda: Then(plain(), lambda y: (y, y)), X, {"proxy": "synflow"}, "output must be a tensor.*the model gives tuple"),
        (lambda: Then(plain(), lambda y: {"a": y}), X, {"proxy": "ntk"}, "output must be a tensor.*the model gives dict"),
        (Sum, X, {"proxy": "nwot"}, "cannot run on images of shape.*missing 1 required positional argument: 'y'"),
        (lambda: nn.Sequential(nn.LazyConv2d(3, 3)), X, {"proxy": "params"}, "has lazy layers.*: run it once on a batch"),
        (lambda: torch.jit.script(plain()), X, {"proxy": "nwot"}, "scripted or traced.*score the nn.Module"),
        (lambda: torch.jit.trace(plain(), X), X, {"proxy": "nwot"}, "scripted or traced.*score the nn.Module"),
        (lambda: plain().to("meta"), X, {"proxy": "nwot"}, "on the meta device only params and flops can be scored"),
        (plain, X.to("meta"), {"proxy": "nwot"}, "images are on the meta device, which holds no values"),
        (plain, X.to_sparse(), {"proxy": "nwot"}, r"images are of the layout .*: convert with images.to_dense\(\)"),
        (inference, X, {"proxy": "snip"}, r"weights were made in inference mode.*: score copy.deepcopy\(model\)"),
        (lambda: plain().bfloat16(), X, {"proxy": "nwot"}, r"images are torch.float32, the model is torch.bfloat16"),
    ],
)  # fmt: skip
def test_a_model_is_scored_rightly_or_refused_and_left_as_it_was(make, images, arguments, expected):
    model = make()
    before = state(model)
    arguments = {"labels": LABELS, **arguments}
    if isinstance(expected, str) and expected != "plain":
        with pytest.raises(ValueError, match=expected):
            ncdlib.score(model, images, **arguments)
    else:
        score, warning = expected if isinstance(expected, tuple) else (expected, None)
        score = ncdlib.score(plain(), images, **arguments) if score == "plain" else score
        with pytest.warns(UserWarning, match=re.escape(warning)) if warning else nullcontext():
            assert ncdlib.score(model, images, **arguments) == score
    assert state(model) == before


def test_a_convolution_that_pools_is_no_layer_that_masks_miss():
    def pool(y):
        return conv2d(y[:, :, None, None], y.new_ones(5, 1, 1, 1), groups=5)

    ncdlib.score(Then(plain(), pool), X, "units", alpha=0.5)


def test_several_inputs_are_scored_by_a_module_that_gives_the_others():
    model = Sum()
    score = ncdlib.score(Then(nn.Identity(), lambda x: model(x, torch.zeros(1))), X, "params")
    assert score == 0  # a function hides its model's modules
    wrapped = Then(nn.Identity(), lambda x: x)
    wrapped.function = Fixed(model)
    assert ncdlib.score(wrapped, X, "nwot") == ncdlib.score(plain(), X, "nwot")


class Fixed(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x, torch.zeros_like(x))


class Draws(nn.Module):
    """Draws from numpy, and from torch."""

    def forward(self, x):
        return x + np.random.normal() + torch.randn_like(x)


def test_a_model_that_draws_is_decided_by_the_seed_and_leaves_numpys_random_state():
    model = nn.Sequential(nn.Flatten(), Draws(), nn.Linear(300, 8), nn.ReLU())
    scores = [ncdlib.score(model, X, "hamming", seed=seed) for seed in (0, 0, 1)]
    np.random.seed(7)
    expected = np.random.RandomState(7).rand()
    ncdlib.score(model, X, "hamming")
    assert np.random.rand() == expected and scores[0] == scores[1] != scores[2]


@pytest.mark.parametrize("shared", [True, False])
def test_threads_score_as_one_does(shared):
    one = nn.Sequential(plain(), nn.Dropout(0.5), nn.ReLU())
    models = [one if shared else copy.deepcopy(one) for _ in range(4)]
    arguments = {"proxy": ["nwot", "hamming"], "alpha": 0.5, "norm": "ln", "seed": 3}
    before, expected, found = state(one), ncdlib.score(one, X, **arguments), []

    def run(model):
        found.extend(ncdlib.score(model, X, **arguments) for _ in range(5))

    threads = [threading.Thread(target=run, args=(model,)) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 20
    assert state(one) == before
