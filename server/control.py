"""Loading and unloading models, over gRPC.

Over HTTP such a request occupies one of Triton's eight threads until the model is loaded, and whoever's connection that
thread serves waits as long. (A model that took 4 s held up 2 of 12 HTTP connections for 4.5 s; over gRPC, whose
control has threads of its own, none of any kind for more than 0.3 s.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from server.errors import AnswerError, NoAnswerError

HEADER: Final = "triton-grpc-protocol-"
# A model's error comes with its traceback as metadata, which may be longer than gRPC expects.
OPTIONS: Final = (("grpc.max_metadata_size", 1 << 20), ("grpc.absolute_max_metadata_size", 1 << 20))
SILENT: Final = ("DEADLINE_EXCEEDED", "CANCELLED", "UNAVAILABLE")  # the last one, too, where the key is wrong
REFUSED: Final = 400  # as over HTTP


@dataclass(frozen=True)
class Control:
    """A server's repository interface at `address` (`host:port`), for who has the key named `header`."""

    address: str
    header: str
    key: str

    def load(self, model: str, timeout_s: float, config: str = "") -> None:
        """Loads a model, by another configuration (JSON) than its folder's if given; returns when it is ready. What it
        served before serves on until then, and also if it fails. Raises AnswerError and NoAnswerError."""
        from tritonclient.grpc import service_pb2

        request = service_pb2.RepositoryModelLoadRequest(model_name=model)
        if config:
            request.parameters["config"].string_param = config
        self._call("RepositoryModelLoad", request, timeout_s)

    def unload(self, model: str, timeout_s: float) -> None:
        """Unloads a model; returns when its requests are done and it is gone. Raises AnswerError and NoAnswerError."""
        from tritonclient.grpc import service_pb2

        self._call("RepositoryModelUnload", service_pb2.RepositoryModelUnloadRequest(model_name=model), timeout_s)

    def _call(self, name: str, request: Any, timeout_s: float) -> None:
        import grpc
        from tritonclient.grpc import service_pb2_grpc

        with grpc.insecure_channel(self.address, OPTIONS) as channel:
            call = getattr(service_pb2_grpc.GRPCInferenceServiceStub(channel), name)
            try:
                call(request, timeout=timeout_s, metadata=((HEADER + self.header, self.key),))
            except grpc.RpcError as error:
                code, words = error.code().name, error.details() or error.code().name
                if code in SILENT and "restricted" not in words:
                    raise NoAnswerError(f"the server did not answer {name} of {request.model_name}: {words}") from error
                raise AnswerError(REFUSED, words) from error
