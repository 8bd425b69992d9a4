"""Proxies made for vision transformers: they treat attention and MLPs apart, and need both.

Both read the gradients of R by weights: R is the sum of the model's outputs for one image of ones, all parameters at their
magnitudes, as SynFlow has it (Tanaka et al. 2020, arXiv:2006.05467). So they need no labels, read only the images' shape,
and take one forward and one backward pass of one image. Larger is better, as returned; no sign is changed.

What their papers call MSA and MLP is found by structure, see `layers`. Biases, normalisation, tokens, positions, the patch
embedding and the classifier take part in R, but are not summed. LayerNorm stays; BatchNorm is taken out, as in the published
code. Buffers stay as they are. That code scores in eval mode, which matters for a model with dropout only.

The published code (decemberzhou/TF_TAS) scores subnets of AutoFormer's supernet through copied slices of its weights, with
effects that it does not intend and that are not repeated here: linear layers keep their signs, only tokens and positions are
at their magnitudes; and neither qkv, whose slices are concatenated, nor the head, which it means to count, gets a gradient,
so that both add nothing. On 150 networks of AutoFormer-Tiny qkv and head change the order of DSS little (rank correlation
0.99), the signs do (0.65). Its port to plain networks (lliai/Auto-Prox-AAAI24) has no such effects; it counts the head once.
"""

from jaxtyping import Float
import torch
from torch import Tensor, nn

from ncdlib.proxies.gradient import Weights, gradients_of, parameters, run, snip, without_batchnorm

QKV = ({"qkv"}, {"q", "k", "v"}, {"q", "kv"}, {"query", "key", "value"})
PROJECTION = {"proj", "projection", "out", "output", "o", "dense"}


def dss(model: nn.Module, images: Float[Tensor, "n ..."]) -> float:
    """sum over MSA weights of ||dR/dW||_* ||W||_* + sum over MLP weights of |w dR/dw|, ||.||_* the nuclear norm.

    Synaptic diversity of attention and synaptic saliency of MLPs: Zhou et al. 2022 (TF-TAS, CVPR, arXiv:2203.12217), the
    DSS-indicator, and its code. The nuclear norm is a matrix's own: qkv as one layer counts otherwise than as three. Later
    work (T-Razor, TPAMI 2024) adds the ranks of both sums over a set of networks and calls it DSS++; that is not this.
    """
    (attention, by_attention), (mlp, by_mlp) = _weights_and_gradients(model, images, "dss")
    diversity = sum(nuclear_norm(g) * nuclear_norm(w) for w, g in zip(attention, by_attention, strict=True))
    return diversity + snip(mlp, by_mlp)


def auto_prox(model: nn.Module, images: Float[Tensor, "n ..."]) -> float:
    """sum over MSA weights of ||dR/dW||_1 + sum over MLP weights of mean sigmoid(dR/dW): AutoProx-A.

    The proxy that Wei et al. 2024 (Auto-Prox, AAAI, arXiv:2312.09059) found by evolution on AutoFormer, as Ho et al. 2024
    (OoD-ViT-NAS, arXiv:2501.03782) compute it after that paper's Eq. 2 and Fig. 7: theirs is complete published code, and
    made the figures that others compare with. The sigmoid hardly leaves 1/2, so that the second sum is near half the number
    of MLP layers, thousands of times smaller than the first. An MLP layer that takes no part adds nothing.

    Public sources disagree. The authors' repository leaves out the package that runs it; its settings name a tree: the
    Frobenius norm of a min-max normalised t2, plus the root of the sigmoid of t4g, and do not say what t2 and t4g are in
    a transformer. Later repositories of theirs list for AutoProx-A another pair, a gradient t3g and weights t2, by indices
    into a table of operations that changes from one version to the next.
    """
    (_, by_attention), (_, by_mlp) = _weights_and_gradients(model, images, "auto_prox")
    lengths = sum(float(g.abs().sum(dtype=torch.float64)) for g in by_attention)
    return lengths + sum(float(g.sigmoid().mean(dtype=torch.float64)) for g in by_mlp if g.any())


def layers(model: nn.Module) -> tuple[list[str], list[str]]:
    """The names of the weights of attention, and of the MLPs beside it; a shared weight is named once.

    - Attention is an `nn.MultiheadAttention`, or a module that directly holds linear layers named qkv, or q, k and v, or q
      and kv, or query, key and value; a leading `to_` and a trailing `_proj` do not matter.
    - Its weights are these and its projection: linear layers named proj, projection, out, output, o or dense, or within a
      child of that name, in the module or, where it has none, beside it in its parent.
    - MLP layers are the other linear layers in the same block: the nearest module around the attention that holds any, or
      else the attention's own; but not the model itself, for that holds the classifier.
    """
    modules = dict(model.named_modules())
    by_module = _attention(model)
    attention = dict.fromkeys(weight for weights in by_module.values() for weight in weights)  # in order
    others = [f"{name}.weight" for name, m in modules.items() if isinstance(m, nn.Linear)]
    others = [weight for weight in others if weight not in attention]
    mlp: list[str] = []
    for name in by_module:
        for place in (*_around(name), name):
            inside = [weight for weight in others if place and weight.startswith(f"{place}.")]
            if inside:
                mlp += inside
                break
    own = {name for name, _ in model.named_parameters()}  # of layers that share a weight, it knows the first
    return [w for w in attention if w in own], [w for w in dict.fromkeys(mlp) if w in own]


def nuclear_norm(matrix: Float[Tensor, "rows columns"]) -> float:
    """The sum of the singular values: square roots of the eigenvalues of the smaller Gram matrix, in float64.

    As exact as a singular value decomposition in float32, and faster: values below 1e-8 of the largest are lost, which the
    rounding of float32 entries hides as well. In float32 the Gram matrix of a gradient would be off by a hundredth.
    """
    matrix = matrix.detach().double()
    gram = matrix @ matrix.mT if len(matrix) < matrix.shape[1] else matrix.mT @ matrix
    return float(torch.linalg.eigvalsh(gram).clamp(min=0).sqrt().sum())


def _weights_and_gradients(model: nn.Module, images: Tensor, proxy: str) -> tuple[tuple[Weights, Weights], ...]:
    """(weights, gradients of R) of attention, and of the MLPs; or ValueError, in the name of a proxy."""
    attention, mlp = layers(model)
    if not attention:
        raise ValueError(
            f"{proxy} is defined for vision transformers: the model has no attention, neither nn.MultiheadAttention nor "
            "a module of linear layers named qkv, or q, k and v, or query, key and value; use a proxy for any network, "
            "as nwot"
        )
    if not mlp:
        raise ValueError(f"{proxy} reads MLPs, but none is found: let each block, attention and MLP, be a module of its own")
    held = {name: parameter.detach().abs().requires_grad_() for name, parameter in parameters(model).items()}
    with without_batchnorm(model):
        output = run(model, held, torch.ones_like(images[:1]))
    gradients = gradients_of(output.sum(), {name: held[name] for name in attention + mlp})
    weights = [held[name].detach() for name in attention + mlp]
    n = len(attention)
    return (weights[:n], gradients[:n]), (weights[n:], gradients[n:])


def _attention(model: nn.Module) -> dict[str, list[str]]:
    """The names of the modules that are attention, and of each one's weights."""
    modules = dict(model.named_modules())
    names = {module: name for name, module in modules.items()}
    found: dict[str, list[str]] = {}
    for name, module in modules.items():
        if isinstance(module, nn.MultiheadAttention):
            found[name] = [f"{name}.{key}".lstrip(".") for key, _ in module.named_parameters() if key.endswith("weight")]
            continue
        linear = {_plain(key): child for key, child in module.named_children() if isinstance(child, nn.Linear)}
        kind = next((kind for kind in QKV if kind <= linear.keys()), None)
        if kind is None:
            continue
        projections: list[nn.Module] = []
        for place in (module, *(modules[around] for around in _around(name)[:1])):
            inside = [child for key, child in place.named_children() if _plain(key) in PROJECTION]
            projections = [m for child in inside for m in child.modules() if isinstance(m, nn.Linear)]
            if projections:
                break
        found[name] = [f"{names[m]}.weight" for m in (*(linear[key] for key in sorted(kind)), *projections)]
    return found


def _plain(name: str) -> str:
    """A layer's name without what says only that it is a projection."""
    return name.lower().removeprefix("to_").removesuffix("_proj")


def _around(name: str) -> list[str]:
    """The names of the modules around one, the nearest first, without the model itself."""
    parts = name.split(".")
    return [".".join(parts[:i]) for i in range(len(parts) - 1, 0, -1)]
