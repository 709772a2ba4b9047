"""Writes the JSON schemas of the result files: `python -m core.schemas [FOLDER]`, default `docs/schemas`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from core.changes import RunComparison
from core.comparison import Benchmark, Summary
from core.findings import CheckReport, LintReport
from core.load_results import LoadReport
from core.optimize_results import OptimizeReport
from core.results import BuildReport, ModelBuild, Passport, ResultModel
from core.samples import SamplePackInfo

RESULT_FILES: dict[str, type[ResultModel]] = {
    "passport": Passport,
    "samples": SamplePackInfo,
    "build": ModelBuild,
    "build-report": BuildReport,
    "optimize": OptimizeReport,
    "load": LoadReport,
    "summary": Summary,
    "comparison": RunComparison,
    "benchmark": Benchmark,
    "lint": LintReport,
    "check": CheckReport,
}
"""Result files by the name of their schema."""


def schemas() -> dict[str, str]:
    """File name -> schema text, for every result file."""
    return {
        f"{name}.schema.json": json.dumps(model.model_json_schema(mode="serialization"), indent=2) + "\n"
        for name, model in RESULT_FILES.items()
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/schemas")
    folder.mkdir(parents=True, exist_ok=True)
    for file_name, text in schemas().items():
        (folder / file_name).write_text(text)
