"""A new version tried out beside the one that serves: under another name, so that no client can meet it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from google.protobuf import text_format

from core.passports import damage
from server.loading import load
from server.probe import Probe
from server.wanted import Wanted, read_config

SUFFIX: Final = ".canary"


def try_out(
    probe: Probe,
    canaries: Path,
    folder: Path,
    wanted: Wanted,
    timeout_s: float,
    unload: Callable[[str], None],
) -> str:
    """What is wrong with the wanted versions of the model in `folder`, or nothing: their files, loading, their golden
    answers. `canaries` is a repository of the server's own; `unload` ends a model there."""
    if not wanted.versions:
        return "its config.pbtxt asks for versions that are not there"
    damages = ((version, damage(folder / str(version))) for version in wanted.versions)
    complaint = next((f"version {version}: {what}" for version, what in damages if what), "")
    config = read_config(folder)
    if complaint or config is None:
        return complaint  # a config that cannot be read is refused when it is loaded, in the server's words
    config.name = folder.name + SUFFIX
    text = text_format.MessageToString(config)
    if not config.max_batch_size:
        text += "max_batch_size: 0\n"  # which text format drops, and the server wants to see
    place = canaries / config.name
    shutil.rmtree(place, ignore_errors=True)
    try:
        place.mkdir(parents=True)
        (place / "config.pbtxt").write_text(text)
        for version in wanted.versions:
            (place / str(version)).symlink_to((folder / str(version)).resolve())
        states = load(probe, canaries, config.name, timeout_s, wanted.versions)
        return next((state.reason for state in states if not state.ready), "")
    finally:
        unload(config.name)
        shutil.rmtree(place, ignore_errors=True)
