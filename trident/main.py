"""The command line's front: parses, runs one sub-command, turns errors into a sentence and an exit code.

Sub-commands are imported only when they run, so that `trident --help` answers at once.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from pathlib import Path
from typing import Final, NoReturn

from core.errors import TridentError, UsageError
from trident import loadtest_options
from trident.quantities import parse_bytes, parse_count, parse_loss, parse_port, parse_seconds

# Name -> one line of help. The command is `run(options)` in trident/commands/<name>.py, its options stand in _OPTIONS.
COMMANDS: Final = {
    "build": "make, verify and publish the variants of one or more specs",
    "optimize": "search compressions under targets for size, latency and accuracy, and publish the best",
    "serve": "serve a model repository on NVIDIA's Triton, on this machine, until Ctrl-C",
    "infer": "send arrays, images, JSON or texts to a served model",
    "status": "show a server, what it has loaded, and how that is doing",
    "wait": "wait until a server, or some of its models, take requests",
    "loadtest": "load every variant of a model and write the comparison",
    "doctor": "show what INT8 costs in each layer of a built model, and which stay in float",
    "compare": "compare two load tests under the same load, and fail if one got worse",
    "history": "show and plot what the load tests of a model came to",
    "report": "write report.html again from the last build and load test",
    "list": "show what a model repository holds",
    "publish": "put a verified version from one repository, here or elsewhere, into another and into service",
    "rollback": "put an older version of a model back into service",
    "versions": "show the versions of each model, and which one serves",
    "verify": "check that every published file is still the one that was verified",
    "lint": "find what is wrong in a model repository, ours or written by hand, without a server",
    "check": "say whether a release of Triton can load what a model repository holds",
    "explain": "say one model's config.pbtxt in plain words, with what it does to latency and throughput",
    "tokenize": "turn texts into an .npz that a Hugging Face encoder takes, for a spec's data or for infer",
}

# A package that stands for each command's extra, for one clear sentence instead of an ImportError.
EXTRAS: Final = {
    "build": ("nncf", "build"),
    "optimize": ("nncf", "build"),
    "serve": ("pytriton", "serve"),
    "infer": ("tritonclient", "client"),
    "status": ("tritonclient", "client"),
    "wait": ("tritonclient", "client"),
    "loadtest": ("locust", "loadtest"),
    "compare": ("pyarrow", "loadtest"),
    "history": ("jinja2", "loadtest"),
    "report": ("jinja2", "loadtest"),
    "publish": ("fsspec", "serve"),
    "rollback": ("tritonclient", "client"),
    "versions": ("tritonclient", "client"),
    "verify": ("tritonclient", "client"),
    "lint": ("tritonclient", "client"),
    "check": ("tritonclient", "client"),
    "explain": ("tritonclient", "client"),
    "tokenize": ("tokenizers", "text"),
}

EPILOG: Final = """exit codes:
  0    done
  1    something that should not happen; please report it
  2    the command line is off
  3    a spec, checkpoint or data file cannot be used
  4    at least one variant failed to build (the others are published)
  5    the model repository, or the folder of artifacts, cannot be read or written
  6    the server cannot be started or kept alive
  7    an inference request was refused or failed, or no server answered
  8    a load test cannot be run or trusted, or two of them cannot be compared
  9    lint found an error or a warning, check an artifact that would not load, or compare a figure that became worse
       than --fail-on allows
  10   optimize found no variant within its targets (its answer says how near it came)
  130  interrupted"""


def main(arguments: list[str] | None = None) -> NoReturn:
    """Entry point of `trident`. Always ends in SystemExit."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    try:
        _check_extra(options.command)
        code = importlib.import_module(f"trident.commands.{options.command}").run(options)
        sys.stdout.flush()
    except TridentError as error:
        print(f"trident {options.command}: {error}", file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        print(f"trident {options.command}: interrupted", file=sys.stderr)
        code = 130
    except BrokenPipeError:
        # The reader (`| head`) has gone. Nothing more can be said there, not even by the interpreter's own flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    raise SystemExit(code)


def _check_extra(command: str) -> None:
    package, extra = EXTRAS.get(command, ("", ""))
    if package and importlib.util.find_spec(package) is None:
        raise UsageError(f"{package} is not installed; install it with `pip install 'trident-triton[{extra}]'`")


def make_parser() -> argparse.ArgumentParser:
    """The parser of all sub-commands."""
    parser = argparse.ArgumentParser(
        prog="trident",
        description="One trained checkpoint in; a Triton model repository of verified, optimized variants out.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        sub = subparsers.add_parser(
            name, help=text, description=text[0].upper() + text[1:] + ".", epilog=EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        _OPTIONS[name](sub)
        sub.add_argument("--json", action="store_true", help="print the result as JSON (progress: standard error)")
    return parser


def _repository(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repository", type=Path, default=Path("model_repository"), help="default: %(default)s")


def _artifacts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--artifacts", type=Path, default=Path("artifacts"), help="cache, samples and reports; default: %(default)s"
    )


def _build(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("specs", type=Path, nargs="+", metavar="SPEC", help="YAML, e.g. examples/fashion/model.yaml")
    _repository(parser)
    _artifacts(parser)
    parser.add_argument("--staging", type=Path, help="where new models are staged; default: beside the repository")
    parser.add_argument("--retire", action="store_true", help="remove the published version of a variant now rejected")
    parser.add_argument("--prune", action="store_true", help="remove published variants that are no longer in the spec")
    parser.add_argument(
        "--retime", action="store_true", help="measure times again of what is unchanged, and plan by them"
    )


def _optimize(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("spec", type=Path, metavar="SPEC", help="YAML, e.g. examples/fashion/model.yaml")
    parser.add_argument("--max-size", type=parse_bytes, metavar="SIZE", help="of a variant's files, such as 0.5MB")
    parser.add_argument(
        "--max-latency", type=parse_seconds, metavar="TIME", help="median in process, batch 1, such as 1ms"
    )
    parser.add_argument(
        "--max-drop",
        type=parse_loss,
        metavar="LOSS",
        help="of the metric: 1pt, or 2%%; default: the spec's gate",
    )
    parser.add_argument(
        "--budget", type=parse_seconds, default=1800.0, metavar="TIME",
        help="how long this run may search; what an earlier one found takes no time; default: 30min",
    )  # fmt: skip
    _repository(parser)
    _artifacts(parser)
    parser.add_argument("--staging", type=Path, help="where new models are staged; default: beside the repository")


def _serve(parser: argparse.ArgumentParser) -> None:
    _repository(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to bind; default: %(default)s, this machine only")
    parser.add_argument("--http-port", type=parse_port, default=8000, help="0 takes a free one; default: %(default)s")
    parser.add_argument("--grpc-port", type=parse_port, default=8001, help="0 takes a free one; default: %(default)s")
    parser.add_argument(
        "--metrics-port", type=parse_port, default=8002, help="0 takes a free one; default: %(default)s"
    )
    parser.add_argument(
        "--health-port", type=parse_port, default=8003,
        help="the supervisor's own pages: /readyz, /livez, /models, /metrics; 0 takes a free one; default: %(default)s",
    )  # fmt: skip
    parser.add_argument(
        "--drain-delay", type=float, default=0.0, metavar="S",
        help="when stopped, be unready for so long before refusing requests; default: %(default)g",
    )  # fmt: skip
    parser.add_argument("--run-dir", type=Path, help="logs and assembled backends; default: artifacts/server/<pid>")
    parser.add_argument("--models", nargs="*", default=[], metavar="NAME", help="serve only these; default: all")


def _infer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="the name that the server knows, e.g. fashion_openvino_int8")
    parser.add_argument(
        "inputs", nargs="+", metavar="FILE",
        help=".npy, .npz, .json, - (JSON on standard input), .txt (a sample a line) or images (several: a batch)",
    )  # fmt: skip
    parser.add_argument("--text", action="store_true", help="FILE is no file but a text itself (several: a batch)")
    _connection(parser, timeout_s=30)
    parser.add_argument("--top", type=parse_count, default=3, metavar="N", help="labels to show; default: %(default)s")
    parser.add_argument("--output", type=Path, metavar="FILE.npz", help="write the outputs there as arrays")


def _status(parser: argparse.ArgumentParser) -> None:
    _connection(parser, timeout_s=10)


def _wait(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "models", nargs="*", metavar="MODEL", help="default: the server, with all that it was told to load"
    )
    _connection(parser, timeout_s=60)


def _connection(parser: argparse.ArgumentParser, timeout_s: float) -> None:
    """How to reach a server; `trident.connect` makes a client of it."""
    parser.add_argument(
        "--url", action="append",
        help="host:port, or http, https, grpc or grpcs:// before it; several times: any of these servers; "
        "default: 127.0.0.1:8000 for http, 127.0.0.1:8001 for grpc",
    )  # fmt: skip
    parser.add_argument("--protocol", choices=("http", "grpc"), help="default: what --url begins with, else http")
    parser.add_argument("--timeout", type=float, default=timeout_s, metavar="SECONDS", help="default: %(default)s")
    parser.add_argument("--ca", type=Path, metavar="FILE.pem", help="certificates to trust; default: the system's")
    parser.add_argument("--cert", type=Path, metavar="FILE.pem", help="this client's own, where the server wants one")
    parser.add_argument("--key", type=Path, metavar="FILE.pem", help="its key")
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help="a bearer token; default: TRIDENT_TOKEN, if set"
    )


def _loadtest(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", help="the model's name in its spec; default: the only one that was built")
    _repository(parser)
    _artifacts(parser)
    loadtest_options.add(parser)


def _compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("before", type=Path, metavar="A", help="the folder of a load test")
    parser.add_argument("after", type=Path, metavar="B", help="that of another under the same load")
    parser.add_argument(
        "--fail-on", nargs="+", action="extend", default=[], metavar="LIMIT",
        help="p99=+5%%: exit code 9 if a p99 surely rose, and by more than that; the same for p50, throughput, "
        "capacity and, in points, accuracy=-0.2pt",
    )  # fmt: skip


def _history(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", help="the model's name in its spec; default: the only one that was built")
    _artifacts(parser)
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: <artifacts>/<model>/history/history.html")


def _doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", help="the model's name in its spec; default: the only one that was built")
    _artifacts(parser)


def _report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", help="the model's name in its spec; default: the only one that was built")
    _artifacts(parser)
    parser.add_argument(
        "--from", type=Path, dest="source", metavar="DIR", help="the load test's; default: <artifacts>/<model>/loadtest"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: report.html in the load test's folder")


def _list(parser: argparse.ArgumentParser) -> None:
    _repository(parser)


def _publish(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", metavar="FOLDER", help="a model's folder in a repository: a path, or a URL as s3://..."
    )
    parser.add_argument(
        "--repository", default="model_repository", help="where to: a path, or a URL; default: %(default)s"
    )
    parser.add_argument("--version", type=parse_count, metavar="N", help="of the source; default: the one that serves")
    parser.add_argument(
        "--keep", type=parse_count, default=2, metavar="N", help="versions that stay; default: %(default)s"
    )
    _supervisor(parser)


def _rollback(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="the name that the server knows, e.g. fashion_openvino_int8")
    parser.add_argument("--to", type=parse_count, metavar="N", help="default: the newest intact one before the present")
    _repository(parser)
    _supervisor(parser)


def _supervisor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--server", metavar="HOST:PORT", help="the health address of `trident serve`: wait until the version serves"
    )
    parser.add_argument("--timeout", type=float, default=60.0, metavar="S", help="for that; default: %(default)g")


def _models_of(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="*", metavar="MODEL", help="default: all")
    _repository(parser)


def _lint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths",
        type=Path,
        nargs="+",
        metavar="PATH",
        help="a model repository, one model's folder, or its config.pbtxt",
    )
    _release(parser)
    parser.add_argument(
        "--cores", type=parse_count, help="CPU cores that the server may use; default: those of this process"
    )
    parser.add_argument("--fix", action="store_true", help="mend what can be mended; comments and layout stay")
    parser.add_argument(
        "--fail-on", choices=("error", "warning", "note"), default="warning", help="default: %(default)s"
    )
    parser.add_argument("--sarif", type=Path, metavar="FILE", help="also write the findings in SARIF 2.1.0")


def _check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "path", type=Path, nargs="?", default=Path("model_repository"), metavar="PATH", help="default: %(default)s"
    )
    _release(parser)
    parser.add_argument("--lower", type=Path, metavar="FOLDER", help="write copies there that this release can load")


def _explain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="a model's folder, or its name in the repository")
    _repository(parser)
    _release(parser)
    parser.add_argument("--cores", type=parse_count, help="CPU cores that the server may use; default: this process's")


def _release(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--triton",
        metavar="RELEASE",
        help="such as 26.06; `wheel` is what `trident serve` runs; default: what Trident built the repository for, "
        "else the newest known",
    )


def _tokenize(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="the encoder's, with tokenizer.json")
    parser.add_argument("texts", type=Path, metavar="FILE", help="a text in each line, UTF-8")
    parser.add_argument("--out", type=Path, metavar="FILE.npz", required=True, help="input_ids, attention_mask, label")
    parser.add_argument("--labels", action="store_true", help="each line is a label (a number), a tab and the text")
    parser.add_argument("--length", type=parse_count, metavar="TOKENS", help="cut and pad to it; default: the longest")
    parser.add_argument("--types", action="store_true", help="token_type_ids too, for encoders that take them")


_OPTIONS: Final = {
    "build": _build,
    "optimize": _optimize,
    "serve": _serve,
    "infer": _infer,
    "status": _status,
    "wait": _wait,
    "loadtest": _loadtest,
    "doctor": _doctor,
    "compare": _compare,
    "history": _history,
    "report": _report,
    "list": _list,
    "publish": _publish,
    "rollback": _rollback,
    "versions": _models_of,
    "verify": _models_of,
    "lint": _lint,
    "check": _check,
    "explain": _explain,
    "tokenize": _tokenize,
}


if __name__ == "__main__":
    main()
