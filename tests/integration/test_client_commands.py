"""`trident infer`, `status` and `wait` against the real Triton."""

from __future__ import annotations

import io
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from server.options import ServeOptions
from server.supervisor import Server
from tests.integration.loadtest_fixtures import IMAGES, logits_of
from tests.integration.server_fixtures import write_onnx
from trident.main import main


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> object:
    """The command line: exit code, standard output, standard error."""

    def command(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return int(ended.value.code or 0), printed.out, printed.err

    return command


def nobody() -> str:
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


def label(i: int) -> str:
    """What the model says of an image."""
    return ("cat", "dog", "eel")[int(logits_of(IMAGES[i : i + 1]).argmax())]


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_infer_from_arrays_json_images_and_texts(
    talking: Server,
    run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    protocol: str,  # type: ignore[no-untyped-def]
) -> None:
    url = ("--url", f"{protocol}://{talking.grpc_url if protocol == 'grpc' else talking.http_url}")
    np.save(tmp_path / "x.npy", IMAGES[:20])
    (tmp_path / "x.json").write_text(json.dumps({"image": IMAGES[:20].tolist()}))
    Image.fromarray(IMAGES[0, 0].astype(np.uint8)).save(tmp_path / "x.png")
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(IMAGES[0].tolist())))
    for name, count in (("x.npy", 20), ("x.json", 20), ("x.png", 1)):
        code, out, _ = run("infer", "digits", str(tmp_path / name), *url, "--json", "--top", "1")
        answers = json.loads(out)
        assert code == 0
        assert [answer["guesses"][0]["label"] for answer in answers] == [label(i) for i in range(count)]
    code, out, _ = run("infer", "digits", "-", *url, "--output", str(tmp_path / "y.npz"))
    assert (code, out.split()[:2]) == (0, ["0:", label(0)])
    with np.load(tmp_path / "y.npz") as written:
        np.testing.assert_array_equal(written["logits"], logits_of(IMAGES[:1]))
    code, out, _ = run("infer", "upper", *url, "--text", "ab", "cd")
    assert (code, out) == (0, "0: y = ['AB']\n1: y = ['CD']\n")


def test_infer_says_what_is_wrong(talking: Server, run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    url = ("--url", talking.http_url)
    (tmp_path / "token").write_text("secret\n")
    np.save(file := tmp_path / "x.npy", IMAGES[:1])
    for words, code, sentence in (
        (("nope", str(file), *url), 7, "does not serve model 'nope'"),
        (("digits", "--text", "a", *url), 7, "takes no text but image: float32"),
        (("digits", str(file), "--url", nobody()), 7, "no server answers at"),
        (("digits", str(file), "--url", talking.grpc_url), 7, "speaks gRPC, not HTTP"),
        (("digits", str(file), *url, "--timeout", "0"), 2, "is no time to wait"),
        (("digits", str(file), *url, "--ca", "no.pem"), 3, "no.pem does not exist"),
        (("digits", str(file), *url, "--token-file", str(tmp_path / "none")), 2, "cannot be read"),
        (("digits", str(file), "--url", "ftp://x:1"), 7, "is not a server's address"),
        (("digits", str(file), *url, "--url", f"grpc://{talking.grpc_url}"), 7, "must be of one protocol"),
    ):
        found, out, err = run("infer", *words)
        assert (found, out) == (code, ""), err
        assert err.startswith("trident infer: ") and err.count("\n") == 1 and sentence in err
    assert run("infer", "digits", str(file), *url, "--token-file", str(tmp_path / "token"))[0] == 0


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_status(talking: Server, run, protocol: str) -> None:  # type: ignore[no-untyped-def]
    url = ("--url", f"{protocol}://{talking.grpc_url if protocol == 'grpc' else talking.http_url}")
    run("infer", "upper", "--text", "ab", *url)
    code, out, _ = run("status", *url, "--json")
    status = json.loads(out)
    assert (code, status["version"], status["ready"]) == (0, "2.51.0", True)
    (upper,) = [row for row in status["models"] if row["name"] == "upper"]
    assert (upper["version"], upper["ready"], upper["failures"]) == ("1", True, 0)
    assert upper["requests"] >= 1 and upper["mean_batch"] >= 1 and upper["compute_ms"] > 0
    code, out, _ = run("status", *url)
    assert code == 0 and out.startswith("version 2.51.0, ready\n")
    assert {row["name"] for row in status["models"]} <= set(out.split())
    assert run("status", "--url", nobody())[0] == 7


def test_wait(talking: Server, run) -> None:  # type: ignore[no-untyped-def]
    url = ("--url", talking.http_url)
    code, out, _ = run("wait", *url)
    assert (code, out[:11]) == (0, "ready after")
    assert json.loads(run("wait", "digits", "upper", *url, "--json")[1])["ready"]
    code, _, err = run("wait", "digits", "nope", *url, "--timeout", "0.3")
    assert (code, err) == (7, "trident wait: not ready after 0.3 s: nope\n")
    code, _, err = run("wait", "--url", nobody(), "--timeout", "0.3")
    assert code == 7 and "no server answers; is it started" in err


def test_wait_ends_when_a_server_has_come_up(tmp_path: Path) -> None:
    address = nobody()
    command = [sys.executable, "-m", "trident.main", "wait", "one", "--url", address, "--timeout", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as waiting:
        time.sleep(1)
        assert waiting.poll() is None
        write_onnx(tmp_path / "repository", "one")
        port = int(address.rpartition(":")[2])
        with Server(ServeOptions(tmp_path / "repository", run_dir=tmp_path / "run", http_port=port)):
            out, _ = waiting.communicate(timeout=60)
    assert (waiting.returncode, out[:11]) == (0, "ready after")
