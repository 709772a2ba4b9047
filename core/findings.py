"""What `trident lint` and `trident check` find in a model repository."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from core.results import ResultModel


class LintFinding(ResultModel):
    """One fault in a model repository. `line` and `column` count from 1; 0 means the file or folder as a whole."""

    code: str
    severity: Literal["error", "warning", "note"]
    model: str
    file: str
    line: int
    column: int
    message: str
    why: str
    fix: str
    page: Annotated[str, Field(description="from the root of the project's sources")]
    fixable: Annotated[bool, Field(description="`--fix` mends it")]


class LintReport(ResultModel):
    """What `trident lint --json` prints."""

    path: str
    release: Annotated[str, Field(description="of Triton, such as 26.06, or `wheel` for the embedded one")]
    server_version: str
    models: int
    counts: Annotated[dict[str, int], Field(description="severity -> findings")]
    findings: tuple[LintFinding, ...]


class CheckRow(ResultModel):
    """Whether one release of Triton loads one artifact."""

    model: str
    file: str
    loads: Literal["yes", "no", "unknown"]
    reason: str
    lowered: Annotated[str, Field(description="what came of lowering it for that release; empty if it need not be")] = (
        ""
    )
    lowered_to: Annotated[str | None, Field(description="the folder of the model's lowered copy")] = None


class CheckReport(ResultModel):
    """What `trident check --json` prints."""

    path: str
    release: str
    table_of: Annotated[str, Field(description="year and month that the table of releases is as of")]
    rows: tuple[CheckRow, ...]
