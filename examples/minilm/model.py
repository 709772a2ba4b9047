"""all-MiniLM-L6-v2 with pooling and normalization inside the network: token numbers in, an embedding out.

Architecture: Devlin et al., "BERT" (arXiv:1810.04805), 6 layers, 384 wide, as distilled by Wang et al., "MiniLM"
(arXiv:2002.10957). The weights are those of sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), whose names the layers
have. The code is our own: `transformers` is not needed to build or to serve it.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

VOCABULARY, WIDTH, HIDDEN, HEADS, LAYERS, POSITIONS = 30522, 384, 1536, 12, 6, 512
EPSILON = 1e-12
# Added to the scores of padding before the softmax: e^-50 of the weight is none in FP32. The thousands that are usual
# here would do the same, but where INT8 quantizes all scores with one scale, they leave no steps for the others.
MASKED = -50.0


class Embeddings(nn.Module):
    """Words, positions and the one sentence type that is used, added and normalized."""

    def __init__(self) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(VOCABULARY, WIDTH)
        self.position_embeddings = nn.Embedding(POSITIONS, WIDTH)
        self.token_type_embeddings = nn.Embedding(2, WIDTH)
        self.LayerNorm = nn.LayerNorm(WIDTH, EPSILON)

    def forward(self, input_ids: Tensor) -> Tensor:
        """`[N, S] -> [N, S, 384]`."""
        positions = self.position_embeddings.weight[: input_ids.shape[1]]
        x: Tensor = self.LayerNorm(self.word_embeddings(input_ids) + positions + self.token_type_embeddings.weight[0])
        return x


class Layer(nn.Module):
    """Self-attention and a feed-forward part, each added to its input and normalized after that."""

    def __init__(self) -> None:
        super().__init__()
        projections = {name: nn.Linear(WIDTH, WIDTH) for name in ("query", "key", "value")}
        self.attention = nn.ModuleDict({"self": nn.ModuleDict(projections), "output": _output(WIDTH)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(WIDTH, HIDDEN)})
        self.output = _output(HIDDEN)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """`[N, S, 384] -> [N, S, 384]`; `bias` `[N, 1, 1, S]` is added to the attention scores."""
        projections, after = self.attention["self"], self.attention["output"]
        query, key, value = (_split_heads(projections[name](x)) for name in ("query", "key", "value"))
        scores = query @ key.transpose(-1, -2) * (WIDTH // HEADS) ** -0.5 + bias  # [N, heads, S, S]
        context = (scores.softmax(dim=-1) @ value).transpose(1, 2).flatten(2)  # [N, S, 384]
        x = after["LayerNorm"](x + after["dense"](context))
        wide = functional.gelu(self.intermediate["dense"](x))
        result: Tensor = self.output["LayerNorm"](x + self.output["dense"](wide))
        return result


def _output(width: int) -> nn.ModuleDict:
    return nn.ModuleDict({"dense": nn.Linear(width, WIDTH), "LayerNorm": nn.LayerNorm(WIDTH, EPSILON)})


def _split_heads(x: Tensor) -> Tensor:
    """`[N, S, 384] -> [N, 12, S, 32]`."""
    return x.unflatten(-1, (HEADS, WIDTH // HEADS)).transpose(1, 2)


class MiniLM(nn.Module):
    """Token numbers and mask (1 for a token, 0 for padding), both int64 `[N, S]`, S up to 512, to embeddings of length
    one, `[N, 384]`."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = Embeddings()
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(Layer() for _ in range(LAYERS))})

    def embed(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """`[N, S]` twice to `[N, 384]`: the mean over the tokens, scaled to length one."""
        mask = attention_mask.to(self.embeddings.LayerNorm.weight.dtype)
        bias = (1 - mask)[:, None, None, :] * MASKED
        x = self.embeddings(input_ids)
        for layer in self.encoder["layer"]:  # type: ignore[union-attr]
            x = layer(x, bias)
        weights = mask[:, :, None]
        return functional.normalize((x * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1), dim=1)


class SentimentProbe(MiniLM):
    """The embedding, and what a linear head reads out of it: logits of negative and positive."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(WIDTH, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """`[N, S]` twice to logits `[N, 2]` and embedding `[N, 384]`."""
        embedding = self.embed(input_ids, attention_mask)
        return self.head(embedding), embedding


class PairSimilarity(MiniLM):
    """How alike two texts are: the cosine of their embeddings."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """`[N, 2, S]` twice, the two texts of a pair beside each other, to `[N, 1]` from -1 to 1."""
        embedding = self.embed(input_ids.flatten(0, 1), attention_mask.flatten(0, 1)).unflatten(0, (-1, 2))
        return (embedding[:, 0] * embedding[:, 1]).sum(dim=1, keepdim=True)


def build_model() -> nn.Module:
    """The factory of model.yaml: the untrained sentiment probe."""
    return SentimentProbe()


def build_pair() -> nn.Module:
    """The factory of wordsim.yaml: the untrained comparison of two texts."""
    return PairSimilarity()
