"""The user's own Python functions, named as `file.py:function`. They are run: like a spec, they are the user's own."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.errors import InputError, one_line


def load_function(name: str) -> Callable[..., Any]:
    """The function of that name. Raises InputError if there is no such file or function, or the file fails."""
    file, _, function = name.rpartition(":")
    if not Path(file).is_file():
        raise InputError(f"{file} does not exist; correct the name {name!r}")
    found = importlib.util.spec_from_file_location(f"trident_user_{Path(file).stem}", file)
    assert found is not None  # the name ends in .py
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    try:
        found.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the user's code may raise anything, and a script may call exit()
        raise InputError(f"{file} cannot be imported: {type(error).__name__}: {one_line(error)}") from error
    value = getattr(module, function, None)
    if not callable(value):
        raise InputError(f"{file} has no function {function!r}")
    return value  # type: ignore[no-any-return]
