"""Checkpoints: a killed training ends with the same weights; damage, other trainings and second runs are refused."""

from dataclasses import replace
import hashlib
import io
import os
from pathlib import Path
import pickle
import resource
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest
from small_training import DARTS_V2, DIGITS, PLAIN, QUICK, tiny, weights
import torch

from ncdlib import spaces, training
from ncdlib.spaces.darts import Genotype
from ncdlib.training import data, recipes, train
from ncdlib.training.recipes import RECIPES

KILLED = """
    import os, signal, sys
    import numpy as np
    import torch

    torch.set_num_threads(1)
    from ncdlib import spaces
    from ncdlib.training import data, recipes
    from ncdlib.training import train

    recipe = recipes.RECIPES["rdarts_cifar10"].short(3, batch_size=8)
    arch = spaces.get("s4").sample(np.random.default_rng(0))
    torch.manual_seed(0)
    net = recipes.network("s4", arch, recipe, 10, channels=2, layers=3)
    steps = 0

    def count(module, inputs):
        global steps
        steps += module.training
        if steps == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)

    net.register_forward_pre_hook(count)
    train(net, recipe, data.digits(train=24, valid=8), folder=sys.argv[1], seed=4, device="cpu", progress=False)
"""


def test_a_killed_training_ends_with_the_same_weights(tmp_path):
    recipe = RECIPES["rdarts_cifar10"].short(3, batch_size=8)
    arch = spaces.get("s4").sample(np.random.default_rng(0))  # with noise, drop path and auxiliary head: all draw or weigh
    assert "noise" in str(arch)

    def run(folder):
        torch.manual_seed(0)
        net = recipes.network("s4", arch, recipe, 10, channels=2, layers=3)
        return net, train(net, recipe, data.digits(train=24, valid=8), folder=folder, seed=4, **QUICK)

    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path / "killed"), "5"]  # the second step of epoch 2
    environment = os.environ | {"PYTHONPATH": str(Path(training.__file__).parents[2])}
    assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
    stored = torch.load(tmp_path / "killed" / "checkpoint.pt", weights_only=True)
    assert [row["epoch"] for row in stored["history"]] == [1]
    (tmp_path / "killed" / "checkpoint.pt.partial").write_bytes(b"a write that was cut short")
    whole, history = run(tmp_path / "whole")
    resumed, continued = run(tmp_path / "killed")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    pd.testing.assert_frame_equal(history.drop(columns="seconds"), continued.drop(columns="seconds"), check_exact=True)
    torch.manual_seed(0)
    other = recipes.network("s4", arch, recipe, 10, channels=2, layers=3)
    train(other, recipe, data.digits(train=24, valid=8), folder=tmp_path / "seed", seed=5, **QUICK)
    assert not torch.equal(weights(other), weights(whole))


def test_a_finished_training_is_not_run_again(tmp_path):
    net = tiny()
    history = train(net, PLAIN, DIGITS, folder=tmp_path, **QUICK)
    again = tiny(1, hook=lambda x: pytest.fail("trained again"))
    pd.testing.assert_frame_equal(train(again, PLAIN, DIGITS, folder=tmp_path, **QUICK), history)
    assert torch.equal(weights(again), weights(net))


def swapped(arch, op=None):
    """The genotype with another source of its first edge, or with another operator there: weights of equal shapes."""
    (first, source), *rest = arch.normal
    return Genotype(((op or first, source if op else 1 - source), *rest), arch.reduce)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("seed", "seed: 0 there, 1 asked for"),
        ("recipe", "recipe lr: 0.025 there, 0.05 asked for"),
        ("data", "data train: 33 images.* there, 20 images.* asked for"),
        ("source", r"network cells.0: Cell\(sources=\[0, .*there, Cell\(sources=\[1, "),
        ("operator", "network cells.0.edges.0: MaxPool2d.*there, AvgPool2d"),
        ("width", r"channels=12.* there, .*channels=18"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(case, message, tmp_path):
    arch = swapped(spaces.get("darts").parse(DARTS_V2), "max_pool_3x3")
    recipe = RECIPES["darts_cifar10"].short(1, batch_size=33)

    def run(arch, recipe, images=DIGITS, channels=4, seed=0):
        torch.manual_seed(0)
        net = recipes.network("darts", arch, recipe, 10, channels=channels, layers=3)
        train(net, recipe, images, folder=tmp_path, seed=seed, **QUICK)

    run(arch, recipe)
    changed = {
        "seed": lambda: run(arch, recipe, seed=1),
        "recipe": lambda: run(arch, replace(recipe, lr=0.05)),
        "data": lambda: run(arch, recipe, images=data.digits(train=20, valid=20)),
        "source": lambda: run(swapped(arch), recipe),
        "operator": lambda: run(swapped(arch, "avg_pool_3x3"), recipe),
        "width": lambda: run(arch, recipe, channels=6),
    }[case]
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(ValueError, match=message):
        changed()
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_a_flipped_bit_and_a_cut_are_refused(tmp_path):
    train(tiny(), PLAIN, DIGITS, folder=tmp_path, **QUICK)
    path = tmp_path / "checkpoint.pt"
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    places = [0, len(whole) - 1, *rng.integers(len(whole), size=60)]
    damaged = [whole[:at] + bytes([whole[at] ^ (1 << int(rng.integers(8)))]) + whole[at + 1 :] for at in places]
    for content in (*damaged, whole[:-1], whole[:10], b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="checkpoint.pt is damaged or no checkpoint .*: remove it, or train in another"):
            train(tiny(), PLAIN, DIGITS, folder=tmp_path, **QUICK)
    path.write_bytes(whole)
    train(tiny(hook=lambda x: pytest.fail("trained again")), PLAIN, DIGITS, folder=tmp_path, **QUICK)


class Payload:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


def test_a_hostile_checkpoint_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hostile, other = io.BytesIO(), io.BytesIO()
    torch.save({"settings": Payload()}, hostile)
    torch.save([1, 2], other)
    for content in (b"", b"no checkpoint", pickle.dumps(Payload(), protocol=2), hostile.getvalue(), other.getvalue()):
        Path("checkpoint.pt").write_bytes(content + hashlib.sha256(content).digest())  # as anybody can
        with pytest.raises(ValueError, match="checkpoint.pt is no checkpoint of a training.*: remove it"):
            train(tiny(), PLAIN, DIGITS, folder=tmp_path, **QUICK)
    assert not Path("executed").exists()


def test_two_runs_do_not_share_a_folder(tmp_path):
    net = tiny()

    def second(x):
        net.hook = None
        with pytest.raises(RuntimeError, match="another run trains in"):
            train(tiny(), PLAIN, DIGITS, folder=tmp_path, **QUICK)
        return x

    net.hook = second
    train(net, PLAIN, DIGITS, folder=tmp_path, **QUICK)
    assert net.hook is None


def test_a_write_that_fails_leaves_the_last_checkpoint(tmp_path):
    """A limit on the size of files acts as a full disk: the system refuses to write more."""
    train(tiny(), replace(PLAIN, epochs=1), DIGITS, folder=tmp_path / "small", **QUICK)
    size = (tmp_path / "small" / "checkpoint.pt").stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    net, folder = tiny(), tmp_path / "run"

    def second_epoch(x):
        if (folder / "checkpoint.pt").exists():
            resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, limits[1]))
        return x

    net.hook = second_epoch
    try:
        with pytest.raises(OSError, match="File too large"):
            train(net, PLAIN, DIGITS, folder=folder, **QUICK)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not [*folder.glob("*.partial")]
    assert len(torch.load(folder / "checkpoint.pt", weights_only=True)["history"]) == 1
    resumed, whole = tiny(), tiny()
    train(resumed, PLAIN, DIGITS, folder=folder, **QUICK)
    train(whole, PLAIN, DIGITS, folder=tmp_path / "whole", **QUICK)
    assert torch.equal(weights(resumed), weights(whole))
