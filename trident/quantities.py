"""Quantities as one types them: `0.5MB`, `1ms`, `30min`, `1pt`."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from typing import Final

SIZES: Final = {"B": 1.0, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}
TIMES: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}  # in seconds


def parse_bytes(text: str) -> int:
    """A size above 0, in bytes. Raises ArgumentTypeError."""
    return int(_parse(text, SIZES, "size", "0.5MB, 300kB or 4096B"))


def parse_seconds(text: str) -> float:
    """A time above 0, in seconds. Raises ArgumentTypeError."""
    return _parse(text, TIMES, "time", "1ms, 500us, 90s, 30min or 2h")


def parse_loss(text: str) -> str:
    """A loss as specs write it: in points, or in percent of what the original scores. Raises ArgumentTypeError."""
    if not re.fullmatch(r"\d+(\.\d+)?(pt|%)", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no loss; write it such as 1pt (a hundredth) or 2%")
    return text


def parse_port(text: str) -> int:
    """A port, 0 for any that is free. Raises ArgumentTypeError."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; give 0 to 65535")
    return int(text)


def parse_count(text: str) -> int:
    """A whole number above 0. Raises ArgumentTypeError."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def parse_price(text: str) -> float:
    """An amount of money above 0. Raises ArgumentTypeError."""
    try:
        price = float(text)
    except ValueError:
        price = -1.0
    if not 0 < price < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is no price; give an amount above 0, such as 0.17")
    return price


def _parse(text: str, units: Mapping[str, float], what: str, examples: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+) ?([A-Za-z]+)", text)
    if found is None or found[2] not in units:
        known = f"units are {', '.join(units)}"
        raise argparse.ArgumentTypeError(f"{text!r} is no {what}; write it such as {examples} ({known})")
    value = float(found[1]) * units[found[2]]
    if value < (1 if what == "size" else 1e-9):
        raise argparse.ArgumentTypeError(f"{text!r} is no {what} above 0")
    return value
