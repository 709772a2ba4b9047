"""A tiny encoder and a tiny causal decoder, as a user would bring them: PyTorch, int64 tokens, a named axis."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from builder.artifact import Artifact
from builder.source import source_artifact
from builder.spec_file import load_spec

VOCABULARY, WIDTH = 200, 64
LOUD = (3, 40)  # channels whose normalization is loud, as in trained transformers

FACTORY = textwrap.dedent(
    """
    import torch
    from torch import nn

    VOCABULARY, WIDTH, HEADS = 200, 64, 4


    class Block(nn.Module):
        def __init__(self, causal):
            super().__init__()
            self.causal = causal
            self.before, self.between = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
            self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
            self.wide, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

        def forward(self, x, mask):
            batch, tokens, _ = x.shape
            y = self.before(x)
            query, key, value = (
                part(y).reshape(batch, tokens, HEADS, WIDTH // HEADS).transpose(1, 2)
                for part in (self.query, self.key, self.value)
            )
            scores = query @ key.transpose(2, 3) / (WIDTH // HEADS) ** 0.5
            scores = scores + (1 - mask[:, None, None, :].float()) * -1e9
            if self.causal:
                place = torch.arange(tokens)
                scores = scores + (place[None, :] > place[:, None]).float() * -1e9
            y = (scores.softmax(-1) @ value).transpose(1, 2).reshape(batch, tokens, WIDTH)
            x = x + self.out(y)
            return x + self.narrow(torch.nn.functional.gelu(self.wide(self.between(x))))


    class Network(nn.Module):
        def __init__(self, causal):
            super().__init__()
            self.causal = causal
            self.embedding = nn.Embedding(VOCABULARY, WIDTH)
            self.blocks = nn.ModuleList([Block(causal), Block(causal)])
            self.last = nn.LayerNorm(WIDTH)
            self.head = nn.Linear(WIDTH, VOCABULARY if causal else 3)

        def forward(self, ids, mask):
            x = self.embedding(ids)
            for block in self.blocks:
                x = block(x, mask)
            x = self.last(x)
            if self.causal:  # the next token's scores
                return self.head(x[:, -1])
            shares = mask[:, :, None].float()
            return self.head((x * shares).sum(1) / shares.sum(1))


    def encoder():
        return Network(False)


    def decoder():
        return Network(True)
    """
)

SPEC = """\
name: {kind}
checkpoint: {{state_dict: model.safetensors, factory: "factory.py:{kind}"}}
inputs:
  - {{name: ids, dtype: int64, dims: [tokens]}}
  - {{name: mask, dtype: int64, dims: [tokens]}}
outputs:
  - {{name: scores, dtype: float32, dims: [{classes}]}}
axes:
  tokens: {{min: 2, opt: 12, max: 24}}
batch: {{max: 8}}
data: {{calibration: calibration.npz, evaluation: evaluation.npz}}
metric: {{name: top1, output: scores}}
gates: {{max_drop: 50pt}}
variants: [{variants}]
"""


def network(kind: str) -> Any:
    """The `encoder` or the `decoder` with random weights, some channels of which are a lot louder than the others."""
    import torch

    scope: dict[str, Any] = {}
    exec(FACTORY, scope)
    torch.manual_seed(0)
    made = scope[kind]().eval()
    with torch.no_grad():
        for block in made.blocks:
            for norm, readers in (
                (block.before, (block.query, block.key, block.value)),
                (block.between, (block.wide,)),
            ):
                norm.weight[list(LOUD)] *= 60
                for reader in readers:
                    reader.weight[:, list(LOUD)] /= 60
    return made


def transformer_spec(folder: Path, kind: str, variants: str = "onnx_fp32") -> Path:
    """A spec with checkpoint and data in `folder`. Labels are the original's own decisions."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    made = network(kind)
    save_file(made.state_dict(), folder / "model.safetensors")
    (folder / "factory.py").write_text(FACTORY)
    random = np.random.default_rng(0)
    for name, count in (("calibration", 64), ("evaluation", 128)):
        ids = random.integers(0, VOCABULARY, (count, 12))
        mask = (np.arange(12) < random.integers(4, 13, count)[:, None]).astype(np.int64)
        if kind == "decoder":
            mask = mask[:, ::-1].copy()  # padded on the left
        with torch.inference_mode():
            label = made(torch.from_numpy(ids), torch.from_numpy(mask)).argmax(1).numpy()
        np.savez(folder / f"{name}.npz", ids=ids, mask=mask, label=label)
    path = folder / "model.yaml"
    path.write_text(SPEC.format(kind=kind, classes=VOCABULARY if kind == "decoder" else 3, variants=variants))
    return path


def transformer_artifact(folder: Path, kind: str) -> Artifact:
    """The same as an artifact."""
    return source_artifact(load_spec(transformer_spec(folder, kind)), folder / "cache")
