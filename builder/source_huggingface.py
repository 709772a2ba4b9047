"""A Hugging Face encoder from a local folder, as one module from token ids to vectors or class scores.

Nothing is fetched and nothing of the folder is run: `transformers` is offline, its own classes only, safetensors only.
Pooling and normalization lie within the network, so that every variant carries them and no client has to.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder.errors import CheckpointError
from builder.spec_checkpoint import Checkpoint

if TYPE_CHECKING:
    from torch import Tensor, nn

FILES: Final = ("config.json", "model.safetensors")  # what decides the network


def huggingface_files(checkpoint: Checkpoint) -> list[Path]:
    """The files that decide what the network computes."""
    folder = checkpoint.huggingface or Path()
    return [*(folder / name for name in FILES), *([checkpoint.head] if checkpoint.head else [])]


def load_huggingface(checkpoint: Checkpoint) -> nn.Module:
    """The encoder with its pooling, normalization and head, in evaluation mode and FP32: `input_ids`, `attention_mask`
    and, where the encoder has them, `token_type_ids`, each int64 `[N, S]`, to `[N, D]`, `[N, S, D]` with pooling
    `none`, or `[N, C]` with a head.

    Attention is computed the eager way: the fused operators take paths that no exporter follows. Raises CheckpointError
    without the extra `text`, and for a folder that holds no such encoder.
    """
    return _module(_encoder(checkpoint.huggingface or Path()), checkpoint)


def _encoder(folder: Path) -> Any:
    os.environ["HF_HUB_OFFLINE"] = "1"  # read when it is imported
    try:
        from transformers import AutoModel
    except ImportError as error:
        raise CheckpointError(
            f"{folder} is a Hugging Face folder, and the package transformers that reads it is not installed; "
            f"install the extra `text` (pip install 'trident-triton[text]')"
        ) from error
    try:
        encoder, report = AutoModel.from_pretrained(
            folder,
            attn_implementation="eager",
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except Exception as error:  # of this library, of its parsers, and of the classes that the folder names
        raise CheckpointError(f"{folder} cannot be loaded as an encoder: {_first_line(error)}") from error
    # It fills what it does not find with random numbers, and only remarks on it.
    missing = sorted(name for name in report["missing_keys"] if "pooler." not in name)
    wrong = sorted(str(name[0]) for name in report["mismatched_keys"])
    if missing or wrong:
        raise CheckpointError(
            f"{folder}: model.safetensors is not of the architecture that config.json names "
            f"({len(missing)} weights missing, {len(wrong)} of another shape, such as {(missing + wrong)[0]}); "
            f"take both files from the same model"
        )
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None  # never used here: it belongs to a task of the pre-training
    return encoder.float().eval()


def _module(encoder: Any, checkpoint: Checkpoint) -> nn.Module:
    import torch
    from torch import nn

    class TextEncoder(nn.Module):
        """The encoder and what follows it."""

        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder
            self.head = _head(checkpoint.head, encoder.config.hidden_size) if checkpoint.head else nn.Identity()

        def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
            """Token ids `[N, S]` to vectors or scores."""
            more = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
            vectors = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **more).last_hidden_state
            if checkpoint.pooling == "cls":
                vectors = vectors[:, 0]
            elif checkpoint.pooling == "mean":
                kept = attention_mask.unsqueeze(-1).to(vectors.dtype)
                vectors = (vectors * kept).sum(1) / kept.sum(1).clamp(min=1)
            if checkpoint.normalize:
                vectors = torch.nn.functional.normalize(vectors, dim=-1)
            scores: Tensor = self.head(vectors)
            return scores

    return TextEncoder().eval()


def _head(file: Path, vector_size: int) -> nn.Module:
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from torch import nn

    try:
        state = load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file} cannot be read as a head: {_first_line(error)}") from error
    sizes = {name: list(value.shape) for name, value in state.items()}
    if sizes.keys() != {"weight", "bias"} or len(sizes["weight"]) != 2 or sizes["bias"] != sizes["weight"][:1]:
        raise CheckpointError(f"{file} holds {sizes}; a head is `weight` [C, D] and `bias` [C], those of a Linear")
    classes, width = sizes["weight"]
    if width != vector_size:
        raise CheckpointError(f"{file} takes vectors of {width} numbers, and the encoder's have {vector_size}")
    layer = nn.Linear(width, classes)
    layer.load_state_dict(state)
    return layer


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200] or type(error).__name__
