"""The recipes of docs/client.md run as they stand there, against the real Triton."""

from __future__ import annotations

import re
import ssl
from pathlib import Path

import pytest
import trustme

from server.supervisor import Server
from tests.support.stubs import tls_in_front_of

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/client.md").read_text()
RECIPES = dict(re.findall(r"^<!-- test: (\S+) -->\n```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
# A recipe -> what it prints, or part of it.
PRINTED = {
    "ask": "(4, 10)\n",
    "signature": "image: float32 [N, 1, 28, 28], N from 1 to 8\n"
    "model 'fashion_openvino_int8' takes image: float32 [N, 1, 28, 28], N from 1 to 8; "
    "the array given for 'image' is float64 [4, 28, 28]\n",
    "split": "(100, 10)\n",
    "texts": "['HELLO', 'WORLD']\n",
    "time": "did not answer within 1e-06 s",
    "errors": "True True\nthe server at ",
    "threads": "32\n",
    "asyncio": "100\n",
    "cancel": "the request was cancelled\n",
    "sequences": "[[6]]\n",
    "streams": "[0]\n[1]\n[2]\n",
    "tls": "2.51.0\n",
    "observe": "True\n",
    "fake": "[0 1]\n2\n",
    "retries": "",
    "servers": "",
    "speed": "",
    "options": "",
    "theirs": "",
    "ours": "",
}


def test_every_block_is_tested() -> None:
    assert set(RECIPES) == set(PRINTED)
    assert len(re.findall(r"^```python$", PAGE, re.MULTILINE)) == len(RECIPES), "a block has no mark"


@pytest.mark.parametrize("name", sorted(set(PRINTED) - {"tls"}))
def test_a_recipe(talking: Server, capsys: pytest.CaptureFixture[str], name: str) -> None:
    code = RECIPES[name].replace("127.0.0.1:8000", talking.http_url).replace("127.0.0.1:8001", talking.grpc_url)
    assert name == "fake" or code != RECIPES[name], "it asks no address that `make serve` has"
    exec(compile(code, f"docs/client.md: {name}", "exec"), {"__name__": "recipe"})
    printed = capsys.readouterr().out
    assert PRINTED[name] in printed if PRINTED[name] else printed == ""


def test_the_recipe_with_certificates(
    talking: Server, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    own = authority.issue_cert("me@example.org")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    own.cert_chain_pems[0].write_to_path(str(tmp_path / "me.pem"))
    own.private_key_pem.write_to_path(str(tmp_path / "me.key"))
    (tmp_path / "token").write_text("secret\n")
    monkeypatch.chdir(tmp_path)
    with tls_in_front_of(talking.http_url, context) as address:
        exec(RECIPES["tls"].replace("triton.example:8443", address), {})
    assert capsys.readouterr().out == PRINTED["tls"]
