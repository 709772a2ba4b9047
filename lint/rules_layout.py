"""Folders, names and files: what the server will take for a model, a version, or a way out of the repository."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from core.names import SAFE_NAME
from lint.check import Check, Context, Hit
from lint.finding import Rule
from lint.releases import BACKEND_UNTIL
from lint.repository import BACKENDS, ENSEMBLE, Model, inside, links_out

RULES: Final = (
    Rule(
        "TRN101", "error", "A folder that the server takes for a model",
        "In the repository's root every folder counts as a model, also `.git`, a staging folder or notes. One that "
        "cannot be loaded ends the server at its start, unless `--exit-on-error=false` is given.",
        "Move the folder out of the repository.",
        "failed to open text file for read",
    ),
    Rule(
        "TRN102", "error", "A model without a version",
        "A model's files lie in folders whose names are numbers. Without one there is nothing to load.",
        "Make a folder `1` in the model's folder and move the model's file into it. An ensemble needs an empty one.",
        "at least one version must be available under the version policy",
    ),
    Rule(
        "TRN103", "error", "A folder that the server takes for a version",
        "The server reads the number at the start of a folder's name and nothing behind it. `2.tmp` and `2_backup` are "
        "version 2 to it, whose files it then looks for in `2`: the whole model fails to load.",
        "Name it so that it does not begin with a digit, such as `.staging-2`, or move it out of the model's folder.",
        "version 2 is at UNAVAILABLE state",
    ),
    Rule(
        "TRN104", "warning", "A folder that is passed over as a version",
        "The server serves only folders whose names are numbers without leading zeros. What lies in this one is never "
        "served, and nobody is told.",
        "Rename it to a number, or move it out of the repository.",
    ),
    Rule(
        "TRN105", "error", "The model's file is missing",
        "Each version that is loaded needs the file that the backend looks for: `model.onnx`, `model.xml`, `model.pt`, "
        "`model.plan` or `model.py`, or what `default_model_filename` says.",
        "Put the file there, or name it in `default_model_filename`.",
        "is missing",
    ),
    Rule(
        "TRN106", "error", "The name differs from the folder's",
        "A model is known by its folder. A `name` that says otherwise is refused; most often it comes from a copied "
        "folder.",
        "Take `name` out, or make it equal to the folder's name.",
        "directory name must equal model name", fixable=True,
    ),
    Rule(
        "TRN107", "error", "The label file is missing",
        "The server reads label files while it loads the model, and fails if one is not there. It looks in the "
        "model's folder, not in the version's.",
        "Put the file into the model's folder, or take `label_filename` out.",
        "failed to open text file for read",
    ),
    Rule(
        "TRN108", "warning", "The label file does not fit the output",
        "With fewer lines than the output has values, some classes come back without a name; with more, it is most "
        "likely another model's. A very large file is kept in memory.",
        "One label a line, as many lines as the output has values.",
    ),
    Rule(
        "TRN109", "error", "A name that can leave its folder or upset a shell",
        "Names from a configuration become parts of paths: `../` reads files outside the model. The names of models "
        "also become parts of URLs and, with Python-based backends, of a shell's command line (CVE-2025-23316).",
        "Use letters, digits and `_ . + -` only, and no path.",
    ),
    Rule(
        "TRN110", "error", "A folder or file that cannot be read",
        "The server runs as some user, too; what it cannot read it cannot serve.",
        "See to the rights, and to links that lead nowhere.",
    ),
    Rule(
        "TRN111", "warning", "A link out of the repository",
        "The target is not copied, mounted or backed up with the repository, so the model is gone elsewhere; and "
        "whoever may change the target changes what is served.",
        "Put the file itself into the repository.",
    ),
    Rule(
        "TRN112", "error", "The version policy names a version that does not exist",
        "The server loads those that are there, and none if none is.",
        "Name versions that have a folder, or use `version_policy { latest { num_versions: 1 } }`.",
        "at least one version must be available under the version policy",
    ),
    Rule(
        "TRN113", "warning", "No config.pbtxt: all is left to the server",
        "The server guesses names, types and shapes from the file, and settles for a batch limit of 4 or less, two "
        "instances of all threads each on a CPU, and no warm-up. With `--disable-auto-complete-config` it does not "
        "load the model.",
        "Write a `config.pbtxt`: ask a running server for `/v2/models/<name>/config`, and set `max_batch_size`.",
        "failed to open text file for read",
    ),
    Rule(
        "TRN114", "error", "No backend, or one that this server does not have",
        "The backend is found by `backend`, `platform`, or the name of the model's file. Where none of them leads to "
        "one, or `backend` and `platform` contradict each other, the model is refused.",
        "Write `backend: \"onnxruntime\"`, `openvino`, `pytorch`, `tensorrt` or `python`, and no `platform`.",
        "unexpected platform type",
    ),
    Rule(
        "TRN115", "error", "A model's file that is not what its name says",
        "A truncated upload, a checkpoint of weights where a program should be, an engine for another runtime, a Git "
        "LFS pointer: the backend fails on it when it loads.",
        "Export or copy the file again, and compare its size and hash with the original's.",
        "cannot be loaded",
    ),
    Rule(
        "TRN116", "error", "A file that the model needs is not there",
        "Weights can lie in files beside the model. Without them it cannot be loaded; outside the version's folder "
        "they are not copied with it, and a hostile model can name any file of the machine.",
        "Put the file into the version's folder, or export the model as one file.",
        "cannot be loaded",
    ),
)  # fmt: skip
LABELS_READ_BYTES: Final = 16 << 20


def folders(model: Model, context: Context) -> Iterator[Hit]:
    """Whether this is a model at all, and has versions."""
    if not SAFE_NAME.fullmatch(model.name) and (model.has_config or model.versions):
        yield Hit("TRN109", f"{model.name!r} is no safe name for a model", file=model.folder)
    if not model.has_config and not model.backend:
        yield Hit(
            "TRN101", "no model, for it has neither config.pbtxt nor a version with a file known", file=model.folder
        )
        return
    if not model.has_config:
        yield Hit("TRN113", f"no config.pbtxt; the server makes one up from {model.file_name}", file=model.folder)
    if not model.versions:
        yield Hit("TRN102", "no folder whose name is a version's number", file=model.folder)
    for version in model.versions:
        if not (model.folder / str(version.number)).is_dir():
            message = f"the folder {version.folder.name!r} is taken for version {version.number}"
            yield Hit("TRN103", message, file=version.folder)
    for folder in model.ignored:
        if not folder.name.startswith(".") and model.has_config:
            yield Hit("TRN104", f"the folder {folder.name!r} is not served", file=folder)
    for path, target in links_out(model, context.repository):
        yield Hit("TRN111", f"a link to {target}", file=path)


def files(model: Model, _context: Context) -> Iterator[Hit]:
    """The model's file in each version, and what it needs."""
    if not model.file_name or model.backend in ("", ENSEMBLE):
        return
    for version in model.versions:
        if not inside(version.folder / model.file_name, version.folder):
            break  # told by `names`
        path = version.folder / model.file_name
        if not version.folder.name.isdecimal() and not path.exists():
            continue  # no version; told by `folders`
        if not os.path.lexists(path):
            found = ", ".join(sorted(version.files)) or "nothing"
            yield Hit(
                "TRN105", f"version {version.number} has no {model.file_name}; there is {found}", file=version.folder
            )
        elif not path.exists():
            yield Hit("TRN110", f"{model.file_name} is a link that leads nowhere", file=path)
        elif not path.is_file() and not path.is_dir():  # a folder can be a model, too
            yield Hit("TRN115", f"{model.file_name} is no regular file", file=path)
    file = model.file
    if file is None:
        return
    if file.trouble:
        yield Hit("TRN110" if file.form == "other" else "TRN115", f"{file.path.name}: {file.trouble}", file=file.path)
    for name in file.needs:
        path = file.path.parent / name
        if not inside(path, file.path.parent):
            yield Hit("TRN116", f"{file.path.name} reads {name}, outside its folder", file=file.path)
        elif not path.is_file():
            yield Hit("TRN116", f"{file.path.name} needs {name}, which is not there", file=file.path)


def names(model: Model, _context: Context) -> Iterator[Hit]:
    """Names within the configuration."""
    config = model.config
    if config is None:
        return
    message = config.message
    if message.name and message.name != model.name:
        edits = config.set_value(json.dumps(model.name), "name")
        yield Hit("TRN106", f"name is {message.name!r}, the folder {model.name!r}", ("name",), edits)
    paths: list[tuple[str, tuple[str | int, ...]]] = [
        (message.default_model_filename, ("default_model_filename",)),
        *((output.label_filename, ("output", at, "label_filename")) for at, output in enumerate(message.output)),
        *((value, config.entry("cc_model_filenames", key)) for key, value in message.cc_model_filenames.items()),
        *(
            (tensor.input_data_file, ("model_warmup", at))
            for at, warmup in enumerate(message.model_warmup)
            for tensor in warmup.inputs.values()
        ),
    ]
    for text, at in paths:
        if text and (text.startswith("/") or ".." in Path(text).parts or "\\" in text):
            yield Hit("TRN109", f"{text!r} can leave the model's folder", at)
    for index, step in enumerate(message.ensemble_scheduling.step):
        if step.model_name and not SAFE_NAME.fullmatch(step.model_name):
            yield Hit(
                "TRN109", f"{step.model_name!r} is no safe name", ("ensemble_scheduling", "step", index, "model_name")
            )


def labels(model: Model, _context: Context) -> Iterator[Hit]:
    """Label files: there, and as many lines as the output has values."""
    if model.config is None:
        return
    for at, output in enumerate(model.config.message.output):
        path = model.folder / output.label_filename
        if not output.label_filename or not inside(path, model.folder):
            continue
        where = ("output", at, "label_filename")
        if not path.is_file():
            yield Hit("TRN107", f"{output.label_filename} is not in the model's folder", where)
            continue
        size = path.stat().st_size
        if size > LABELS_READ_BYTES:
            yield Hit("TRN108", f"{output.label_filename} has {size >> 20} MiB, too many to be names of classes", where)
            continue
        try:
            lines = len(path.read_bytes().splitlines())
        except OSError as error:
            yield Hit("TRN110", f"{output.label_filename} cannot be read: {error.strerror}", where)
            continue
        values = output.dims[-1] if output.dims else -1
        if values > 1 and lines != values:
            yield Hit("TRN108", f"{output.label_filename} has {lines} lines, {output.name} {values} values", where)


def versions(model: Model, _context: Context) -> Iterator[Hit]:
    """The version policy."""
    if model.config is None or not model.versions:
        return
    there = {version.number for version in model.versions}
    missing = sorted(set(model.config.message.version_policy.specific.versions) - there)
    if missing:
        numbers = ", ".join(map(str, missing))
        at = ("version_policy", "specific", "versions")
        yield Hit("TRN112", f"version {numbers} is asked for; there is {', '.join(map(str, sorted(there)))}", at)


def backends(model: Model, context: Context) -> Iterator[Hit]:
    """Which backend runs it."""
    config = model.config
    if config is None or not model.has_config or model.backend == ENSEMBLE:
        return
    message = config.message
    if not model.backend:
        yield Hit("TRN114", "neither backend nor platform is given, and no file tells", ("backend",))
        return
    until = BACKEND_UNTIL.get(model.backend)
    if until and context.release.server > until:
        yield Hit("TRN114", f"{context.release.said} has no backend {model.backend} any more", ("backend",))
    usual = {"onnxruntime": "onnxruntime_onnx", "tensorrt": "tensorrt_plan"}.get(message.backend)
    if message.platform and usual and message.platform != usual:
        yield Hit(
            "TRN114", f"platform {message.platform} and backend {message.backend} contradict each other", ("platform",)
        )
    elif message.platform and not message.backend and model.backend not in (*BACKENDS, *BACKEND_UNTIL):
        yield Hit("TRN114", f"no platform is called {message.platform!r}", ("platform",))


CHECKS: Final[tuple[Check, ...]] = (folders, files, names, labels, versions, backends)
