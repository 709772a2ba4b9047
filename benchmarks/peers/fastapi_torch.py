"""FastAPI before eager PyTorch: `python fastapi_torch.py NETWORK.py WEIGHTS.pt PORT WORKERS`. Raw bytes at /raw.

What one would write first: the trained network, `inference_mode`, no export. Advice as in fastapi_onnx.py; PyTorch's
own ("CPU threading") is to share the cores out among the processes.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import torch
import uvicorn
from fastapi import FastAPI, Request, Response

NETWORK, WEIGHTS, PORT, WORKERS = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
SHAPE = (1, 1, 28, 28)
app = FastAPI()

if __name__ != "__main__":  # in a worker
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // WORKERS))
    spec = importlib.util.spec_from_file_location("network", NETWORK)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.build_model().eval()
    network.load_state_dict(torch.load(WEIGHTS, weights_only=True))


@app.post("/raw")
async def raw(request: Request) -> Response:
    """float32 in, float32 out."""
    x = torch.from_numpy(np.frombuffer(await request.body(), np.float32).reshape(SHAPE).copy())
    with torch.inference_mode():
        return Response(network(x).numpy().tobytes(), media_type="application/octet-stream")


if __name__ == "__main__":
    uvicorn.run(
        "fastapi_torch:app", host="127.0.0.1", port=PORT, workers=WORKERS, log_level="error", access_log=False,
        app_dir=str(Path(__file__).resolve().parent),
    )  # fmt: skip
