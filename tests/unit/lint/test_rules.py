"""Each rule finds its fault, and nothing in the good repository beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lint.releases import find_release
from lint.run import RULES, lint
from tests.support.lint_faults import FAULTS, Fault
from tests.support.lint_repositories import GOOD, Make


@pytest.mark.parametrize("make", GOOD.values(), ids=GOOD)
def test_a_good_repository_gives_nothing(tmp_path: Path, make: Make) -> None:
    make(tmp_path / "repository")
    assert lint(tmp_path / "repository", find_release("26.07"), cores=2).findings == ()


@pytest.mark.parametrize("fault", FAULTS, ids=[f"{fault.code}-{at}" for at, fault in enumerate(FAULTS)])
def test_a_fault_is_found_and_no_other(tmp_path: Path, fault: Fault) -> None:
    fault.make(tmp_path / "repository")
    report = lint(tmp_path / "repository", find_release(fault.release), cores=2)
    assert {found.code for found in report.findings} == {fault.code, *fault.also}, report.findings


def test_every_rule_has_a_fault() -> None:
    assert {fault.code for fault in FAULTS} == set(RULES)


def test_a_stray_folder_does_not_hide_the_faults_of_the_model(tmp_path: Path) -> None:
    next(fault.make for fault in FAULTS if fault.code == "TRN302")(tmp_path)
    (tmp_path / "m" / "2.bak").mkdir()
    assert {found.code for found in lint(tmp_path, find_release("26.07"), cores=2).findings} == {"TRN103", "TRN302"}
