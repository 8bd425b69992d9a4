"""AutoFormer (Chen et al. 2021, arXiv:2107.00651): vision transformers with free depth, embedding, heads and MLP ratios.

Ground truth is OoD-ViT-NAS (Ho et al. 2024): 1,001 networks of each of the three spaces, with the weights that they
inherit from AutoFormer's supernets. A network here is what such a subnet computes, at its own initialisation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ncdlib import activations
from ncdlib.spaces import blocks
from ncdlib.spaces.base import Space
from ncdlib.spaces.blocks import Conv2d, Linear, drop_path

HEAD_DIM = 64  # width of each head's queries, keys and values, whatever the embedding
MAX_DISTANCE = 14  # relative positions further apart than this share an entry
INITS = ("vit", *blocks.INITS)


@dataclass(frozen=True)
class Choices:
    """What a space chooses from, for the network and for each of its blocks."""

    depth: tuple[int, ...]
    embed: tuple[int, ...]
    heads: tuple[int, ...]
    ratio: tuple[float, ...]


CHOICES = {
    "tiny": Choices((12, 13, 14), (192, 216, 240), (3, 4), (3.5, 4)),
    "small": Choices((12, 13, 14), (320, 384, 448), (5, 6, 7), (3, 3.5, 4)),
    "base": Choices((14, 15, 16), (528, 576, 624), (9, 10), (3, 3.5, 4)),
}


@dataclass(frozen=True)
class ViT:
    """A vision transformer: the embedding dimension; for each block its number of heads and its MLP's ratio of widths."""

    embed: int
    heads: tuple[int, ...]
    ratios: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.heads) != len(self.ratios):
            raise ValueError(
                f"every block needs heads and a ratio, got {len(self.heads)} heads and {len(self.ratios)} ratios"
            )

    def __str__(self) -> str:
        return native(self.depth, self.embed, self.heads, self.ratios)

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.heads)


def native(depth: int, embed: int, heads: str | Sequence[int], ratios: str | Sequence[float]) -> str:
    """The native string `depth_embed_heads_ratios`, heads and ratios joined by '-', from a row of OoD-ViT-NAS.

    The per-block values may be joined already ("3-4-3...") or a list, as in the benchmark's `net_setting`.
    """
    joined = [x if isinstance(x, str) else "-".join(f"{value:g}" for value in x) for x in (heads, ratios)]
    return f"{depth}_{embed}_{joined[0]}_{joined[1]}"


class AutoFormer(Space[ViT]):
    """One of the three spaces: "tiny", "small" or "base".

    Sampling draws the depth, then the embedding, then the heads and the ratio of each block, all uniformly and
    independently, as AutoFormer's training does: every depth is equally likely, though most networks are deep.

    The network reads images of `image` pixels a side, cut into patches of `patch`, of `channels`. A smaller image costs
    less (64 pixels give 16 tokens instead of 196) and shrinks the position embedding only. Drop path, a regulariser of
    training, is off: it is each block's attribute `drop_path`. `complete` changes nothing.

    - `norm`: "ln" alone; there is no BatchNorm whose place another could take.
    - `init="vit"`: AutoFormer's own, N(0, 0.02^2) for linear layers, biases zero, PyTorch's default for the patch
      embedding. The names of `blocks.initialise` mean what they mean everywhere. Class token, positions and relative
      positions are N(0, 0.02^2) whatever `init`.

    The benchmark's `flops_m`, 1 to 6 percent below the multiply-adds done here, is no exact count: it takes 198 tokens
    in the blocks and 197 at the head where there are 197 and one, adds LayerNorm, and has a formula of its own for the
    relative positions.
    """

    sizes: ClassVar = {"image": 224, "patch": 16, "classes": 1000, "channels": 3}
    norm, activation, init = "ln", "gelu", "vit"

    def __init__(self, size: str) -> None:
        if size not in CHOICES:
            raise ValueError(f"unknown AutoFormer space {size!r}: use one of {', '.join(CHOICES)}")
        self.name = f"autoformer_{size}"
        self.choices = CHOICES[size]

    @property
    def example(self) -> str:
        """The smallest network's native string."""
        depth, embed, heads, ratio = (getattr(self.choices, key)[0] for key in ("depth", "embed", "heads", "ratio"))
        return native(depth, embed, [heads] * depth, [ratio] * depth)

    def _sample(self, rng: np.random.Generator) -> ViT:
        def draw(values: Sequence[float], size: int) -> list[float]:
            return [values[i] for i in rng.integers(len(values), size=size)]

        (depth,), (embed,) = draw(self.choices.depth, 1), draw(self.choices.embed, 1)
        return ViT(embed, tuple(draw(self.choices.heads, depth)), tuple(draw(self.choices.ratio, depth)))

    def parse(self, text: str) -> ViT:
        if not isinstance(text, str) or text.count("_") != 3:
            raise ValueError(
                f"{text!r} must hold depth, embedding, heads and MLP ratios between '_' signs, as {self.example}"
            )
        fields = text.split("_")
        depth, embed = self._choice("depth", fields[0]), self._choice("embed", fields[1])
        heads = tuple(self._choice("heads", part) for part in fields[2].split("-"))
        ratios = tuple(self._choice("ratio", part) for part in fields[3].split("-"))
        for key, values in {"heads": heads, "ratio": ratios}.items():
            if len(values) != depth:
                raise ValueError(f"depth {depth} asks for {depth} values of {key}, got {len(values)}: as in {self.example}")
        return ViT(embed, heads, ratios)

    def _choice(self, key: str, text: str) -> float:
        """The allowed value that `text` prints."""
        allowed = {f"{value:g}": value for value in getattr(self.choices, key)}
        if text not in allowed:
            raise ValueError(
                f"{key} must be one of {', '.join(allowed)} in {self.name}, got {text!r}: a good one is {self.example}"
            )
        return allowed[text]

    def convolutions(self, arch: ViT) -> int:
        """Linear layers of the blocks, which stand in for convolutions: four a block (qkv, proj, fc1, fc2)."""
        return 4 * arch.depth

    def network(
        self, arch: ViT, norm: str, activation: str, complete: bool, *, image: int, patch: int, classes: int, channels: int
    ) -> nn.Module:
        if norm != "ln":
            raise ValueError(f"norm {norm!r} takes BatchNorm's place, but a vision transformer has LayerNorm only: use 'ln'")
        if image % patch:
            raise ValueError(f"image must be a multiple of patch = {patch}, got {image}: try {-(-image // patch) * patch}")
        return VisionTransformer(self.parse(str(arch)), activation, image // patch, patch, classes, channels)

    def initialise(self, network: nn.Module, init: str) -> None:
        """Draw the weights: see `VisionTransformer.initialise`."""
        network.initialise(init)

    def picture(self, arch: ViT) -> tuple:
        plan = zip(arch.heads, arch.ratios, strict=True)
        layers = [(f"{heads} heads, MLP {ratio:g}", float(arch.embed * ratio)) for heads, ratio in plan]
        return "stack", [("patches", float(arch.embed)), *layers], f"embedding {arch.embed}"


class VisionTransformer(nn.Module):
    """Patches and a class token, absolute positions, pre-norm blocks, LayerNorm, head.

    The head reads the average of the patches, as AutoFormer's published runs do: the class token only takes part in
    attention.
    """

    def __init__(self, arch: ViT, activation: str, side: int, patch: int, classes: int, channels: int) -> None:
        super().__init__()
        self.image = side * patch
        self.patch = Conv2d(channels, arch.embed, patch, patch)
        self.class_token = nn.Parameter(torch.empty(1, 1, arch.embed))
        self.position = nn.Parameter(torch.empty(1, 1 + side**2, arch.embed))
        grid, plan = Grid(side), zip(arch.heads, arch.ratios, strict=True)
        self.blocks = nn.Sequential(*(Block(arch.embed, heads, ratio, grid, activation) for heads, ratio in plan))
        self.norm = nn.LayerNorm(arch.embed)
        self.head = Linear(arch.embed, classes)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:] != (self.image, self.image):
            raise ValueError(f"built with image={self.image}, got a batch of shape {tuple(x.shape)}: build for its size")
        x = self.patch(x).flatten(2).transpose(1, 2)  # (n, patches, embed)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1) + self.position
        x = self.norm(self.blocks(x))
        return self.head(x[:, 1:].mean(1))

    def initialise(self, init: str) -> None:
        """Draw all weights from torch's global generator: layers first, then tokens and positions. Nothing on "meta".

        The published truncated normal is cut at 2, a hundred standard deviations: a normal distribution.
        """
        if init not in INITS:
            raise ValueError(f"unknown initialisation {init!r}: use one of {', '.join(INITS)}")
        blocks.initialise(self.patch if init == "vit" else self, "default" if init == "vit" else init)
        linear = [m for m in self.modules() if isinstance(m, nn.Linear) and init == "vit"]
        tables = [p for m in self.modules() if isinstance(m, RelativePosition) for p in m.parameters()]
        for weight in (*(layer.weight for layer in linear), self.class_token, self.position, *tables):
            nn.init.normal_(weight, std=0.02)
        for layer in linear:
            nn.init.zeros_(layer.bias)


class Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)).

    In training mode both branches are left out with probability `drop_path`, for each image by itself, and otherwise divided
    by the probability that they stay (Huang et al. 2016, arXiv:1603.09382).
    """

    def __init__(self, embed: int, heads: int, ratio: float, grid: "Grid", activation: str) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(embed), nn.LayerNorm(embed)
        self.attention = Attention(embed, heads, grid)
        self.fc1 = Linear(embed, int(embed * ratio))
        self.activation = activations.make(activation)
        self.fc2 = Linear(int(embed * ratio), embed)
        self.drop_path = 0.0

    def forward(self, x: Tensor) -> Tensor:
        drop = self.drop_path if self.training else 0.0
        x = x + drop_path(self.attention(self.norm1(x)), drop)
        return x + drop_path(self.fc2(self.activation(self.fc1(self.norm2(x)))), drop)


class Attention(nn.Module):
    """Self-attention in which token j is seen from token i with key k_j + r_ij and value v_j + s_ij.

    The relative positions r and s (Shaw et al. 2018, arXiv:1803.02155; here in two dimensions) are sums of a term for j's
    row and one for j's column. So q_i is multiplied by a term once a row and once a column rather than once a token, and
    the one-hot `places` of the tokens hand the products on, within the very matrix product that every attention has.
    """

    def __init__(self, embed: int, heads: int, grid: "Grid") -> None:
        super().__init__()
        self.heads, self.grid = heads, grid
        self.qkv = Linear(embed, 3 * heads * HEAD_DIM)
        self.keys, self.values = RelativePosition(grid), RelativePosition(grid)
        self.proj = Linear(heads * HEAD_DIM, embed)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, HEAD_DIM)).permute(2, 0, 3, 1, 4)  # (n, heads, tokens, 64)
        q = q * HEAD_DIM**-0.5
        places = self.grid.places.to(q.dtype).expand(*q.shape[:2], -1, -1)  # (n, heads, tokens, features)
        relative = torch.einsum("nhid,ifd->nhif", q, self.keys())
        logits = torch.cat([q, relative], -1) @ torch.cat([k, places], -1).mT  # (n, heads, tokens, tokens)
        seen = logits.softmax(-1) @ torch.cat([v, places], -1)
        value, share = seen.split([HEAD_DIM, places.shape[-1]], -1)
        value = value + torch.einsum("nhif,ifd->nhid", share, self.values())
        return self.proj(value.transpose(1, 2).flatten(2))


class RelativePosition(nn.Module):
    """Two tables of 30 entries: entry 0 wherever a class token takes part, entry 15 + d at distance d, |d| <= 14."""

    def __init__(self, grid: "Grid") -> None:
        super().__init__()
        self.grid = grid
        self.vertical = nn.Parameter(torch.empty(2 * MAX_DISTANCE + 2, HEAD_DIM))
        self.horizontal = nn.Parameter(torch.empty(2 * MAX_DISTANCE + 2, HEAD_DIM))

    def forward(self) -> Tensor:
        """What each token adds for the class token, every row and every column: (tokens, features, 64)."""
        to_class = (self.vertical[0] + self.horizontal[0]).expand(len(self.grid.rows), 1, -1)
        return torch.cat([to_class, self.vertical[self.grid.rows], self.horizontal[self.grid.columns]], dim=1)


class Grid(nn.Module):
    """Where the tokens lie: a class token, then `side` rows of `side` patches. All blocks of a network share one.

    - `places` (tokens, features): features are the class token, each row, each column; 1 where a token has it, else 0.
    - `rows`, `columns` (tokens, side): the table entry for the distance from a token to each row, to each column.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        line = torch.arange(side)
        row, column = line.repeat_interleave(side), line.repeat(side)
        features = torch.arange(1 + 2 * side)
        places = (features == 1 + row[:, None]) | (features == 1 + side + column[:, None])
        entry = (line - line[:, None]).clamp(-MAX_DISTANCE, MAX_DISTANCE) + MAX_DISTANCE + 1  # (from, to)
        from_class = torch.zeros(1, side, dtype=torch.long)
        self.register_buffer("places", torch.cat([features[None] == 0, places]).float(), persistent=False)
        self.register_buffer("rows", torch.cat([from_class, entry[row]]), persistent=False)
        self.register_buffer("columns", torch.cat([from_class, entry[column]]), persistent=False)
