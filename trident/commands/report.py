"""`trident report`: writes report.html again from the result files, without building or loading anything."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from core.comparison import Summary
from core.errors import InputError, RepositoryError
from core.load_results import LoadReport
from core.results import ModelBuild, ResultModel
from trident.console import result_console
from trident.report import write

Model = TypeVar("Model", bound=ResultModel)


def run(options: argparse.Namespace) -> int:
    """Writes the report and says where."""
    path, name = _build_file(options.artifacts, options.model)
    build = _read(ModelBuild, path)
    folder = options.source or options.artifacts / name / "loadtest"
    load, summary = _read(LoadReport, folder / "load.json"), _read(Summary, folder / "summary.json")
    if summary.model != build.model:
        raise InputError(f"{folder} holds a load test of {summary.model}, not of {build.model}; name it with --from")
    if _differs(build, summary):
        raise InputError(
            f"{path} was built after the load test in {folder}, and differs from what was loaded; run "
            f"`trident loadtest {build.model}` again"
        )
    out = options.out or folder / "report.html"
    try:
        write(out, build, load, summary)
    except OSError as error:
        raise RepositoryError(f"{out} cannot be written ({error.strerror}); name another file with --out") from error
    if options.json:
        print(json.dumps({"report": str(out)}))
    else:
        result_console().print(f"Written: {out}", soft_wrap=True, markup=False)
    return 0


def _differs(build: ModelBuild, summary: Summary) -> bool:
    """Whether the build is another than the one that was loaded. Times may have been measured again."""
    built = [(row.variant, row.status, row.accuracy, row.size_bytes) for row in build.rows]
    loaded = [(row.variant, row.status, row.accuracy, row.size_bytes) for row in summary.rows]
    return build.source_sha256 != summary.source_sha256 or built != loaded


def _build_file(artifacts: Path, name: str | None) -> tuple[Path, str]:
    paths = {path.parent.name: path for path in sorted(artifacts.glob("*/build.json"))}
    if not paths:
        raise InputError(f"{artifacts} holds no built model; build first with `make build-repo`")
    if name is None and len(paths) > 1:
        raise InputError(f"name one of the models that were built: {', '.join(paths)}")
    chosen = name or next(iter(paths))
    if chosen not in paths:
        raise InputError(f"{chosen!r} was not built; there are {', '.join(paths)}")
    return paths[chosen], chosen


def _read(kind: type[Model], path: Path) -> Model:
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(
            f"{path} does not exist; run `trident loadtest` first, or name its folder by --from"
        ) from error
    except (OSError, ValidationError) as error:
        raise InputError(f"{path} cannot be read; run `trident build` and `trident loadtest` again") from error
