"""`make bench-lint`: what `trident lint` finds, its false alarms, and how quick it is; writes `benchmarks/lint.json`.

- Seeded faults: those of tests/support, each in a repository that is good but for it; found if the rule's code is
  reported.
- False alarms: errors and warnings over good repositories: small ones of each backend, the example as `trident build`
  makes it for both targets, and those of `lint_repositories`, after Triton's documentation. Notes are advice and no
  alarm; they are counted beside.
- Speed: the whole command, its start included, over copies of the example's nine variants.
- The planner: see `planner`.

`--part` measures one part and keeps the file's other claims, so that a run can go on where another was stopped.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.claims import claim, counted
from benchmarks.demo import HERE, SPEC, TRIDENT, commit, run
from benchmarks.lint_repositories import DOCUMENTED
from benchmarks.planner import EXAMPLES, planner_claims
from core.comparison import Benchmark, Claim
from core.files import write_atomically
from core.machine import describe, now, versions
from lint.releases import NEWEST, WHEEL, find_release
from lint.run import lint
from tests.support.lint_faults import FAULTS
from tests.support.lint_repositories import GOOD

CORES = 2  # what the repositories were made for
COPIES, RUNS = 20, 7
FILE = HERE / "lint.json"


def faults_found(folder: Path) -> list[bool]:
    """Whether each seeded fault is found."""
    found = []
    for at, fault in enumerate(FAULTS):
        repository = folder / f"fault{at}"
        fault.make(repository)
        report = lint(repository, find_release(fault.release), CORES)
        found.append(fault.code in {finding.code for finding in report.findings})
    return found


def good_repositories(folder: Path) -> list[tuple[Path, str]]:
    """The good ones, each with the release that it is for."""
    made: list[tuple[Path, str]] = []
    for at, make in enumerate((*GOOD.values(), *DOCUMENTED.values())):
        make(folder / f"good{at}")
        made.append((folder / f"good{at}", NEWEST.name))
    for target, release in (("wheel", WHEEL), ("nvidia", NEWEST.name)):
        source = folder / f"example-{target}"
        shutil.copytree(SPEC.parent, source)
        (source / SPEC.name).write_text(f"{SPEC.read_text()}\ntarget: {target}\n")
        repository = folder / f"built-{target}"
        where = ["--repository", str(repository), "--artifacts", str(folder / f"artifacts-{target}")]
        run([*TRIDENT, "build", str(source / SPEC.name), *where])
        made.append((repository, release))
    return made


def alarms(repositories: list[tuple[Path, str]]) -> tuple[int, int]:
    """Errors and warnings, and notes."""
    severities = [
        finding.severity
        for path, release in repositories
        for finding in lint(path, find_release(release), CORES).findings
    ]
    notes = severities.count("note")
    return len(severities) - notes, notes


def speeds(built: Path, folder: Path) -> list[float]:
    """Models a second, of the command."""
    many = folder / "many"
    for copy in range(COPIES):
        for model in built.iterdir():
            if (model / "config.pbtxt").is_file():
                name = f"{model.name}_{copy}"
                shutil.copytree(model, many / name)
                config = many / name / "config.pbtxt"
                config.write_text(config.read_text().replace(f'name: "{model.name}"', f'name: "{name}"', 1))
    models = len(list(many.iterdir()))
    measured = []
    for _ in range(RUNS):
        started = time.monotonic()
        run([*TRIDENT, "lint", str(many), "--triton", WHEEL, "--cores", str(CORES)])
        measured.append(models / (time.monotonic() - started))
    return measured


def lint_claims(folder: Path) -> tuple[Claim, ...]:
    """What lint finds, where it should not, and how quickly."""
    found = faults_found(folder)
    good = good_repositories(folder)
    wrong, notes = alarms(good)
    return (
        counted("seeded_faults_found_pct", 100 * sum(found) / len(found), f"% of {len(found)} faults", 100, "higher"),
        counted("false_alarms", wrong, f"errors and warnings over {len(good)} good repositories", 0, "lower"),
        counted("good_repositories", len(good), "repositories that the false alarms were counted over", 20, "higher"),
        Claim(
            id="notes_on_good",
            value=notes,
            ci95=(notes, notes),
            unit="notes over the same: advice, no alarm",
            target=None,
            better="lower",
            holds=True,
        ),
        claim("models_per_s", speeds(folder / f"built-{WHEEL}", folder), "models/s, the command with its start", 50),
    )


def keep(benchmark: Benchmark | None, claims: tuple[Claim, ...]) -> Benchmark:
    """The file with these claims in the place of those of the same name."""
    new = {claim.id for claim in claims}
    old = tuple(claim for claim in benchmark.claims if claim.id not in new) if benchmark else ()
    return Benchmark(
        created_at=now(),
        command="make bench-lint",
        machine=describe(),
        versions=versions(),
        commit=commit(),
        rows=(),
        windows=(),
        claims=(*old, *claims),
    )


def main() -> None:
    """Measures every part, or one, and writes the file after each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--part", choices=PARTS, help="measure this only, and keep what else the file says")
    options = parser.parse_args()
    for part in [options.part] if options.part else PARTS:
        before = Benchmark.model_validate_json(FILE.read_bytes()) if FILE.is_file() else None
        with tempfile.TemporaryDirectory() as temporary:
            claims = PARTS[part](Path(temporary))
        write_atomically(FILE, keep(before, claims).to_json())
        for row in claims:
            print(f"{row.id}: {row.value:.4g} {row.unit} ({row.ci95[0]:.4g} to {row.ci95[1]:.4g}), holds: {row.holds}")


PARTS: Final[dict[str, Callable[[Path], tuple[Claim, ...]]]] = {
    "lint": lint_claims,
    **{example: partial(planner_claims, example) for example in EXAMPLES},
}

if __name__ == "__main__":
    main()
