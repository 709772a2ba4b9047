"""`trident optimize` on a network that has learned something: what it finds is published, what it cannot is said."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from builder.build import BuildOptions, Listener, build
from builder.candidates import candidates_of
from builder.keys import make_keys
from builder.search import Candidate, Look
from builder.search_run import Search, SearchListener, TooLongError, look_at, techniques_of
from builder.spec_compress import Distillation, FineTuning
from builder.spec_file import load_spec
from builder.worker import Workplace, Workshop
from core.optimize_results import OptimizeReport, Targets
from tests.support.command import Done, trident
from tests.support.quadrants import quadrants
from tests.support.tiny import onnx_spec, torch_spec

# PyTorch's exporter copies what PyTorch itself has deprecated.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec:FutureWarning"),
    pytest.mark.timeout(900),  # a search is many builds, and the machine may be busy
]
ROOT = Path(__file__).parents[2]
STUDENT = """\
from torch import nn


def make():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.AvgPool2d(4), nn.Flatten(), nn.Linear(32, 4)
    )
"""
SEARCH = {
    "bases": ["onnx_fp32"],
    "techniques": ["prune_channels"],
    "train": {"epochs": 3, "lr": 0.003, "batch": 50},
}


def spec_file(folder: Path, **search: object) -> Path:
    """The network with few candidates, so that the test takes seconds, and the file of a student."""
    path = quadrants(folder, variants=("torch_fp32",))
    (folder / "student.py").write_text(STUDENT)
    path.write_text(path.read_text() + yaml.safe_dump({"optimize": {**SEARCH, **search}}))
    return path


def places(folder: Path) -> tuple[str, ...]:
    return "--repository", str(folder / "repository"), "--artifacts", str(folder / "artifacts")


def report_of(done: Done) -> OptimizeReport:
    return OptimizeReport.model_validate_json(done.stdout)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    """A search that has something to find: the network takes 35 kB as ONNX, half its channels less than 20."""
    folder = tmp_path_factory.mktemp("found")
    path = spec_file(folder / "model")
    return folder, trident("optimize", str(path), "--max-size", "20kB", "--max-drop", "12pt", "--json", *places(folder))


def test_what_it_finds_keeps_to_the_targets_and_is_published(found: tuple[Path, Done]) -> None:
    folder, done = found
    assert done.returncode == 0, done.stderr
    report = report_of(done)
    rows = {row.variant: row for row in report.rows}
    assert report.found
    assert report.chosen
    for name in report.chosen:
        row = rows[name]
        assert row.measured is not None and row.measured.drop is not None
        assert row.measured.size_bytes <= 20_000
        assert row.measured.drop <= 0.12
        assert (row.verdict, row.published, row.on_front) == ("kept", True, True)
        assert (folder / f"repository/quadrants_{name}/1/model.onnx").stat().st_size == row.measured.size_bytes
    served = {path.name for path in (folder / "repository").iterdir() if path.is_dir()}
    assert served == {"quadrants_torch_fp32", *(f"quadrants_{name}" for name in report.chosen)}
    assert all(bool(row.reason) for row in report.rows if row.verdict != "kept")
    assert re.fullmatch(r"takes 3\d\.\d kB, 20\.0 kB are allowed", rows["onnx_fp32"].reason)
    trained = [row for row in report.rows if row.compression and row.measured]
    assert trained
    assert all(row.does.endswith("taught for 3 of 3 epochs") for row in trained)
    # The structure is that of the trained network: what was estimated before the training is what it takes.
    both = [row for row in trained if row.estimated]
    assert both
    assert all(
        row.estimated and row.measured and abs(row.estimated.size_bytes - row.measured.size_bytes) < 500 for row in both
    )


def test_what_it_tries_is_shown_as_it_goes(found: tuple[Path, Done]) -> None:
    _, done = found
    assert re.search(r"^o onnx_fp32: 3\d\.\d kB, \S+ ms, loses 0\.00 points of top1", done.stderr, re.MULTILINE)
    assert re.search(r"^\+ narrow\d\d_onnx_fp32: its structure takes 1\d\.\d kB", done.stderr, re.MULTILINE)
    assert re.search(r"^\+ quadrants \w+_onnx_fp32 published", done.stderr, re.MULTILINE)


def test_the_page_has_the_front_and_every_candidate(found: tuple[Path, Done]) -> None:
    folder, done = found
    page = (folder / "artifacts/quadrants/optimize.html").read_text()
    report = report_of(done)
    assert "The Pareto front" in page
    assert 'class="front"' in page
    assert all(f'<th scope="row">{row.variant}</th>' in page for row in report.rows)
    assert "at most 0.02 MB, a loss of at most 12pt of top1" in page
    assert "<script" not in page
    saved = json.loads((folder / "artifacts/quadrants/optimize.json").read_text())
    assert saved == json.loads(done.stdout)


def test_its_spec_builds_the_same_again_from_the_cache(found: tuple[Path, Done]) -> None:
    folder, done = found
    report = report_of(done)
    assert report.built_spec is not None
    content = yaml.safe_load(Path(report.built_spec).read_text())
    assert content["variants"] == ["torch_fp32", *report.chosen]
    options = BuildOptions(folder / "repository", folder / "artifacts")
    rows = build([Path(report.built_spec)], options, Listener()).models[0].rows
    assert [row.variant for row in rows] == content["variants"]
    assert all(row.from_cache and row.status == "published" for row in rows)


def test_again_it_takes_all_from_what_it_knows(found: tuple[Path, Done]) -> None:
    folder, first = found
    started = time.monotonic()
    done = trident(
        "optimize", str(folder / "model/model.yaml"), "--max-size", "20kB", "--max-drop", "12pt", "--json",
        *places(folder),
    )  # fmt: skip
    assert time.monotonic() - started < 10
    before, after = report_of(first), report_of(done)
    assert [(row.variant, row.measured, row.verdict) for row in after.rows] == [
        (row.variant, row.measured, row.verdict) for row in before.rows
    ]


def test_absurd_targets_are_answered_honestly_and_publish_nothing(found: tuple[Path, Done], tmp_path: Path) -> None:
    folder, _ = found
    done = trident(
        "optimize", str(folder / "model/model.yaml"), "--max-size", "1B", "--repository", str(tmp_path / "repository"),
        "--artifacts", str(folder / "artifacts"), "--max-drop", "12pt",
    )  # fmt: skip
    assert done.returncode == 10
    assert not (tmp_path / "repository").exists()
    assert "No candidate keeps to all targets, so nothing is published." in done.stdout
    assert re.search(r"The nearest is narrow\w+: its structure takes \d+\.\d kB and \S+ ms, before tr", done.stdout)
    wanted = r"What it would take: --max-size 0\.0\d+MB, if .* measured, --max-size 0\.0\d+MB alone would do \(\w+\)\."
    assert re.search(wanted, done.stdout)
    assert re.search(r"No structure fits, trained or not: even \w+ takes \d+\.\d kB and \S+ ms\.", done.stdout)
    assert not (re.search(r"\bkept\b", done.stdout))


def test_what_the_budget_does_not_allow_is_not_trained(found: tuple[Path, Done]) -> None:
    """An epoch is timed first. With no time left nothing is trained; with some, a plan is made and kept to."""
    folder, _ = found
    spec = load_spec(folder / "model/model.yaml")
    longer = spec.optimize.train.model_copy(update={"epochs": 1000})
    search_for = spec.optimize.model_copy(update={"train": longer, "techniques": ("prune_channels", "low_rank")})
    spec = spec.model_copy(update={"optimize": search_for})
    place = Workplace(folder / "artifacts/quadrants", folder / "artifacts/cache")
    targets = Targets(size_bytes=20_000, drop=0.1, drop_given="10pt")
    candidates, one = candidates_of(spec), Candidate("narrow50", "onnx_fp32")
    workshop = Workshop(place.folder / "build.log")

    def search(left_s: float, budget_s: float) -> Search:
        ends = time.monotonic() + left_s
        keys = make_keys(spec)
        return Search(spec, candidates, targets, "top1", budget_s, ends, place, workshop, keys, SearchListener())

    try:
        late = search(0.0, 60.0)
        look_at(late, Look("measure", one))
        assert list(late.unaffordable) == ["narrow50"]
        assert re.fullmatch(r"an epoch of its training takes \d+ s, and 0 s are left", late.unaffordable["narrow50"])
        assert late.measured == {}
        planned = techniques_of(search(20.0, 100.0), one)[-1]
        tuned = techniques_of(search(20.0, 100.0), Candidate("tuned50", "onnx_fp32"))[-1]
        again = techniques_of(search(20.0, 50.0), one)[-1]
        with pytest.raises(TooLongError, match="and 0 s are left"):
            techniques_of(search(0.0, 50.0), one)
    finally:
        workshop.close()
    assert isinstance(planned, Distillation)
    assert 1 <= planned.train.epochs < 1000
    assert isinstance(tuned, FineTuning)
    assert 1 <= tuned.epochs < 1000
    assert again == planned  # a smaller budget keeps to the plan, if there is time for it


def test_a_killed_search_goes_on_where_it_was(tmp_path: Path) -> None:
    """Killed while a student learns; the second run finds what was measured, and the epochs that were done."""
    train = {"epochs": 40, "lr": 0.003, "batch": 50}
    path = spec_file(tmp_path / "model", techniques=["distill"], students=["student.py:make"], train=train)
    arguments = ["optimize", str(path), "--max-size", "20kB", "--max-drop", "90pt", "--json", *places(tmp_path)]
    command = [sys.executable, "-m", "trident.main", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    log = tmp_path / "artifacts/quadrants/build.log"
    running = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 200
        while "epoch 3 of 40" not in (log.read_text() if log.is_file() else ""):
            assert running.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        running.send_signal(signal.SIGKILL)
        running.wait()
    assert not (tmp_path / "repository").exists()
    assert not (tmp_path / "artifacts/quadrants/optimize.json").exists()
    known = json.loads((tmp_path / "artifacts/quadrants/search.json").read_text())
    assert len(known["figures"]) >= 2
    before = len(log.read_text())
    done = trident(*arguments)
    assert done.returncode == 0, done.stderr
    after = log.read_text()[before:]
    assert re.search(r"^goes on after epoch [2-9]\d*, where an earlier run was interrupted$", after, re.MULTILINE)
    assert after.count("== onnx_fp32") == 0  # what was measured is not made again
    assert after.count("its structure, before training") == 0
    report = report_of(done)
    assert report.chosen == ("student1_onnx_fp32",)
    assert report.rows[-1].does == "student make, taught for 40 of 40 epochs"
    assert (tmp_path / "repository/quadrants_student1_onnx_fp32/1/model.onnx").is_file()


def test_without_training_data_what_needs_none_is_tried(tmp_path: Path) -> None:
    path = spec_file(tmp_path / "model", techniques=["distill", "low_rank"], students=["student.py:make"])
    content = yaml.safe_load(path.read_text())
    del content["data"]["training"]
    path.write_text(yaml.safe_dump(content))
    done = trident("optimize", str(path), "--max-drop", "1pt", "--max-size", "36kB", "--json", *places(tmp_path))
    assert done.returncode == 0, done.stderr
    report = report_of(done)
    assert report.left_out == (
        "training: the spec names no data.training, so compressed networks are taken as they are, untrained, and "
        "students are left out",
    )
    assert not any(row.compression.startswith("student") for row in report.rows)
    thin = [row for row in report.rows if row.compression.startswith("thin") and row.measured]
    assert thin
    assert not any("taught" in row.does for row in thin)


def test_of_an_onnx_checkpoint_only_bases_are_tried(tmp_path: Path) -> None:
    path = onnx_spec(tmp_path / "model")
    path.write_text(path.read_text() + "optimize: {bases: [onnx_fp32, onnx_int8_qat]}\n")
    done = trident("optimize", str(path), "--max-size", "1MB", "--json", *places(tmp_path))
    assert done.returncode == 0, done.stderr
    report = report_of(done)
    assert report.left_out == (
        "compressions: the checkpoint is an ONNX file, and they work on the layers of a PyTorch network",
    )
    assert [(row.variant, row.verdict) for row in report.rows] == [("onnx_fp32", "kept"), ("onnx_int8_qat", "dropped")]
    assert report.rows[1].reason == "the checkpoint is an ONNX file, and train_quantized works on a PyTorch network"


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ((), 2, "nothing to search for; give at least one of --max-size, --max-latency and --max-drop"),
        (("--max-size", "small"), 2, "argument --max-size: 'small' is no size; write it such as 0.5MB, 300kB or 4096B"),
        (("--max-size", "0MB"), 2, "argument --max-size: '0MB' is no size above 0"),
        (("--max-latency", "1 fortnight"), 2, "argument --max-latency: '1 fortnight' is no time; write it such as 1ms"),
        (("--max-drop", "1"), 2, "argument --max-drop: '1' is no loss; write it such as 1pt (a hundredth) or 2%"),
        (("--max-drop", "1pt", "--budget", "-3min"), 2, "argument --budget"),
    ],
)
def test_targets_that_cannot_be_read_are_one_sentence(
    tmp_path: Path, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    done = trident("optimize", str(tmp_path / "none.yaml"), *arguments, *places(tmp_path))
    assert done.returncode == code
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "artifacts").exists()


@pytest.mark.parametrize(
    ("search", "sentence"),
    [
        ("{bases: [onnx_int9]}", "base 'onnx_int9' is not known; did you mean 'onnx_int8"),
        ("{students: [none.py:make]}", "none.py does not exist; correct `optimize.students` in the spec of tiny"),
        ("{students: [make]}", "optimize.students[0]: 'make' cannot be read; write it such as model.py:build_half"),
        ("{techniques: [prune]}", "'prune' is not known"),
        ("{student: [a.py:make]}", "optimize.student: unknown field; did you mean 'students'?"),
    ],
)
def test_a_search_that_cannot_be_is_one_sentence(tmp_path: Path, search: str, sentence: str) -> None:
    path = torch_spec(tmp_path / "model")
    path.write_text(f"{path.read_text()}optimize: {search}\n")
    done = trident("optimize", str(path), "--max-drop", "1pt", *places(tmp_path))
    assert done.returncode == 3
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
