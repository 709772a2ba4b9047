"""What the documents say that can be checked: links, commands, the variants, the reference of the spec."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from builder.recipes import RECIPES, TECHNIQUES
from builder.spec_reference import reference
from trident.main import COMMANDS

ROOT = Path(__file__).parents[2]
# What git knows or would add: no environment, nothing generated.
LISTED = ("git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md")
PAGES = sorted(
    {ROOT / name for name in subprocess.run(LISTED, cwd=ROOT, capture_output=True, text=True).stdout.splitlines()}
) or sorted({*ROOT.glob("*.md"), *ROOT.glob("[!.]*/*.md"), *ROOT.glob("docs/**/*.md")})
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """A page's headings as GitHub names them: small letters, no punctuation, hyphens for spaces."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    """The relative links of a page that lead nowhere, to a file or to a heading."""
    broken = []
    for link in LINK.findall(FENCE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    return broken


def unknown_commands(text: str, targets: set[str]) -> list[str]:
    """What a text calls as `make x` or `trident x`, in code, and does not exist."""
    code = [*re.findall(r"`([^`\n]+)`", FENCE.sub("", text))]
    code += [line for block in FENCE.findall(text) for line in block.splitlines()]
    call = re.compile(r"(?:^|\s)(make|trident) ([a-z-]*[a-z][0-9]*)(?![\w.<-])")
    called = [match for line in code for match in call.findall(line)]
    return [f"{tool} {name}" for tool, name in called if name not in (targets if tool == "make" else set(COMMANDS))]


@pytest.fixture(scope="module")
def targets() -> set[str]:
    """The Makefile's targets."""
    return set(re.findall(r"^([a-z0-9-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_the_reference_is_that_of_the_code() -> None:
    assert (ROOT / "docs/spec.md").read_text() == reference(), "run `python -m builder.spec_reference`"


def test_every_variant_is_described() -> None:
    text = (ROOT / "docs/variants.md").read_text()
    assert re.findall(r"^### `(\w+)`$", text, re.MULTILINE) == list(RECIPES)
    assert re.findall(r"^\| \[`(\w+)`\]", text, re.MULTILINE) == list(RECIPES)


def test_every_technique_is_described() -> None:
    text = (ROOT / "docs/compress.md").read_text()
    assert set(re.findall(r"^### `(\w+)`$", text, re.MULTILINE)) == set(TECHNIQUES)
    assert set(re.findall(r"^\| \[`(\w+)`\]", text, re.MULTILINE)) == set(TECHNIQUES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert broken_links(page) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_exist(page: Path, targets: set[str]) -> None:
    assert unknown_commands(page.read_text(), targets) == []


def test_what_is_wrong_is_found(tmp_path: Path, targets: set[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One two\n[a](#one-two) [b](none.md) [c](page.md#three) [d](https://example.org)\n")
    assert broken_links(page) == ["none.md", "page.md#three"]
    text = "`make demo`, `make tea`, make sure, `trident fly`\n```\ntrident build x\nmake cake\n```\n"
    assert unknown_commands(text, targets) == ["make tea", "trident fly", "make cake"]
