"""The loop: against its definition by hand, drop path, weight decay, half precision, what it refuses."""

from dataclasses import replace
import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from small_training import DARTS_V2, DIGITS, PLAIN, QUICK, draw, tiny, weights
import torch
import torch.nn.functional as F

from ncdlib import spaces
from ncdlib.images import Tensors
from ncdlib.spaces.blocks import drop_path
from ncdlib.training import NotFiniteLoss, batches, data, loop, recipes, train
from ncdlib.training.data import Data
from ncdlib.training.recipes import RECIPES, learning_rate

CPU = torch.device("cpu")


# --- loss


def test_label_smoothing_and_auxiliary_head_are_the_published_formulas():
    logits, extra = torch.randn(2, 6, 10, generator=draw())
    labels, eps = torch.arange(6), 0.1
    recipe = replace(RECIPES["darts_cifar10"], label_smoothing=eps)

    def published(z):
        target = (1 - eps) * F.one_hot(labels, 10) + eps / 10
        return -(target * z.log_softmax(1)).sum(1).mean()

    loss, kept = loop.loss_of((logits, extra), labels, recipe)
    torch.testing.assert_close(loss, published(logits) + 0.4 * published(extra))
    assert kept is logits
    torch.testing.assert_close(loop.loss_of(logits, labels, replace(recipe, auxiliary_weight=0.0))[0], published(logits))
    with pytest.raises(ValueError, match="the network has no auxiliary head, the recipe wants one"):
        loop.loss_of(logits, labels, recipe)
    with pytest.raises(ValueError, match="the network has an auxiliary head, the recipe wants none"):
        loop.loss_of((logits, extra), labels, PLAIN)


def test_the_loss_of_mixed_labels_is_the_mixture_of_losses():
    logits, recipe = torch.randn(4, 10, generator=draw()), replace(PLAIN, label_smoothing=0.1)
    labels = torch.arange(4)
    shares = 0.7 * F.one_hot(labels, 10).float() + 0.3 * F.one_hot(labels.flip(0), 10).float()
    parts = [loop.loss_of(logits, each, recipe)[0] for each in (labels, labels.flip(0))]
    torch.testing.assert_close(loop.loss_of(logits, shares, recipe)[0], 0.7 * parts[0] + 0.3 * parts[1])


# --- training


SPACE_OF = {"rdarts_cifar10": "s4", "rlnas_imagenet": "mobilenet_v2", "tf_tas_imagenet": "autoformer_tiny"}
SIZE_OF = {"rlnas_imagenet": {}, "tf_tas_imagenet": {"patch": 16}}
RESOLUTION_OF = {"rlnas_imagenet": 64, "tf_tas_imagenet": 32}  # where the network takes other images than published


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains_on_digits(name, tmp_path):
    space = spaces.get(SPACE_OF.get(name, "darts"))
    few = data.digits(train=9, valid=4)
    size = SIZE_OF.get(name, {"channels": 2, "layers": 3})
    arch = "1" * 17 if name == "rlnas_imagenet" else space.sample(np.random.default_rng(1))
    recipe = RECIPES[name].short(2, batch_size=5, resolution=RESOLUTION_OF.get(name, RECIPES[name].resolution))
    torch.manual_seed(0)
    net = recipes.network(space, arch, recipe, 10, **size)
    before = {key: value.clone() for key, value in net.named_parameters()}
    history = train(net, recipe, few, folder=tmp_path, **QUICK)
    assert list(history.epoch) == [1, 2] and np.isfinite(history.to_numpy()).all()
    assert list(history.learning_rate) == [learning_rate(recipe, e, 0, 2) for e in range(2)]
    moved = [not torch.equal(value, before[key]) for key, value in net.named_parameters()]
    assert sum(moved) > 0.9 * len(moved)
    assert not net.training and all(getattr(module, "drop_path", 0.0) == 0.0 for module in net.modules())


def test_the_loss_goes_down(tmp_path):
    recipe = RECIPES["darts_cifar10"].short(6, batch_size=16)
    torch.manual_seed(0)
    net = recipes.network("darts", DARTS_V2, recipe, 10, channels=4, layers=3)
    history = train(net, recipe, data.digits(train=64, valid=20), folder=tmp_path, **QUICK)
    losses = history.train_loss.to_numpy()
    assert losses[-1] < 0.9 * losses[0], losses
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "history.csv"), history)


def test_one_epoch_by_hand(tmp_path):
    """The loop against its definition: same order, same images, plain SGD."""
    recipe = replace(PLAIN, epochs=2, tail_epochs=0, label_smoothing=0.1, grad_clip=0.5)
    net = tiny()
    history = train(net, recipe, DIGITS, folder=tmp_path, seed=3, **QUICK)
    hand = tiny()
    momentum = [torch.zeros_like(p) for p in hand.parameters()]
    for epoch in range(2):
        hand.train()
        order = batches.order(recipe, DIGITS, 3, epoch)
        total = correct = 0.0
        for x, y in batches.training(recipe, DIGITS, order, 3, epoch, CPU):
            hand.zero_grad()
            F.cross_entropy(logits := hand(x), y, label_smoothing=0.1).backward()
            total += F.cross_entropy(logits, y, reduction="sum").item()
            correct += sum(row.index(max(row)) == label for row, label in zip(logits.tolist(), y.tolist(), strict=True))
            norm = torch.cat([p.grad.flatten() for p in hand.parameters()]).norm()
            rate = 0.0125 * (1 + math.cos(math.pi * epoch / 2))
            with torch.no_grad():
                for p, v in zip(hand.parameters(), momentum, strict=True):
                    v.mul_(0.9).add_(p.grad * min(1.0, 0.5 / norm) + 3e-4 * p)
                    p.sub_(rate * v)
        assert math.isclose(history.train_loss[epoch], total / 32, rel_tol=1e-5)
        assert math.isclose(history.train_top1[epoch], 100 * correct / 32, rel_tol=1e-6)
    torch.testing.assert_close(weights(net), weights(hand), rtol=1e-4, atol=1e-6)
    hand.eval()
    logits, labels = hand((DIGITS.valid.images / 255 - DIGITS.mean[0]) / DIGITS.std[0]), DIGITS.valid.labels
    assert math.isclose(history.valid_loss[1], F.cross_entropy(logits, labels).item(), rel_tol=1e-4)
    for k in (1, 5):
        best = [sorted(range(10), key=row.__getitem__)[-k:] for row in logits.tolist()]
        hits = [label in classes for classes, label in zip(best, labels.tolist(), strict=True)]
        assert math.isclose(history[f"valid_top{k}"][1], 100 * np.mean(hits), rel_tol=1e-6)


def test_weight_decay_can_spare_the_norms():
    net = tiny()
    (all_weights,) = loop.make_optimiser(net, PLAIN).param_groups
    assert len(all_weights["params"]) == 6 and all_weights["weight_decay"] == 3e-4
    decayed, free = loop.make_optimiser(net, RECIPES["rlnas_imagenet"]).param_groups
    assert {id(p) for p in free["params"]} == {id(p) for p in net.body[1].parameters()}
    assert (len(decayed["params"]), decayed["weight_decay"], free["weight_decay"]) == (4, 4e-5, 0.0)


def test_mixed_precision_runs_in_half_precision(tmp_path):
    kinds = []
    nets = []
    for mixed in (False, True):
        net = tiny()
        net.body[0].register_forward_hook(lambda m, x, y: kinds.append(y.dtype) if m.training else None)
        train(net, replace(PLAIN, epochs=1, mixed_precision=mixed), DIGITS, folder=tmp_path / str(mixed), **QUICK)
        nets.append(net)
    assert kinds == [torch.float32] * 2 + [torch.bfloat16] * 2
    assert nets[1].body[0].weight.dtype == torch.float32
    torch.testing.assert_close(weights(nets[0]), weights(nets[1]), rtol=0.1, atol=0.05)


def test_the_callers_random_state_is_left_alone(tmp_path):
    net = tiny()
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    train(net, PLAIN, DIGITS, folder=tmp_path, **QUICK)
    assert torch.equal(torch.rand(3), wanted)


# --- drop path


def test_drop_path_keeps_the_expectation():
    torch.manual_seed(0)
    x = torch.full((20_000, 1, 1, 1), 3.0)
    y = drop_path(x, 0.2)
    assert abs(y.mean() - 3) < 4 * 3 * math.sqrt(0.2 / 0.8 / 20_000)


def test_drop_path_rises_epoch_by_epoch(tmp_path):
    recipe = replace(PLAIN, epochs=4, drop_path=0.2)
    net = tiny()
    net.drop_path, seen = 0.05, []
    net.hook = lambda x: seen.append(net.drop_path) or x
    train(net, recipe, DIGITS, folder=tmp_path, **QUICK)
    np.testing.assert_allclose(seen[::2], [0.0, 0.05, 0.1, 0.15])
    assert net.drop_path == 0.05  # as the caller had it
    with pytest.raises(ValueError, match="the recipe sets drop_path, but the network has no attribute drop_path: use"):
        train(tiny(), recipe, DIGITS, folder=tmp_path / "other", **QUICK)
    with pytest.raises(ValueError, match="the recipe sets stochastic_depth, but its blocks have no attribute drop_path"):
        train(tiny(), replace(PLAIN, stochastic_depth=0.1), DIGITS, folder=tmp_path / "third", **QUICK)


VIT = RECIPES["tf_tas_imagenet"].short(2, batch_size=16, augmentation="crop", resolution=32)


def small_vit(seed=0):
    torch.manual_seed(seed)
    return recipes.network("autoformer_tiny", spaces.get("autoformer_tiny").example, VIT, 10, patch=16)


def test_stochastic_depth_rises_block_by_block_and_keeps_the_expectation():
    net = small_vit()
    recipe = replace(VIT, stochastic_depth=0.4)
    with loop.drop_path(net, recipe, 1):
        drop_paths = [block.drop_path for block in net.blocks]
    assert all(block.drop_path == 0.0 for block in net.blocks)  # as before
    np.testing.assert_allclose(drop_paths, np.linspace(0, 0.4, len(net.blocks)))
    block = net.blocks[-1]
    block.drop_path = drop_paths[-1]
    torch.manual_seed(0)
    x = torch.randn(1, 5, 192).expand(2000, -1, -1)
    with torch.no_grad():
        block.eval()
        whole = block(x[:1])
        attended = block.attention(block.norm1(x[:1]))
        block.train()
        y = block(x)
        # both branches out, attention alone, MLP alone: three of the four results, each computed from its parts
        mlp = block.fc2(block.activation(block.fc1(block.norm2(x[:1]))))
        results = {"neither": x[:1], "attention": x[:1] + attended / 0.6, "mlp": x[:1] + mlp / 0.6}
        shares = {name: int((y - result).abs().amax((1, 2)).lt(1e-4).sum()) for name, result in results.items()}
    for name, probability in {"neither": 0.16, "attention": 0.24, "mlp": 0.24}.items():
        assert stats.binomtest(shares[name], 2000, probability).pvalue > 1e-4, (name, shares)
    assert not torch.allclose(whole, x[:1])


def test_only_matrices_and_filters_of_a_transformer_are_decayed():
    net = small_vit()
    decayed, free = loop.make_optimiser(net, VIT).param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.05, 0.0)
    names = {id(p): name for name, p in net.named_parameters()}
    spared = {names[id(p)] for p in free["params"]}
    assert {"class_token", "position", "head.bias", "norm.weight", "blocks.0.fc1.bias"} <= spared
    kept = {names[id(p)] for p in decayed["params"]}
    assert {"head.weight", "patch.weight", "blocks.0.attention.qkv.weight"} <= kept and not kept & spared


def test_a_transformer_goes_on_where_it_was_stopped(tmp_path):
    whole, half, few, recipe = small_vit(), small_vit(), data.digits(train=8, valid=4), replace(VIT, batch_size=4)
    history = train(whole, recipe, few, folder=tmp_path / "whole", **QUICK)
    assert np.isfinite(history[["train_loss", "valid_loss"]]).all(axis=None)
    steps = itertools.count(1)

    def stop(module, inputs):
        if module.training and next(steps) == 3:  # the first step of epoch 2, of two each
            raise KeyboardInterrupt

    handle = half.register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        train(half, recipe, few, folder=tmp_path / "half", **QUICK)
    handle.remove()
    again = small_vit(seed=1)
    train(again, recipe, few, folder=tmp_path / "half", **QUICK)
    assert torch.equal(weights(again), weights(whole))


# --- what is refused


@pytest.mark.parametrize("bad", ["loss", "gradient"])
def test_a_diverged_training_stops_and_keeps_its_last_checkpoint(bad, tmp_path):
    steps = itertools.count(1)

    class Spoiled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return grad * math.inf

    def spoil(module, inputs, logits):
        if not module.training or next(steps) != 4:  # two steps an epoch
            return None
        return logits * math.nan if bad == "loss" else Spoiled.apply(logits)

    net = tiny()
    handle = net.register_forward_hook(spoil)
    with pytest.raises(NotFiniteLoss, match=r"epoch 2, step 2: the loss is .*; the checkpoint is of epoch 1\. Try a lower"):
        train(net, PLAIN, DIGITS, folder=tmp_path / "a", **QUICK)
    handle.remove()
    stored = torch.load(tmp_path / "a" / "checkpoint.pt", weights_only=True)
    assert len(stored["history"]) == 1 and all(value.isfinite().all() for value in stored["net"].values())
    healthy, whole = tiny(), tiny()
    train(healthy, PLAIN, DIGITS, folder=tmp_path / "a", **QUICK)
    train(whole, PLAIN, DIGITS, folder=tmp_path / "b", **QUICK)
    assert torch.equal(weights(healthy), weights(whole))
    with pytest.raises(NotFiniteLoss, match="epoch 1, step 1: the loss is nan.*no epoch was finished"):
        train(tiny(hook=lambda x: x * math.nan), PLAIN, DIGITS, folder=tmp_path / "c", **QUICK)
    assert not (tmp_path / "c" / "checkpoint.pt").exists()


@pytest.mark.parametrize("seed", [-1, 10**23, True])
def test_a_seed_that_torch_cannot_take_is_refused(seed, tmp_path):
    with pytest.raises(ValueError, match=rf"a seed is a whole number from 0 up to, not including, 2\*\*63: got {seed}"):
        train(tiny(), PLAIN, DIGITS, folder=tmp_path, seed=seed, **QUICK)


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(device, tmp_path):
    with pytest.raises(ValueError, match=f"device '{device}' cannot be used on this machine: use cpu"):
        train(tiny(), PLAIN, DIGITS, folder=tmp_path, device=device, progress=False)


def test_a_single_image_is_refused(tmp_path):
    good = Tensors(torch.zeros(2, 3, 32, 32, dtype=torch.uint8), torch.tensor([0, 5]))
    single = Data("mine", 6, (0.0,) * 3, (1.0,) * 3, Tensors(good.images[:1], good.labels[:1]), good)
    with pytest.raises(ValueError, match="mine has a single training image"):
        train(tiny(), PLAIN, single, folder=tmp_path / "never_made", **QUICK)
    assert not (tmp_path / "never_made").exists()
