"""DSS and AutoProx-A against backward passes and numpy, against closed forms, and how attention is found in any model."""

from copy import deepcopy
import math

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest
from threadpoolctl import threadpool_limits
import torch
from torch import nn
from untouched import assert_same, snapshot

import ncdlib
from ncdlib import spaces
from ncdlib.proxies import transformer

PROXIES = ["dss", "auto_prox"]
IMAGES = torch.randn(3, 3, 16, 16)


def autoformer(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    space = spaces.get("autoformer_tiny")
    network = space.build(space.sample(np.random.default_rng(seed)), image=16, patch=8, classes=5)
    network.blocks = network.blocks[:2]
    return network


class Attention(nn.Module):
    """Attention of one head with three linear layers."""

    def __init__(self, width: int, names: tuple[str, str, str] = ("q", "k", "v")):
        super().__init__()
        self.names = names
        for name in (*names, "proj"):
            setattr(self, name, nn.Linear(width, width, bias=False))

    def forward(self, x):
        q, k, v = (getattr(self, name)(x) for name in self.names)
        return self.proj((q @ k.mT).softmax(-1) @ v)


class Fused(nn.Module):
    """The same with one linear layer for queries, keys and values."""

    def __init__(self, width: int):
        super().__init__()
        self.qkv, self.proj = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return self.proj((q @ k.mT).softmax(-1) @ v)


class Block(nn.Module):
    def __init__(self, attention: nn.Module, width: int):
        super().__init__()
        self.attention = attention
        self.fc1, self.fc2 = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)

    def forward(self, x):
        x = x + self.attention(x)
        return x + self.fc2(self.fc1(x).relu())


class Tokens(nn.Module):
    """Each image as one token, a block, and a head that changes nothing if asked to."""

    def __init__(self, block: nn.Module, width: int, head: nn.Module | None = None):
        super().__init__()
        self.block, self.head, self.width = block, head or nn.Identity(), width

    def forward(self, x):
        return self.head(self.block(x.reshape(len(x), -1, self.width)).mean(1))


class Encoder(nn.Module):
    """torch's own encoder on patches, with a stem that may hold BatchNorm."""

    def __init__(self, stem: nn.Module | None = None, depth: int = 2, dropout: float = 0.0):
        super().__init__()
        self.stem = stem or nn.Identity()
        self.patch = nn.Conv2d(3, 8, 4, 4)
        layer = nn.TransformerEncoderLayer(8, 2, 12, dropout, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        return self.head(self.encoder(self.patch(self.stem(x)).flatten(2).mT).mean(1))


def backward(model: nn.Module, images: torch.Tensor) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(|w|, dR/dw) of every parameter by the plain procedure: a copy, magnitudes in place, ones, backward."""
    model = deepcopy(model).train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_()
    model(torch.ones(1, *images.shape[1:])).sum().backward()
    return {
        name: (p.detach().double().numpy(), p.grad.double().numpy())
        for name, p in model.named_parameters()
        if p.grad is not None
    }


def nuclear(matrix: np.ndarray) -> float:
    with threadpool_limits(1):  # beside other processes, more threads take many times as long
        return np.linalg.svd(matrix, compute_uv=False).sum()


def expected(model: nn.Module, images: torch.Tensor, attention: tuple[str, ...], mlp: tuple[str, ...]) -> dict[str, float]:
    """Both proxies over the parameters whose names end so."""
    found = backward(model, images)
    heads = [pair for name, pair in found.items() if name.endswith(attention)]
    mlps = [pair for name, pair in found.items() if name.endswith(mlp)]
    return {
        "dss": sum(nuclear(w) * nuclear(g) for w, g in heads) + sum(np.abs(w * g).sum() for w, g in mlps),
        "auto_prox": sum(np.abs(g).sum() for _, g in heads) + sum((1 / (1 + np.exp(-g))).mean() for _, g in mlps),
    }


# the definitions


@pytest.mark.parametrize("seed", [0, 1])
def test_autoformer_against_backward_passes_and_singular_values(seed):
    network = autoformer(seed)
    wanted = expected(network, IMAGES, ("qkv.weight", "attention.proj.weight"), ("fc1.weight", "fc2.weight"))
    assert ncdlib.score(network, IMAGES, PROXIES) == pytest.approx(wanted, rel=1e-5)


def test_torch_encoder_against_backward_passes_and_singular_values():
    torch.manual_seed(0)
    model = Encoder()
    attention = ("in_proj_weight", "out_proj.weight")
    wanted = expected(model, IMAGES, attention, ("linear1.weight", "linear2.weight"))
    assert ncdlib.score(model, IMAGES, PROXIES) == pytest.approx(wanted, rel=1e-5)
    assert ncdlib.score(model, IMAGES, PROXIES, mode="eval") == pytest.approx(wanted, rel=1e-5)


@given(*[st.floats(0.1, 2)] * 5, st.booleans())
def test_a_block_of_multiples_of_the_identity_in_closed_form(q, v, p, c, e, fused):
    """A token of ones becomes (1 + v p)(1 + c e) times itself: every gradient is a multiple of the matrix of ones."""
    d = 4
    block = Block(Fused(d) if fused else Attention(d), d)
    eye = torch.eye(d)
    with torch.no_grad():
        if fused:
            block.attention.qkv.weight.copy_(torch.cat([q * eye, -q * eye, v * eye]))
        else:
            for name, size in {"q": q, "k": -q, "v": v}.items():
                getattr(block.attention, name).weight.copy_(size * eye)
        block.attention.proj.weight.copy_(-p * eye)  # signs do not matter
        block.fc1.weight.copy_(c * eye)
        block.fc2.weight.copy_(-e * eye)
    scores = ncdlib.score(Tokens(block, d), torch.randn(2, 1, 2, 2), PROXIES)

    after, attended = 1 + c * e, 1 + v * p  # what the MLP, and attention, multiply by
    by_proj, by_v = after * v * d, after * p * d  # nuclear norms of the gradients, each of rank one
    of_values = d * math.sqrt(2 * q**2 + v**2) if fused else d * v  # the norm of [q; k; v] stacked, or of v alone
    saliency = 2 * d * c * e * attended
    assert scores["dss"] == pytest.approx(by_proj * p * d + by_v * of_values + saliency, rel=1e-5)

    def sigmoid(x):
        return 1 / (1 + math.exp(-x))

    lengths = after * v * d**2 + after * p * d**2
    assert scores["auto_prox"] == pytest.approx(lengths + sigmoid(e * attended) + sigmoid(c * attended), rel=1e-5)


def test_more_tokens_reach_queries_and_keys():
    torch.manual_seed(0)
    parts = Tokens(Block(Attention(4), 4), 4)
    with torch.no_grad():  # tokens of one image of ones are all alike until a position tells them apart
        parts.block = nn.Sequential(Position(9, 4), Block(Attention(4), 4))
    images = torch.randn(2, 1, 6, 6)
    names = tuple(f"attention.{key}.weight" for key in ("q", "k", "v", "proj"))
    found = backward(parts, images)
    assert all(np.abs(found[f"block.1.{name}"][1]).max() > 0 for name in names)
    wanted = expected(parts, images, names, ("fc1.weight", "fc2.weight"))
    assert ncdlib.score(parts, images, PROXIES) == pytest.approx(wanted, rel=1e-5)


class Position(nn.Module):
    def __init__(self, tokens: int, width: int):
        super().__init__()
        self.position = nn.Parameter(torch.randn(1, tokens, width))

    def forward(self, x):
        return x + self.position


def test_an_mlp_layer_that_takes_no_part_adds_nothing():
    torch.manual_seed(0)
    model = Tokens(Block(Fused(4), 4), 4)
    before = ncdlib.score(model, torch.randn(2, 1, 2, 2), PROXIES)
    model.block.spare = nn.Linear(4, 4)
    assert "block.spare.weight" in transformer.layers(model)[1]
    assert ncdlib.score(model, torch.randn(2, 1, 2, 2), PROXIES) == before


# what does not matter


@pytest.mark.parametrize("proxy", PROXIES)
def test_images_signs_and_batch_size_do_not_matter_but_weights_do(proxy):
    network = autoformer()
    score = ncdlib.score(network, IMAGES, proxy)
    assert ncdlib.score(network, torch.randn(5, 3, 16, 16), proxy, seed=7) == score
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(torch.where(torch.rand(parameter.shape) < 0.5, -1, 1))
    assert ncdlib.score(network, IMAGES, proxy) == score
    assert ncdlib.score(autoformer(2), IMAGES, proxy) != score


@pytest.mark.parametrize("proxy", PROXIES)
def test_the_order_of_heads_and_of_hidden_units_does_not_matter(proxy):
    network = autoformer()
    score = ncdlib.score(network, IMAGES, proxy)
    block = network.blocks[1]
    heads = block.attention.heads
    order = torch.arange(64 * heads).view(heads, 64).roll(1, 0).flatten()
    units = torch.randperm(block.fc1.out_features)
    with torch.no_grad():
        for tensor in (block.attention.qkv.weight, block.attention.qkv.bias):
            tensor.copy_(tensor.unflatten(0, (3, -1))[:, order].flatten(0, 1))
        block.attention.proj.weight.copy_(block.attention.proj.weight[:, order])
        block.fc1.weight.copy_(block.fc1.weight[units])
        block.fc1.bias.copy_(block.fc1.bias[units])
        block.fc2.weight.copy_(block.fc2.weight[:, units])
    assert ncdlib.score(network, IMAGES, proxy) == pytest.approx(score, rel=1e-5)


@pytest.mark.parametrize("proxy", PROXIES)
def test_batchnorm_is_taken_out(proxy):
    torch.manual_seed(0)
    plain = Encoder()
    hybrid = Encoder(nn.Sequential(nn.BatchNorm2d(3)))
    hybrid.load_state_dict(plain.state_dict(), strict=False)
    nn.init.uniform_(hybrid.stem[0].weight)
    before = snapshot(hybrid)
    assert ncdlib.score(hybrid, IMAGES, proxy) == ncdlib.score(plain, IMAGES, proxy)
    assert_same(before, snapshot(hybrid))


@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize("alpha", [0.0, 0.4])
def test_a_model_of_ones_own_is_left_as_it_was(proxy, alpha):
    torch.manual_seed(0)
    model = Encoder(dropout=0.2)
    before = snapshot(model)
    first = ncdlib.score(model, IMAGES, proxy, alpha=alpha, seed=1)
    assert ncdlib.score(model, IMAGES, proxy, alpha=alpha, seed=1) == first
    assert ncdlib.score(model, IMAGES, proxy, alpha=alpha, seed=2) != first  # dropout
    assert_same(before, snapshot(model))
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


# the nuclear norm


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 10**6))
def test_nuclear_norm_against_numpy_and_its_invariances(rows, columns, seed):
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((rows, columns)).astype(np.float32)
    norm = transformer.nuclear_norm(torch.from_numpy(matrix))
    assert norm == pytest.approx(nuclear(matrix.astype(float)), rel=1e-6)
    turned, _ = np.linalg.qr(rng.standard_normal((rows, rows)))
    for same in (matrix.T, matrix[rng.permutation(rows)], -matrix, turned.astype(np.float32) @ matrix):
        assert transformer.nuclear_norm(torch.from_numpy(same.copy())) == pytest.approx(norm, rel=1e-5)
    assert np.linalg.norm(matrix) * (1 - 1e-5) <= norm <= np.linalg.norm(matrix) * math.sqrt(min(rows, columns)) * (1 + 1e-5)


def test_nuclear_norm_of_diagonal_zero_and_nearly_singular_matrices():
    assert transformer.nuclear_norm(torch.diag(torch.tensor([3.0, -4.0, 0.0]))) == pytest.approx(7, rel=1e-12)
    assert transformer.nuclear_norm(torch.zeros(3, 5)) == 0
    rng = np.random.default_rng(0)
    steep = np.outer(rng.standard_normal(60), rng.standard_normal(30)) + 1e-4 * rng.standard_normal((60, 30))
    for matrix in (steep, steep.T, steep.astype(np.float32).astype(float)):
        assert transformer.nuclear_norm(torch.from_numpy(matrix)) == pytest.approx(nuclear(matrix), rel=1e-6)


# what is attention, and what an MLP


def linears(**names: int | nn.Module) -> nn.Module:
    """A module with linear layers of these widths, or other children."""
    module = nn.Module()
    for name, child in names.items():
        module.add_module(name, nn.Linear(4, child) if isinstance(child, int) else child)
    return module


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4))


BLOCKS = {  # a block, its weights of attention, its weights of the MLP
    "timm": (linears(attn=linears(qkv=12, proj=4), mlp=mlp()), "attn.qkv attn.proj", "mlp.0 mlp.2"),
    "three": (linears(attn=linears(q=4, k=4, v=4, out=4), mlp=mlp()), "attn.k attn.q attn.v attn.out", "mlp.0 mlp.2"),
    "pvt": (linears(attn=linears(q=4, kv=8, proj=4, sr=nn.Conv2d(4, 4, 2)), fc=4), "attn.kv attn.q attn.proj", "fc"),
    "bert": (
        linears(
            attention=linears(self=linears(query=4, key=4, value=4), output=linears(dense=4)),
            intermediate=linears(dense=8),
            output=linears(dense=4),
        ),
        "attention.self.key attention.self.query attention.self.value attention.output.dense",
        "intermediate.dense output.dense",
    ),
    "clip": (
        linears(self_attn=linears(k_proj=4, v_proj=4, q_proj=4, out_proj=4), fc1=8, fc2=4),
        "self_attn.k_proj self_attn.q_proj self_attn.v_proj self_attn.out_proj",
        "fc1 fc2",
    ),
    "lucidrains": (
        nn.ModuleList([linears(to_qkv=12, to_out=nn.Sequential(nn.Linear(4, 4), nn.Dropout())), linears(net=mlp())]),
        "0.to_qkv 0.to_out.0",
        "1.net.0 1.net.2",
    ),
    "flat": (linears(qkv=12, proj=4, fc1=8, fc2=4), "qkv proj", "fc1 fc2"),
    "no projection": (linears(attn=linears(qkv=12), fc1=8, fc2=4), "attn.qkv", "fc1 fc2"),
    "torch": (
        nn.TransformerEncoderLayer(4, 2, 8),
        "self_attn.in_proj_weight self_attn.out_proj",
        "linear1 linear2",
    ),
    "other widths": (
        linears(attn=nn.MultiheadAttention(4, 2, kdim=6, vdim=6), mlp=mlp()),
        "attn.q_proj_weight attn.k_proj_weight attn.v_proj_weight attn.out_proj",
        "mlp.0 mlp.2",
    ),
    "talking heads": (
        linears(attn=linears(qkv=12, proj=4, proj_l=2, proj_w=2), mlp=mlp()),
        "attn.qkv attn.proj",
        "attn.proj_l attn.proj_w mlp.0 mlp.2",
    ),
}


def weights(names: str, prefix: str) -> list[str]:
    return [f"{prefix}.{name}" + ("" if name.endswith("_weight") else ".weight") for name in names.split()]


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("depth", [1, 2])
def test_attention_and_mlps_of_many_styles(kind, depth):
    block, attention, perceptron = BLOCKS[kind]
    model = linears(patch=nn.Conv2d(3, 4, 2), stack=nn.Sequential(*(deepcopy(block) for _ in range(depth))), head=7)
    found = transformer.layers(model)
    assert found[0] == [name for i in range(depth) for name in weights(attention, f"stack.{i}")]
    assert found[1] == [name for i in range(depth) for name in weights(perceptron, f"stack.{i}")]
    assert {"patch.weight", "head.weight"}.isdisjoint(found[0] + found[1])
    assert set(found[0] + found[1]) < {name for name, _ in model.named_parameters()}


def test_what_the_model_itself_holds_is_the_classifiers():
    flat = deepcopy(BLOCKS["flat"][0])
    assert transformer.layers(linears(block=flat, out=7)) == (weights("qkv proj", "block"), weights("fc1 fc2", "block"))
    bare = linears(attention=linears(qkv=12), out=7)  # `out` is no projection
    assert transformer.layers(bare) == (["attention.qkv.weight"], [])
    assert transformer.layers(nn.MultiheadAttention(4, 2)) == (["in_proj_weight", "out_proj.weight"], [])


def test_shared_blocks_and_shared_weights_count_once():
    block = deepcopy(BLOCKS["timm"][0])
    tied = deepcopy(block)
    tied.mlp[0].weight = block.mlp[0].weight
    model = linears(stack=nn.Sequential(block, block, tied), head=7)
    attention, perceptron = transformer.layers(model)
    assert attention == weights("0.attn.qkv 0.attn.proj 2.attn.qkv 2.attn.proj", "stack")
    assert perceptron == weights("0.mlp.0 0.mlp.2 2.mlp.2", "stack")


@pytest.mark.parametrize("name", ["nasbench201", "nasbench101", "darts", "mobilenet_v2"])
def test_cnns_have_no_attention(name):
    space = spaces.get(name)
    with torch.device("meta"):
        network = space.build(space.sample(np.random.default_rng(0)))
    assert transformer.layers(network) == ([], [])


@pytest.mark.parametrize("size", ["tiny", "small", "base"])
def test_every_autoformer_has_four_layers_a_block(size):
    space = spaces.get(f"autoformer_{size}")
    with torch.device("meta"):
        network = space.build(space.example, image=16)
    attention, perceptron = transformer.layers(network)
    depth = len(network.blocks)
    assert attention == [f"blocks.{i}.attention.{key}.weight" for i in range(depth) for key in ("qkv", "proj")]
    assert perceptron == [f"blocks.{i}.{key}.weight" for i in range(depth) for key in ("fc1", "fc2")]


# bad input


@pytest.mark.parametrize("proxy", PROXIES)
def test_models_that_cannot_be_scored_are_told_why(proxy):
    cnn = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 14 * 14, 3))
    with pytest.raises(ValueError, match=f"^{proxy} is defined for vision transformers: the model has no attention.*nwot"):
        ncdlib.score(cnn, IMAGES, proxy)
    with pytest.raises(ValueError, match=f"{proxy} reads MLPs, but none is found: let each block"):
        ncdlib.score(linears(qkv=12, proj=4, head=4), IMAGES, proxy)  # here the MLP cannot be told from the classifier

    class Two(Encoder):
        def forward(self, x):
            return super().forward(x), x

    with pytest.raises(ValueError, match="must be a tensor with a row for each of 1 images, the model gives tuple"):
        ncdlib.score(Two(), IMAGES, proxy)


@pytest.mark.parametrize("proxy", PROXIES)
def test_a_gradient_that_is_not_finite_has_no_score(proxy):
    model = Encoder()
    with torch.no_grad():
        model.head.weight.fill_(3e38)
    with pytest.warns(UserWarning, match=rf"{proxy}: the gradient of encoder.* is not finite: the score is nan"):
        assert math.isnan(ncdlib.score(model, IMAGES, proxy))
