"""A server without a network, for the tests of programs that use the client: everything but the sending is real.

def classify(inputs: Arrays) -> Arrays:
    return {"logits": np.zeros((len(inputs["image"]), 10), np.float32)}

image, logits = ("float32", (1, 28, 28)), ("float32", (10,))
fake = FakeServer({"digits": FakeModel(classify, {"image": image}, {"logits": logits}, max_batch=8)})
client = InferenceClient(transports=[fake])
fake.fail(OverloadedError("busy"))  # what the next attempt meets
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from client.calls import Answer, Ask, Attempt, Infer
from client.datatypes import BYTES
from client.errors import AbandonedError, UnknownModelError, UnsupportedError
from core.datatypes import BY_NAME
from core.errors import InferenceError
from core.tensors import Arrays

Tensors = Mapping[str, tuple[str, tuple[int, ...]]]
"""Name -> data type (numpy's name, or `text`) and dims, without the batch; -1 for any size."""


@dataclass(frozen=True)
class FakeModel:
    """A model as a function of the inputs by name, or several answers of a `decoupled` one. `max_batch` 0: no batch
    axis. `parameters` are those of its configuration."""

    answer: Callable[[Arrays], Arrays | Iterable[Arrays]]
    inputs: Tensors
    outputs: Tensors
    max_batch: int = 0
    parameters: Mapping[str, str] = field(default_factory=dict)
    version: str = "1"
    decoupled: bool = False
    stateful: bool = False


class FakeServer:
    """A `client.transport.Transport` that answers from functions. `sent` are all requests for inference that reached
    it, and the terms of each attempt. Safe for threads as far as the functions are."""

    def __init__(self, models: Mapping[str, FakeModel]) -> None:
        self.sent: list[tuple[Infer, Attempt]] = []
        self._models = models
        self._errors: list[InferenceError] = []
        self._lock = threading.Lock()

    def fail(self, *errors: InferenceError) -> None:
        """The next requests for inference raise these, one each."""
        with self._lock:
            self._errors.extend(errors)

    def ask(self, ask: Ask, attempt: Attempt) -> object:  # noqa: ARG002
        """See `Transport.ask`."""
        match ask.topic:
            case "live":
                return True
            case "ready":
                return not ask.model or ask.model in self._models
            case "server":
                return {"name": "fake", "version": "0", "extensions": ["binary_tensor_data"]}
            case "statistics":
                names = [ask.model] if ask.model else list(self._models)
                return {"model_stats": [self._statistics(name) for name in names]}
            case "metadata":
                model = self._model(ask.model, ask.version)
                tensors = {"inputs": _described(model, model.inputs), "outputs": _described(model, model.outputs)}
                return {"name": ask.model, "versions": [model.version], "platform": "fake", **tensors}
            case "config":
                return _config(self._model(ask.model, ask.version))
        raise UnsupportedError("the fake server has no shared memory; leave Settings.shared_memory off")

    def infer(self, call: Infer, attempt: Attempt) -> Answer:
        """See `Transport.infer`."""
        model = self._received(call, attempt)
        answer = model.answer(call.inputs)
        assert isinstance(answer, Mapping), "only a decoupled model gives several answers"
        return Answer({name: answer[name] for name in call.outputs}, {}, model.version)

    def stream(self, call: Infer, attempt: Attempt) -> Iterator[Answer]:
        """See `Transport.stream`."""
        model = self._received(call, attempt)
        answer = model.answer(call.inputs)
        for one in [answer] if isinstance(answer, Mapping) else answer:
            yield Answer(dict(one), {}, model.version)

    def close(self) -> None:
        """See `Transport.close`."""

    def _received(self, call: Infer, attempt: Attempt) -> FakeModel:
        with self._lock:
            self.sent.append((call, attempt))
            error = self._errors.pop(0) if self._errors else None
        if attempt.cancellation and attempt.cancellation.cancelled:
            raise AbandonedError("the request was cancelled")
        if error is not None:
            raise error
        return self._model(call.model, call.version)

    def _model(self, name: str, version: str) -> FakeModel:
        model = self._models.get(name)
        if model is None or version not in ("", model.version):
            raise UnknownModelError(f"Request for unknown model: {name!r} is not found")
        return model

    def _statistics(self, name: str) -> dict[str, object]:
        version = self._model(name, "").version
        count = sum(call.model == name for call, _ in self.sent)
        return {"name": name, "version": version, "inference_stats": {"success": {"count": count, "ns": 0}}}


class AsyncFakeServer:
    """The same for asyncio: `AsyncInferenceClient(transports=[AsyncFakeServer(fake)])`."""

    def __init__(self, server: FakeServer) -> None:
        self._server = server

    async def ask(self, ask: Ask, attempt: Attempt) -> object:
        """See `AsyncTransport.ask`."""
        return self._server.ask(ask, attempt)

    async def infer(self, call: Infer, attempt: Attempt) -> Answer:
        """See `AsyncTransport.infer`."""
        return self._server.infer(call, attempt)

    async def stream(self, call: Infer, attempt: Attempt) -> AsyncIterator[Answer]:
        """See `AsyncTransport.stream`."""
        for answer in self._server.stream(call, attempt):
            yield answer

    async def close(self) -> None:
        """See `AsyncTransport.close`."""


def _described(model: FakeModel, tensors: Tensors) -> list[dict[str, object]]:
    batch = [-1] if model.max_batch else []
    return [
        {
            "name": name,
            "datatype": BYTES.triton if dtype == "text" else BY_NAME[dtype].triton,
            "shape": [*batch, *dims],
        }
        for name, (dtype, dims) in tensors.items()
    ]


def _config(model: FakeModel) -> dict[str, object]:
    return {
        "backend": "fake",
        "max_batch_size": model.max_batch,
        "parameters": {name: {"string_value": text} for name, text in model.parameters.items()},
        "model_transaction_policy": {"decoupled": model.decoupled},
        **({"sequence_batching": {}} if model.stateful else {}),
    }
