"""All that a client can be asked, as flows: the one place for the logic of the sync and the async client."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from client.address import Endpoint
from client.attempts import Caller, Task
from client.calls import Ask, Attempt, Infer, SequencePart
from client.cancellation import Cancellation
from client.counters import ModelStatistics, ServedVersion, parse_served, parse_statistics
from client.errors import (
    AnswerError,
    RefusedError,
    SignatureError,
    UnknownModelError,
    UnsupportedError,
)
from client.events import OK, RequestEnded, Subject
from client.metadata import ModelMetadata, parse_metadata
from client.requests import join, named, output_sizes, split, wanted
from client.servers import Server
from client.settings import Options, Settings
from client.steps import Flow, Together
from client.tracing import trace_id_of
from core.errors import InferenceError, InputError
from core.tensors import Arrays

_BINARY: Final = "binary_tensor_data"


class _WireServer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str = ""
    version: str = ""
    extensions: tuple[str, ...] = ()


class Known(NamedTuple):
    """What is remembered of a model."""

    metadata: ModelMetadata
    subject: Subject


class Dialogue:
    """What the client knows and how it asks, apart from how bytes get to a server. Every method is a flow."""

    def __init__(self, endpoints: Sequence[Endpoint], settings: Settings, timeout_s: float) -> None:
        if timeout_s <= 0:
            raise InputError(f"a timeout of {timeout_s:g} s is no time to wait; give seconds above 0")
        self.servers = tuple(Server(index, endpoint, settings) for index, endpoint in enumerate(endpoints))
        self.settings = settings
        self._timeout_s = timeout_s
        self._caller = Caller(self.servers, settings)
        self._protocol = self.servers[0].endpoint.protocol
        self._known: dict[tuple[str, str], Known] = {}
        self._binary: bool | None = False if settings.json_tensors else None

    def healthy(self, ask: Ask, options: Options) -> Flow[bool]:
        """Whether one of the servers says yes. Never raises for what the servers or the network do."""
        task = self._task(ask, options)
        for server in self.servers:
            with contextlib.suppress(InferenceError):
                if (yield from self._caller.once(task, server)):
                    return True
        return False

    def server(self, options: Options) -> Flow[_WireServer]:
        """Name, version and extensions of a server."""
        return _checked(_WireServer, (yield from self._caller.call(self._task(Ask("server"), options))))

    def metadata(self, model: str, options: Options) -> Flow[ModelMetadata]:
        """See `InferenceClient.metadata`."""
        if (known := self._known.get((model, options.version))) is None:
            known = yield from self._learn(self._task(Ask("metadata", model, options.version), options))
        return known.metadata

    def statistics(self, model: str, options: Options) -> Flow[ModelStatistics]:
        """See `InferenceClient.statistics`."""
        yield from self.metadata(model, options)  # answers an unknown model rightly, which statistics over HTTP do not
        return parse_statistics((yield from self._caller.call(self._task(Ask("statistics", model), options))))

    def served(self, options: Options) -> Flow[tuple[ServedVersion, ...]]:
        """See `InferenceClient.served`."""
        return parse_served((yield from self._caller.call(self._task(Ask("statistics"), options))))

    def infer(
        self,
        model: str,
        inputs: Arrays | NDArray[np.generic],
        outputs: tuple[str, ...] | None,
        options: Options,
        sequence: SequencePart | None = None,
        only: Server | None = None,
    ) -> Flow[Arrays]:
        """See `InferenceClient.infer`; for a request of a sequence, to the `only` server that has its state."""
        task = self._task(Ask("metadata", model, options.version), options, only)
        outcome, reason = OK, ""
        try:
            known = self._known.get((model, options.version))
            if known is None:
                known = yield from self._learn(task)
            metadata, subject = known
            given, asked = self._fitting(metadata, inputs, outputs, sequence)
            call = self._call(model, given, asked, options, sequence, metadata.heeds_time)
            safe = options.retry and sequence is None
            task = task._replace(call=call, subject=subject, known=True, safe=safe)
            try:
                answers = yield from self._parts(task, call, metadata)
            except UnknownModelError as error:
                raise self._unknown(model, options.version, error) from error
            except RefusedError as error:
                if type(error) is not RefusedError:
                    raise
                self._known.pop((model, options.version), None)  # its inputs may be others now
                raise RefusedError(f"the server refused a request for model {model!r}: {error}") from error
            return join(answers, given, metadata)
        except InferenceError as error:
            outcome, reason = type(error).__name__, str(error)
            raise
        finally:
            if self.settings.observers:
                self._tell(task, outcome, reason, options)

    def open_stream(
        self,
        model: str,
        inputs: Arrays | NDArray[np.generic],
        outputs: tuple[str, ...] | None,
        options: Options,
    ) -> Flow[tuple[int, Infer, Attempt]]:
        """Where and how to send a request that is answered any number of times. It is sent once."""
        task = self._task(Ask("metadata", model, options.version), options)
        metadata, subject = self._known.get((model, options.version)) or (yield from self._learn(task))
        given, asked = self._fitting(metadata, inputs, outputs, None, stream=True)
        (part,) = split(given, metadata)
        task = task._replace(call=self._call(model, part, asked, options, None, metadata.heeds_time), subject=subject)
        return (yield from self._caller.ready_to_send(task))

    def pick(self, model: str, options: Options) -> Flow[Server]:
        """A server for a sequence, whose requests must all go to the same one."""
        return (yield from self._caller.picked(self._task(Ask("metadata", model), options)))

    def close(self) -> Flow[None]:
        """Gives back what the servers keep for this client."""
        yield from self._caller.regions.end(self.servers, Attempt(1.0))

    def _parts(self, task: Task, call: Infer, metadata: ModelMetadata) -> Flow[list[Arrays]]:
        """The answers to a request that is split if the model takes no batch that large."""
        parts = split(call.inputs, metadata)
        if len(parts) == 1 and parts[0] is call.inputs and not self.settings.shared_memory:
            return [(yield from self._caller.call(task)).outputs]  # nearly always, and quicker than below
        calls = [call._replace(inputs=part) for part in parts]
        tasks = [task._replace(call=one, sizes=self._sizes(metadata, one)) for one in calls]
        if len(tasks) == 1:
            return [(yield from self._caller.call(tasks[0])).outputs]
        give_up = Cancellation()
        chained = task.cancellation.calling(give_up.cancel) if task.cancellation else contextlib.nullcontext()
        with chained:
            flows = tuple(self._caller.call(one._replace(cancellation=give_up)) for one in tasks)
            answers = yield Together(flows, give_up)
        return [answer.outputs for answer in answers]

    def _tell(self, task: Task, outcome: str, reason: str, options: Options) -> None:
        seconds = self.settings.clock.now() - task.deadline_s + task.timeout_s
        trace_id = trace_id_of(task.traceparent)
        ended = RequestEnded(task.subject, outcome, seconds, reason, options.request_id, trace_id)
        for observer in self.settings.observers:
            observer(ended)

    def _sizes(self, metadata: ModelMetadata, part: Infer) -> dict[str, int] | None:
        return output_sizes(metadata, part.outputs, part.inputs) if self.settings.shared_memory else None

    def _fitting(
        self,
        metadata: ModelMetadata,
        inputs: Arrays | NDArray[np.generic],
        outputs: tuple[str, ...] | None,
        sequence: SequencePart | None,
        stream: bool = False,
    ) -> tuple[Arrays, tuple[str, ...]]:
        """Inputs and outputs by name. Raises SignatureError if they do not fit, or the model is not asked this way."""
        name = metadata.name
        if metadata.decoupled and not stream:
            raise SignatureError(f"model {name!r} may answer any number of times; use stream() instead of infer()")
        if metadata.stateful and sequence is None:
            raise SignatureError(f"model {name!r} keeps state from request to request; use sequence()")
        given = named(inputs, metadata)
        metadata.check_inputs(given, any_batch=sequence is None and not stream)
        return given, wanted(outputs, metadata)

    def _call(
        self,
        model: str,
        inputs: Arrays,
        outputs: tuple[str, ...],
        options: Options,
        sequence: SequencePart | None,
        heeds_time: bool,
    ) -> Infer:
        return Infer(
            model=model,
            inputs=inputs,
            outputs=outputs,
            version=options.version,
            request_id=options.request_id,
            priority=options.priority,
            parameters=options.parameters,
            sequence=sequence,
            tells_time=heeds_time,
            binary=self._binary is not False,
        )

    def _task(self, call: Ask, options: Options, only: Server | None = None) -> Task:
        timeout_s = options.timeout_s or self._timeout_s
        return Task(
            call=call,
            subject=Subject(call.model, "", self._protocol),
            deadline_s=self.settings.clock.now() + timeout_s,
            timeout_s=timeout_s,
            only=only,
            traceparent=self.settings.traceparent(),
            cancellation=options.cancellation,
        )

    def _learn(self, task: Task) -> Flow[Known]:
        """Asks what a model takes, and remembers it."""
        assert isinstance(task.call, Ask)
        model, version = task.call.model, task.call.version
        try:
            metadata = yield from self._caller.call(task)
        except UnknownModelError as error:
            raise self._unknown(model, version, error) from error
        config: object = {}
        with contextlib.suppress(UnknownModelError, UnsupportedError):  # an extension that not every server has
            config = yield from self._caller.call(task._replace(call=Ask("config", model, version)))
        if self._binary is None:
            self._binary = self._protocol == "grpc" or (yield from self._takes_binary(task))
        found = _parsed(metadata, config)
        known = Known(found, Subject(model, found.variant, self._protocol))
        self._known[model, version] = known
        return known

    def _takes_binary(self, task: Task) -> Flow[bool]:
        try:
            server = _checked(_WireServer, (yield from self._caller.call(task._replace(call=Ask("server")))))
        except (UnknownModelError, UnsupportedError):
            return False
        return _BINARY in server.extensions

    def _unknown(self, model: str, version: str, error: UnknownModelError) -> UnknownModelError:
        self._known.pop((model, version), None)
        wanted_ = f"model {model!r} version {version}" if version else f"model {model!r}"
        where = ", ".join(str(server.endpoint.address) for server in self.servers)
        return UnknownModelError(
            f"the server at {where} does not serve {wanted_}: {error}; `trident status` lists what is served"
        )


def _parsed(metadata: object, config: object) -> ModelMetadata:
    try:
        return parse_metadata(metadata, config)
    except ValidationError as error:
        raise _unreadable(error) from error


def _checked(model: type[_WireServer], answer: Any) -> _WireServer:
    try:
        return model.model_validate(answer)
    except ValidationError as error:
        raise _unreadable(error) from error


def _unreadable(error: ValidationError) -> AnswerError:
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return AnswerError(
        f"its answer is none of the Open Inference Protocol ({where or 'all of it'}: {first['msg']}); "
        "is this the port of an inference server?"
    )
