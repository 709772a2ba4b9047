"""Loading one model on a running server, and judging it by its golden answers."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Final

from core.errors import InputError
from server import goldens
from server.errors import AnswerError, NoAnswerError
from server.options import ModelState
from server.probe import Loaded, Probe
from server.wanted import holding, read_config, read_wanted

GOLDEN_TIMEOUT_S: Final = 30.0  # for one request of a model's first ones, while others load on the same cores
TOO_BUSY: Final = (429, 503)  # 503 is Triton's answer when a model's queue is full


def load_best(probe: Probe, repository: Path, model: str, timeout_s: float) -> tuple[tuple[ModelState, ...], str]:
    """Loads what a model's folder asks for; where that is not ready, the newest older version that is. The states, and
    why what was asked for is refused, if an older one stands in for it."""
    folder = repository / model
    wanted, config = read_wanted(folder), read_config(folder)
    states = load(probe, repository, model, timeout_s, wanted.versions)
    if config is None or any(state.ready for state in states):
        return states, ""
    for version in wanted.others:
        older = load(probe, repository, model, timeout_s, (version,), holding(config, version))
        if any(state.ready for state in older):
            return older, states[0].reason
    return states, ""


def load(
    probe: Probe, repository: Path, model: str, timeout_s: float, versions: tuple[int, ...], config: str = ""
) -> tuple[ModelState, ...]:
    """Loads a model and checks the goldens of the versions that it is to have. A failure is a state with its reason, no
    exception. If the goldens of one version are wrong the whole model is unloaded: no answer is better than a wrong
    one."""
    try:
        probe.load(model, timeout_s, config)
        found = [row for row in probe.index() if row.name == model and row.version in versions]
    except (AnswerError, NoAnswerError) as error:
        return (not_loaded(model, shorten(str(error))),)
    patient = replace(probe, timeout_s=max(probe.timeout_s, GOLDEN_TIMEOUT_S))
    states = tuple(_judge(patient, repository, row) for row in found)
    wrong = next((state for state in states if state.golden is False), None)
    if wrong is None:
        return states or (not_loaded(model, "the server found no version of it"),)
    reason = wrong.reason + _unload(probe, model)
    return tuple(ModelState(model, state.version, False, state.golden, state.reason or reason) for state in states)


def not_loaded(model: str, reason: str) -> ModelState:
    """The state of a model of which no version could be loaded."""
    return ModelState(model, 0, False, None, reason)


def _unload(probe: Probe, model: str) -> str:
    try:
        probe.unload(model)
    except (AnswerError, NoAnswerError) as error:
        return f" (and unloading it failed: {error})"
    return ""


def _judge(probe: Probe, repository: Path, row: Loaded) -> ModelState:
    if not row.ready:
        return ModelState(row.name, row.version, False, None, shorten(row.reason))
    try:
        golden, reason = check(probe, repository, row.name, row.version)
    except (AnswerError, NoAnswerError) as error:
        golden, reason = False, f"its golden inference failed: {shorten(str(error))}"
    return ModelState(row.name, row.version, golden is not False, golden, reason)


def check(probe: Probe, repository: Path, model: str, version: int) -> tuple[bool | None, str]:
    """Whether a version gives its golden answers (None: it has none), and the reason if it is not so. Raises
    AnswerError and NoAnswerError."""
    try:
        known = goldens.read_goldens(repository / model / str(version))
    except InputError as error:
        return False, str(error)
    if known is None:
        return None, "it has no golden answers to be checked"
    complaint = goldens.check(probe, model, version, known)
    return not complaint, complaint


def diagnose(probe: Probe, repository: Path, state: ModelState) -> str:
    """What has gone wrong with a version that was ready, or nothing. To be wrong it must be so twice, and being busy
    is no fault. Raises AnswerError and NoAnswerError if not even its statistics can be had."""
    reason = ""
    for _attempt in range(2):
        before = probe.executions(state.name)
        try:
            golden, reason = check(probe, repository, state.name, state.version)
        except AnswerError as error:
            if error.status in TOO_BUSY:
                return ""
            golden, reason = False, shorten(str(error))
        except NoAnswerError as error:
            if probe.executions(state.name) > before:
                return ""
            golden, reason = False, str(error)
        if golden is not False:
            return ""
    return reason


def shorten(message: str) -> str:
    """The cause in an error of the server's: one line, without the wrapping and the tracebacks."""
    text = re.split(r"\n\s*At:\n", message)[0]
    text = re.sub(r"^load failed for model '[^']*': ", "", text.strip())
    text = re.sub(r"^version \d+ is at UNAVAILABLE state: ", "", text)
    text = re.sub(r"^(Internal|Invalid argument|Not found|Unsupported|Unavailable): ", "", text)
    text = re.sub(r"^\w*(Error|Exception): ", "", text)
    return " ".join(text.split()).rstrip(";.")
