"""What crosses the seam between a client and a transport, as values: calls out, answers back.

Named tuples, and not frozen dataclasses as elsewhere: every request makes some, and these take a third of the time.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from client.cancellation import Cancellation
from client.settings import Parameter
from core.datatypes import DataType
from core.tensors import Arrays

Topic = Literal["live", "ready", "server", "metadata", "config", "statistics", "regions", "register", "unregister"]


class Region(NamedTuple):
    """A region of shared memory: `name` at the server, `key` on this machine, size in bytes."""

    name: str
    key: str
    size: int


class Ask(NamedTuple):
    """A question about the server or a model, or an order about a region. Its answer is decoded JSON, spelled alike by
    both protocols; for `live` and `ready` it is true or false. `version` "" is the one that the server picks."""

    topic: Topic
    model: str = ""
    version: str = ""
    region: Region | None = None


class Place(NamedTuple):
    """Where in shared memory a tensor lies."""

    region: str
    offset: int
    size: int


NOTHING: Final[Mapping[str, Parameter]] = MappingProxyType({})
NOWHERE: Final[Mapping[str, Place]] = MappingProxyType({})


class SequencePart(NamedTuple):
    """A request's place in a sequence."""

    id: int
    start: bool
    end: bool


class Infer(NamedTuple):
    """One request for inference, whose inputs fit the model. `tells_time`: the server is told how much is left. Tensors
    named in `placed` and `placed_outputs` go through shared memory."""

    model: str
    inputs: Arrays
    outputs: tuple[str, ...]
    version: str = ""
    request_id: str = ""
    priority: int = 0
    parameters: Mapping[str, Parameter] = NOTHING
    sequence: SequencePart | None = None
    tells_time: bool = False
    binary: bool = True
    placed: Mapping[str, Place] = NOWHERE
    placed_outputs: Mapping[str, Place] = NOWHERE


Call = Ask | Infer


class Answer(NamedTuple):
    """The outputs by name. Those in shared memory are in `placed` instead, as their data type and shape. `version` is
    the one that answered."""

    outputs: Arrays
    placed: Mapping[str, tuple[DataType, tuple[int, ...]]]
    version: str


class Attempt(NamedTuple):
    """How long one sending of a call may take, with what headers, and what may cancel it."""

    timeout_s: float
    headers: tuple[tuple[str, str], ...] = ()
    cancellation: Cancellation | None = None
