"""FastAPI before ONNX Runtime: `python fastapi_onnx.py MODEL.onnx PORT WORKERS`. Raw bytes at /raw, JSON at /json.

As its own pages advise: a worker process for each core ("Server Workers"; here each with its share of the threads), and
uvicorn's `standard` extra for its faster loop and parser. Handlers are `async`, since a thread for each call costs more
than these models compute; a `Response` is returned as it is, past the encoder ("Return a Response Directly"), and the
JSON one is written by orjson ("Custom Response"). Pydantic reads the JSON, as all FastAPI tutorials have it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import ORJSONResponse
from pydantic import BaseModel

MODEL, PORT, WORKERS = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = max(1, len(os.sched_getaffinity(0)) // WORKERS)
options.add_session_config_entry("session.intra_op.allow_spinning", "0")
app = FastAPI()


class Asked(BaseModel):
    """One sample, as nested lists."""

    data: list[list[list[float]]]


if __name__ != "__main__":  # in a worker
    session = onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])
    [taken] = session.get_inputs()


@app.post("/raw")
async def raw(request: Request) -> Response:
    """float32 in, float32 out."""
    x = np.frombuffer(await request.body(), np.float32).reshape(1, *taken.shape[1:])
    return Response(session.run(None, {taken.name: x})[0].tobytes(), media_type="application/octet-stream")


@app.post("/json")
async def json(asked: Asked) -> Response:
    """Numbers in, numbers out."""
    x = np.asarray([asked.data], np.float32)
    return ORJSONResponse({"logits": session.run(None, {taken.name: x})[0].tolist()})


if __name__ == "__main__":
    uvicorn.run(
        "fastapi_onnx:app", host="127.0.0.1", port=PORT, workers=WORKERS, log_level="error", access_log=False,
        app_dir=str(Path(__file__).resolve().parent),
    )  # fmt: skip
