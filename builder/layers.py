"""`layers.json`, which a step that mixes precisions leaves beside its artifact: what INT8 in each layer alone costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter

from core.files import write_atomically
from core.results import LayerNoise

FILE: Final = "layers.json"
_ADAPTER: Final = TypeAdapter(tuple[LayerNoise, ...])


def write_layers(folder: Path, layers: Sequence[LayerNoise]) -> None:
    """Writes the layers, worst first."""
    ranked = tuple(sorted(layers, key=lambda layer: layer.sqnr_db))
    write_atomically(folder / FILE, _ADAPTER.dump_json(ranked, indent=2))


def read_layers(folder: Path) -> tuple[LayerNoise, ...]:
    """What `write_layers` wrote there; nothing for a step that ranks no layers."""
    path = folder / FILE
    return _ADAPTER.validate_json(path.read_bytes()) if path.is_file() else ()
