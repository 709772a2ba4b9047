"""A sequence of requests to a model that keeps state between them."""

from __future__ import annotations

import secrets
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from client.calls import SequencePart
from client.dialogue import Dialogue
from client.errors import SequenceError, SignatureError
from client.servers import Server
from client.settings import Options
from client.steps import Flow
from core.tensors import Arrays


class SequenceState:
    """A sequence under way: its number, its server, and what came of it. For one thread at a time."""

    def __init__(self, dialogue: Dialogue, model: str, options: Options) -> None:
        self._dialogue = dialogue
        self._model = model
        self._options = options
        self._id = secrets.randbits(62) + 1
        self._server: Server | None = None
        self._state: Literal["new", "under way", "ended", "failed"] = "new"

    def infer(self, inputs: Arrays | NDArray[np.generic], outputs: tuple[str, ...] | None, last: bool) -> Flow[Arrays]:
        """The next request of the sequence. Raises SequenceError after a failure, or after the last one."""
        if self._state in ("failed", "ended"):
            raise SequenceError(f"the sequence to model {self._model!r} has {self._state}; begin a new one")
        if self._server is None:
            self._server = yield from self._dialogue.pick(self._model, self._options)
        part = SequencePart(self._id, self._state == "new", last)
        before, self._state = self._state, "failed"
        try:
            answer = yield from self._dialogue.infer(self._model, inputs, outputs, self._options, part, self._server)
        except SignatureError:
            self._state = before  # nothing was sent
            raise
        self._state = "ended" if last else "under way"
        return answer
