"""Whether a model is as it was: what the tests of scoring and of every proxy compare."""

import torch
from torch import nn


def snapshot(model: nn.Module) -> tuple:
    """Everything that scoring might change."""
    modules = {
        name: (id(m), m.training, dict(m._forward_hooks), dict(m._forward_pre_hooks)) for name, m in model.named_modules()
    }
    tracking = [m.track_running_stats for m in model.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
    gradients = {name: (p.requires_grad, p.grad) for name, p in model.named_parameters()}
    tensors = {key: (id(value), value.clone()) for key, value in model.state_dict(keep_vars=True).items()}
    return modules, tracking, gradients, tensors, torch.random.get_rng_state()


def assert_same(before: tuple, after: tuple) -> None:
    assert before[:2] == after[:2]
    assert before[2].keys() == after[2].keys() and before[3].keys() == after[3].keys()
    for name, (requires_grad, grad) in before[2].items():
        assert after[2][name][0] == requires_grad and after[2][name][1] is grad, name
    for key, (identity, value) in before[3].items():
        assert after[3][key][0] == identity and torch.equal(after[3][key][1], value), key
    assert torch.equal(before[4], after[4])
