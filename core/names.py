"""Names that may go anywhere: into paths, URLs and command lines."""

from __future__ import annotations

import re
from typing import Final

SAFE_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
"""A model's name: the server passes it to its stubs through a shell, without quotes, and it is a part of URLs."""
