"""Passports on disk, and whether a version's files are still those that were verified."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from core.files import sha256_file
from core.results import Passport


def read_passport(version_folder: Path) -> Passport | None:
    """A version's passport; None if it has none that can be read."""
    try:
        return Passport.model_validate_json((version_folder / "passport.json").read_bytes())
    except (OSError, ValidationError):
        return None


def damage(version_folder: Path) -> str | None:
    """Which file of a version is not the one that its passport names, in a few words; empty if all are, None if there
    is no passport to say so."""
    if not (version_folder / "passport.json").exists():
        return None
    passport = read_passport(version_folder)
    if passport is None:
        return "its passport.json cannot be read"
    for name, sha256 in {**passport.files, "golden.npz": passport.golden_sha256}.items():
        try:
            same = sha256_file(version_folder / name) == sha256
        except OSError as error:
            return f"its {name} cannot be read ({error.strerror})"
        if not same:
            return f"its {name} is not the file that was verified"
    return ""
