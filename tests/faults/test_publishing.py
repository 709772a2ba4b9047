"""Faults while publishing, made for real: full disk, read-only target, two builds at once, builds killed at any moment.

After each of them the repository must be loadable: whole models with whole versions, as before or as after.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from builder.build import BuildOptions, Listener, build
from builder.recipes import RECIPES
from builder.repository import Repository
from server.options import ServeOptions
from server.supervisor import Server
from tests.support.tiny import onnx_spec, torch_spec

BUILD = [sys.executable, "-m", "trident.main", "build"]


def _command(spec: Path, folder: Path) -> list[str]:
    return [*BUILD, str(spec), "--repository", str(folder / "repository"), "--artifacts", str(folder / "artifacts")]


def _check_loadable(root: Path) -> None:
    """Nothing but whole models with whole versions."""
    repository = Repository.at(root)
    folders = [path.name for path in root.iterdir()] if root.is_dir() else []
    assert sorted(folders) == repository.models()
    for model in repository.models():
        versions = repository.versions(model)
        assert versions, f"{model} has no version"
        for version in versions:
            assert repository.intact(model, version), f"{model} version {version} is not whole"


def _check_serves(root: Path, run_dir: Path) -> None:
    """The real server loads every model and gives its golden answers."""
    with Server(ServeOptions(repository=root, run_dir=run_dir)) as server:
        assert server.models
        assert all(state.ready and state.golden for state in server.models), server.models


def _namespace(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs a shell script where it may mount: as root in a mount namespace of its own, else in a user namespace."""
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount in a namespace of one's own (unshare --mount)")
    return subprocess.run(
        [*unshare, "sh", "-euc", script, "sh", *map(str, arguments)], capture_output=True, text=True, check=False
    )


FULL_DISK = """
mount -t tmpfs -o size=$5k tmpfs "$1"
code=0
"$2" -m trident.main build "$3" --repository "$1/repository" --artifacts "$4" || code=$?
find "$1" -type f ! -name '*lock'
exit $code
"""


@pytest.mark.parametrize("kilobytes", [4, 8, 12])
def test_full_disk_is_one_sentence_and_leaves_nothing_half_written(tmp_path: Path, kilobytes: int) -> None:
    spec, disk = onnx_spec(tmp_path / "model"), tmp_path / "disk"
    disk.mkdir()
    done = _namespace(FULL_DISK, disk, sys.executable, spec, tmp_path / "artifacts", kilobytes)
    assert done.returncode == 5, done.stderr
    assert "the disk is full; free some space and build again" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.splitlines() == []


FULL_ARTIFACTS = """
mount -t tmpfs -o size=$5k tmpfs "$1"
"$2" -m trident.main build "$3" --repository "$4" --artifacts "$1/artifacts"
"""


@pytest.mark.parametrize("kilobytes", [4, 16, 32])
def test_full_disk_under_the_artifacts_is_one_sentence(tmp_path: Path, kilobytes: int) -> None:
    spec, disk = onnx_spec(tmp_path / "model"), tmp_path / "disk"
    disk.mkdir()
    done = _namespace(FULL_ARTIFACTS, disk, sys.executable, spec, tmp_path / "repository", kilobytes)
    assert done.returncode == 5, done.stderr
    sentences = [line for line in done.stderr.splitlines() if line.startswith("trident build: ")]
    assert len(sentences) == 1, done.stderr
    assert "the disk is full; free some space and build again" in sentences[0]
    assert "Traceback" not in done.stderr
    _check_loadable(tmp_path / "repository")


READ_ONLY = """
mount --bind "$1" "$1"
mount -o remount,ro,bind "$1"
if touch "$1/probe" 2>/dev/null; then exit 99; fi
"$2" -m trident.main build "$3" --repository "$1/repository" --artifacts "$4"
"""


def test_read_only_target_is_one_sentence_and_nothing_changes(tmp_path: Path) -> None:
    spec, target = onnx_spec(tmp_path / "model"), tmp_path / "target"
    build([spec], BuildOptions(target / "repository", tmp_path / "artifacts"), Listener())
    spec = onnx_spec(tmp_path / "model", seed=1)
    done = _namespace(READ_ONLY, target, sys.executable, spec, tmp_path / "artifacts")
    assert done.returncode == 5, done.stderr
    assert "it is read-only; choose another with --repository" in done.stderr
    assert Repository.at(target / "repository").versions("tiny_onnx_fp32") == [1]
    _check_loadable(target / "repository")


def test_file_size_limit_while_adding_a_version(tmp_path: Path) -> None:
    spec = onnx_spec(tmp_path / "model")
    options = BuildOptions(tmp_path / "repository", tmp_path / "artifacts")
    build([spec], options, Listener())
    spec = onnx_spec(tmp_path / "model", seed=1)
    elsewhere = BuildOptions(tmp_path / "elsewhere", tmp_path / "artifacts")
    build([spec], elsewhere, Listener())  # everything is in the cache now; only publishing is left to do
    limited = (
        "import os, resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "import builder.repository as r; from pathlib import Path\n"
        "package = r.Package('tiny_onnx_fp32', r.Passport.model_validate_json(Path(sys.argv[2]).read_bytes()), "
        "{'model.onnx': Path(sys.argv[3])}, b'g', 'c', 2)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (400, 400)); repository = r.Repository.at(Path(sys.argv[1]))\n"
        "try:\n    with repository.locked(): repository.publish(package)\n"
        "except r.PublishError as error: print(error); sys.exit(9)"
    )
    other = tmp_path / "elsewhere" / "tiny_onnx_fp32" / "1"
    arguments = [str(tmp_path / "repository"), str(other / "passport.json"), str(other / "model.onnx")]
    done = subprocess.run([sys.executable, "-c", limited, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 9, done.stderr
    assert "the file size limit is reached" in done.stdout
    assert Repository.at(tmp_path / "repository").versions("tiny_onnx_fp32") == [1]
    _check_loadable(tmp_path / "repository")


def test_two_builds_at_once_both_succeed_and_publish_one_version(tmp_path: Path) -> None:
    """They race for the export's place in the step cache, too: a checkpoint in PyTorch has steps ahead of it."""
    spec = torch_spec(tmp_path / "model", variants="onnx_fp32")
    builds = [subprocess.Popen(_command(spec, tmp_path), stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in builds:
        _, words = process.communicate(timeout=120)
        assert process.returncode == 0, words
    assert Repository.at(tmp_path / "repository").versions("tiny_onnx_fp32") == [1]
    _check_loadable(tmp_path / "repository")
    results = list((tmp_path / "artifacts").rglob("model.onnx"))
    assert len(results) == len(RECIPES["onnx_fp32"].steps) == 2, results  # one of each step, though both builds ran it
    assert all((result.parent / "sha256").is_file() for result in results)


def test_builds_of_different_models_at_once(tmp_path: Path) -> None:
    specs = [onnx_spec(tmp_path / name, name=name, seed=seed) for seed, name in enumerate(("one", "two"))]
    builds = [subprocess.Popen(_command(spec, tmp_path), stderr=subprocess.PIPE, text=True) for spec in specs]
    for process in builds:
        _, words = process.communicate(timeout=120)
        assert process.returncode == 0, words
    assert Repository.at(tmp_path / "repository").models() == ["one_onnx_fp32", "two_onnx_fp32"]
    _check_loadable(tmp_path / "repository")


def _alive(group: int) -> list[int]:
    """The processes of a process group that still run; what has ended and waits to be reaped does not count."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            state, _, of_group = stat.read_text().rpartition(")")[2].split()[:3]
            if int(of_group) == group and state not in "ZX":
                found.append(int(stat.parent.name))
    return found


def _check_ends(group: int, within_s: float = 10) -> None:
    """All processes of the group are gone before the deadline. They are killed if not, and the test fails."""
    deadline = time.monotonic() + within_s
    while left := _alive(group):
        if time.monotonic() > deadline:
            os.killpg(group, signal.SIGKILL)
            pytest.fail(f"processes {left} of a killed build live on after {within_s} s")
        time.sleep(0.02)


def test_a_build_killed_at_20_random_moments_leaves_a_loadable_repository(tmp_path: Path) -> None:
    """Each round has new weights, would publish a new version, and dies between start and end."""
    root, chance = tmp_path / "repository", random.Random(20)
    spec = onnx_spec(tmp_path / "model", seed=100)
    started = time.monotonic()
    subprocess.run(_command(spec, tmp_path), check=True, capture_output=True)
    whole_s = time.monotonic() - started
    killed = orphaned = 0
    for round_number in range(20):
        onnx_spec(tmp_path / "model", seed=round_number)
        process = subprocess.Popen(
            _command(spec, tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            process.wait(timeout=chance.uniform(0.2, 1.0) * whole_s)
        except subprocess.TimeoutExpired:
            had_child = len(_alive(process.pid)) > 1
            process.kill()  # the builder alone; its child must not live on and write
            orphaned += had_child
        killed += process.wait() == -signal.SIGKILL
        _check_ends(process.pid)
        _check_loadable(root)
    assert killed >= 5, f"only {killed} of 20 builds were killed before they ended"
    assert orphaned, "no build had a child when it was killed; that none lived on would mean nothing"
    _check_serves(root, tmp_path / "run")
    subprocess.run(_command(spec, tmp_path), check=True, capture_output=True)
    golden = np.load(root / "tiny_onnx_fp32" / str(max(Repository.at(root).versions("tiny_onnx_fp32"))) / "golden.npz")
    assert len(golden["input/x"]) == 8
    assert not list(root.glob("*/.staging-*"))


def test_a_publisher_killed_in_the_middle_of_publishing(tmp_path: Path) -> None:
    """Publishing takes milliseconds of a build's seconds; here it is done over and over, and killed in its midst."""
    spec = onnx_spec(tmp_path / "model")
    build([spec], BuildOptions(tmp_path / "repository", tmp_path / "artifacts"), Listener())
    version = tmp_path / "source"
    (tmp_path / "repository" / "tiny_onnx_fp32" / "1").rename(version)
    (tmp_path / "repository" / "tiny_onnx_fp32" / "config.pbtxt").rename(version / "config.pbtxt")
    (tmp_path / "repository" / "tiny_onnx_fp32").rmdir()
    publisher = (
        "import sys; import builder.repository as r; from pathlib import Path\n"
        "root, source = map(Path, sys.argv[1:]); repository = r.Repository.at(root)\n"
        "passport = r.Passport.model_validate_json((source / 'passport.json').read_bytes())\n"
        "config, golden = (source / 'config.pbtxt').read_text(), (source / 'golden.npz').read_bytes()\n"
        "for number in range(10**6):\n"
        "    key = passport.model_copy(update={'build_key': f'{number:064x}'})\n"
        "    with repository.locked():\n"
        "        repository.publish(r.Package('tiny_onnx_fp32', key, {'model.onnx': source / 'model.onnx'}, golden, "
        "config, 2))\n"
        "        print('.', flush=True)\n"
        "        if number % 5 == 4: repository.retire('tiny_onnx_fp32')\n"
    )
    root, chance = tmp_path / "repository", random.Random(5)
    command = [sys.executable, "-c", publisher, str(root), str(version)]
    for _ in range(20):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == ".\n"
        time.sleep(chance.uniform(0, 0.1))  # the moment of death is the experiment
        process.send_signal(signal.SIGKILL)
        process.communicate()
        _check_loadable(root)
