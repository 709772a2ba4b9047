"""Writes a page for each rule, and their table: `python -m lint.pages [FOLDER]`, default `docs/lint`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from lint.finding import Rule
from lint.run import RULES

GROUPS: Final = {
    "0": "Reading config.pbtxt", "1": "Folders, names and files", "2": "Batching", "3": "Inputs and outputs",
    "4": "Instances, queues and warm-up", "5": "Ensembles", "6": "What the server's runtimes can read",
}  # fmt: skip
HEAD: Final = """# Lint

`trident lint PATH` finds what is wrong in a Triton model repository, ours or written by hand, and starts no server:

```
trident lint model_repository                    # for what Trident built it for, else the newest release known
trident lint model_repository --triton 26.01     # for another one
trident lint model_repository --triton wheel     # for what `trident serve` runs
trident lint model_repository/bert --fix         # mends what can be mended, and leaves comments alone
trident lint model_repository --sarif lint.sarif # for code hosts; --json for programs
```

It needs the extra `client` (Triton's own protobuf comes with it), and neither torch nor a runtime: model files are read
without their weights, and nothing in them is run.

**Exit codes**: 0 nothing but notes; 9 an error or a warning (`--fail-on note` or `--fail-on error` move the line); 5
the path cannot be read, or a file cannot be mended; 2 the command line is off.

**Severities**: *error*, the server refuses it, or it answers wrongly or never; *warning*, it works, and costs speed,
memory or safety; *note*, worth a thought.

**Before each commit**, with [pre-commit](https://pre-commit.com): name this repository in `.pre-commit-config.yaml` and
its hook `trident-lint`; it looks at each `config.pbtxt` that changed.
"""


def pages() -> dict[str, str]:
    """File name -> text."""
    return {"README.md": _table(), **{f"{code}.md": _page(rule) for code, rule in RULES.items()}}


def _table() -> str:
    lines = [HEAD]
    for group, title in GROUPS.items():
        lines += [f"## {title}", "", "| code | severity | what | `--fix` |", "| --- | --- | --- | --- |"]
        lines += [
            f"| [{code}]({code}.md) | {rule.severity} | {rule.title} | {'yes' if rule.fixable else ''} |"
            for code, rule in sorted(RULES.items())
            if code[3] == group
        ]
        lines.append("")
    return "\n".join(lines)


def _page(rule: Rule) -> str:
    parts = [f"# {rule.code}: {rule.title}", f"Severity: {rule.severity}.", f"**Why it hurts.** {rule.why}"]
    if rule.server_says:
        parts.append(f"**What Triton 2.51 says of it**: `{rule.server_says}`")
    parts.append(f"**How to fix it.** {rule.fix}")
    if rule.fixable:
        parts.append("`trident lint --fix` does it where the file says enough.")
    return "\n\n".join([*parts, "[All rules](README.md)"]) + "\n"


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/lint")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text)
