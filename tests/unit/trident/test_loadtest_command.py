"""Which protocols `trident loadtest` tests, and where."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import UsageError
from tests.support.report_data import report_data
from trident import main
from trident.commands.loadtest import _commands, _server
from trident.main import make_parser


def urls(*options: str) -> dict[str, str]:
    """The addresses that would be tested with these options."""
    with _server(make_parser().parse_args(["loadtest", *options]), ()) as place:
        assert place.read_memory() == {}  # another's server: its processes are not ours to read
        return dict(place.urls)


def test_a_running_server_is_tested_over_the_protocols_whose_address_is_known() -> None:
    assert urls("--url", "a:1") == {"http": "a:1"}
    assert urls("--url", "a:1", "--grpc-url", "a:2") == {"http": "a:1", "grpc": "a:2"}
    assert urls("--url", "a:1", "--grpc-url", "a:2", "--protocols", "grpc") == {"grpc": "a:2"}
    assert urls("--url", "a:1", "--grpc-url", "a:2", "--protocols", "raw") == {"raw": "a:1"}


def test_a_folder_that_cannot_be_written_is_told_of_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build, _, _ = report_data()
    (tmp_path / "fashion").mkdir()
    (tmp_path / "fashion" / "build.json").write_bytes(build.to_json())
    (tmp_path / "file").touch()
    for out in (str(tmp_path / "file"), "/proc/no"):
        with pytest.raises(SystemExit) as ended:
            main.main(["loadtest", "--artifacts", str(tmp_path), "--url", "127.0.0.1:1", "--out", out])
        assert ended.value.code == 5
        assert f"{out} cannot be written" in capsys.readouterr().err


def test_the_commands_say_where_and_how() -> None:
    options = make_parser().parse_args(
        ["loadtest", "fashion", "--url", "a:1", "--users", "1", "2", "--seconds", "1.5", "--artifacts", "my files"]
    )
    build, load = _commands(options, report_data()[0], Path("out"))
    assert build == "trident build examples/fashion/model.yaml --artifacts 'my files'"
    assert load == (
        "trident loadtest fashion --url a:1 --scenario levels --users 1 2 --seconds 1.5 --protocols http grpc --seed 1 "
        "--out out --artifacts 'my files'"
    )


def test_a_protocol_without_an_address_is_refused() -> None:
    with pytest.raises(UsageError, match=r"no address was given for grpc; .*--grpc-url"):
        urls("--url", "a:1", "--protocols", "grpc")
