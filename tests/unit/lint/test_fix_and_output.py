"""Mending, and the forms of a report."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from core.findings import LintReport
from lint.fix import fix
from lint.output import as_result, plain, sarif
from lint.pages import pages
from lint.releases import NEWEST, find_release
from lint.run import RULES, lint
from tests.support.command import trident
from tests.support.lint_faults import FAULTS, Fault
from tests.support.lint_repositories import GOOD, good_onnx
from tests.support.sarif import SARIF

ROOT = Path(__file__).parents[3]
FIXABLE = [fault for fault in FAULTS if RULES[fault.code].fixable]
STAY = {"TRN002-1", "TRN003-1"}  # where the file does not say enough
COMMENTS = ("# A comment that --fix must keep.", "# and this one")


@pytest.mark.parametrize("fault", FIXABLE, ids=[f"{fault.code}-{at}" for at, fault in enumerate(FIXABLE)])
def test_mending_changes_only_the_span(tmp_path: Path, fault: Fault) -> None:
    fault.make(tmp_path)
    path = next(iter(tmp_path.glob(f"{fault.model}/config.pbtxt")))
    before = path.read_text()
    release = find_release(fault.release)
    report, mended = fix(lint(tmp_path, release, cores=2), cores=2)
    left = {found.code for found in report.findings}
    if mended == 0:
        assert (fault.code, path.read_text()) == ("TRN002", before) or fault.code == "TRN003"
        return
    assert fault.code not in left
    after = path.read_text()
    assert [line for line in before.splitlines() if "#" in line] == [line for line in after.splitlines() if "#" in line]
    assert len(set(before.splitlines()) - set(after.splitlines())) <= 2


def test_mending_is_safe_to_repeat_and_leaves_good_files_alone(tmp_path: Path) -> None:
    path = good_onnx(tmp_path) / "config.pbtxt"
    stamp = path.stat().st_mtime_ns
    fix(lint(tmp_path, NEWEST, cores=2), cores=2)
    assert path.stat().st_mtime_ns == stamp


def bad(tmp_path: Path, code: str = "TRN203") -> Path:
    next(fault.make for fault in FAULTS if fault.code == code)(tmp_path)
    return tmp_path


def test_plain_names_file_line_code_and_what_to_do(tmp_path: Path) -> None:
    text = plain(lint(bad(tmp_path), NEWEST, cores=2))
    path = tmp_path / "m" / "config.pbtxt"
    line = path.read_text()[: path.read_text().index("preferred")].count("\n") + 1
    assert f"{path}:{line}:3: error TRN203: preferred_batch_size 16, but max_batch_size is 8" in text
    assert RULES["TRN203"].fix in text
    assert text.endswith("1 model for Triton 26.07 (2.71): 1 error; `--fix` mends 1 of them")


def test_json_is_the_schema(tmp_path: Path) -> None:
    result = as_result(lint(bad(tmp_path), NEWEST, cores=2))
    assert LintReport.model_validate_json(result.to_json()) == result
    assert (result.counts, result.findings[0].fixable) == ({"error": 1, "warning": 0, "note": 0}, True)
    assert (ROOT / result.findings[0].page).is_file()


def test_sarif_has_what_code_hosts_ask_for(tmp_path: Path) -> None:
    document = json.loads(sarif(lint(bad(tmp_path), NEWEST, cores=2), "1.2.3"))
    assert document["version"] == "2.1.0"
    (run,) = document["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == sorted(RULES)
    (result,) = run["results"]
    assert rules[result["ruleIndex"]]["id"] == result["ruleId"] == "TRN203"
    assert result["level"] == "error"
    place = result["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"].endswith("/m/config.pbtxt")
    assert place["region"]["startLine"] > 1
    (replacement,) = result["fixes"][0]["artifactChanges"][0]["replacements"]
    path = tmp_path / "m" / "config.pbtxt"
    region = replacement["deletedRegion"]
    text = path.read_text()
    assert text[region["charOffset"] :][: region["charLength"]].strip() == "preferred_batch_size: [ 4, 16 ]"


def test_sarif_of_every_fault_keeps_to_the_standard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # paths below the present folder are written relative to it
    for at, fault in enumerate(FAULTS):
        repository = tmp_path / f"my models {at}"
        fault.make(repository)
        document = json.loads(sarif(lint(repository, find_release(fault.release), 2), "1.2.3"))
        assert document["runs"][0]["results"]
        jsonschema.validate(document, SARIF)


def test_the_pages_are_those_of_the_rules() -> None:
    written = {path.name: path.read_text() for path in (ROOT / "docs" / "lint").iterdir()}
    assert written == pages(), "run `python -m lint.pages`"


def test_the_command(tmp_path: Path) -> None:
    GOOD["onnx"](tmp_path / "good")
    bad(tmp_path / "bad")
    good = trident("lint", str(tmp_path / "good"))
    assert (good.returncode, good.stdout.strip()) == (0, "1 model for Triton 26.07 (2.71): nothing found")
    found = trident("lint", str(tmp_path / "bad"), "--json", "--sarif", str(tmp_path / "out.sarif"))
    assert (found.returncode, json.loads(found.stdout)["counts"]["error"]) == (9, 1)
    assert json.loads((tmp_path / "out.sarif").read_text())["runs"]
    mended = trident("lint", str(tmp_path / "bad"), "--fix")
    assert (mended.returncode, mended.stderr) == (0, "mended: 1\n")
    missing = trident("lint", str(tmp_path / "none"))
    assert (missing.returncode, missing.stderr.count("\n")) == (5, 1)
    assert trident("lint", str(tmp_path), "--triton", "9").returncode == 2
    unwritable = trident("lint", str(tmp_path / "good"), "--sarif", str(tmp_path / "good" / "m" / "config.pbtxt" / "x"))
    assert (unwritable.returncode, unwritable.stderr.count("\n")) == (5, 1)
    assert trident("lint", str(tmp_path / "good"), str(tmp_path / "bad")).stdout.startswith("2 models for")


def test_what_counts_as_a_failure_can_be_said(tmp_path: Path) -> None:
    bad(tmp_path, "TRN407")
    assert trident("lint", str(tmp_path)).returncode == 0
    assert trident("lint", str(tmp_path), "--fail-on", "note").returncode == 9
