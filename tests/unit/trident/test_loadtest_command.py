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


def test_the_commands_say_what_else_was_asked_for() -> None:
    more = ["--price", "0.17", "--processes", "2", "--url", "a:1"]
    options = make_parser().parse_args(["loadtest", "fashion", *more, "--expect-workers", "3"])
    _, load = _commands(options, report_data()[0], Path("out"))
    assert load.endswith("--seed 1 --price 0.17 --processes 2 --expect-workers 3 --out out")


@pytest.mark.parametrize("price", ["abc", "0", "-1", "nan", "inf"])
def test_a_price_is_an_amount(price: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main(["loadtest", "--price", price])
    assert ended.value.code == 2
    assert f"{price!r} is no price" in capsys.readouterr().err


def test_workers_elsewhere_need_a_server_that_they_can_reach(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build, _, _ = report_data()
    (tmp_path / "fashion").mkdir()
    (tmp_path / "fashion" / "build.json").write_bytes(build.to_json())
    with pytest.raises(SystemExit) as ended:
        main.main(["loadtest", "--artifacts", str(tmp_path), "--expect-workers", "1"])
    assert ended.value.code == 2
    assert "workers on other hosts do not reach a server that is started here" in capsys.readouterr().err
