"""What a backend reads in config.pbtxt. Knows nothing of Triton but its JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ModelConfig:
    """The part of a configuration that a backend needs. `parameters` are the free-form ones; `file_name` is empty where
    the backend's usual one is meant."""

    name: str
    max_batch_size: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    file_name: str
    parameters: dict[str, str]

    def count(self, parameter: str) -> int | None:
        """A parameter that counts something, None if it is not set. Raises ValueError."""
        text = self.parameters.get(parameter)
        if text is None:
            return None
        if not text.isdecimal() or int(text) < 1:
            raise ValueError(f"parameter {parameter} is {text!r} and must be a whole number from 1 up")
        return int(text)


def parse_config(text: str) -> ModelConfig:
    """Reads the JSON that Triton hands to a backend."""
    config = json.loads(text)
    return ModelConfig(
        name=config["name"],
        max_batch_size=config["max_batch_size"],
        inputs=tuple(row["name"] for row in config["input"]),
        outputs=tuple(row["name"] for row in config["output"]),
        file_name=config.get("default_model_filename", ""),
        parameters={name: row["string_value"] for name, row in config.get("parameters", {}).items()},
    )


def check_names(kind: str, configured: Sequence[str], found: Sequence[str]) -> None:
    """Raises ValueError if config.pbtxt names an input or output that the model's file does not have."""
    missing = [name for name in configured if name not in found]
    if missing:
        raise ValueError(f"config.pbtxt names the {kind} {', '.join(missing)}, but the file has {', '.join(found)}")


def positions(names: Sequence[str], arguments: Sequence[str]) -> list[str]:
    """Names in the order of a script's arguments or results, by the native PyTorch backend's rules: all are names of
    arguments, or all end in `__<position>`, or else they are in order."""
    if set(names) <= set(arguments):
        return sorted(names, key=arguments.index)
    if all(re.search(r"__\d+$", name) for name in names):
        return sorted(names, key=lambda name: int(name.rpartition("__")[2]))
    return list(names)
