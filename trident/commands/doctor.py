"""`trident doctor`: what INT8 costs in each layer of a built model, and which layers stay in float."""

from __future__ import annotations

import argparse
import json

from rich.markup import escape
from rich.table import Table

from core.errors import InputError
from core.results import BuildRow
from trident.built import find_build
from trident.console import number, result_console
from trident.doctor_words import diagnosis, relative_error


def run(options: argparse.Namespace) -> int:
    """Prints the ranking of each variant in mixed precision, from the last build; nothing is built."""
    model = find_build(options.artifacts, options.model)
    rows = [row for row in model.rows if row.layers]
    if not rows:
        raise InputError(
            f"no variant of {model.model} has a ranking of its layers; put onnx_int8_mixed or openvino_int8_mixed "
            f"among the `variants` of {model.spec} and build again"
        )
    if options.json:
        print(json.dumps({row.variant: [layer.model_dump() for layer in row.layers] for row in rows}, indent=2))
        return 0
    console = result_console()
    for row in rows:
        console.print(_table(row))
        console.print(diagnosis(row.layers), soft_wrap=True, markup=False)
    return 0


def _table(row: BuildRow) -> Table:
    table = Table(title=f"{row.variant} ({row.status}), worst first", title_justify="left")
    for name, side in (("Layer", "left"), ("Operator", "left"), ("SQNR (dB)", "right"), ("Error", "right")):
        table.add_column(name, justify=side)  # type: ignore[arg-type]
    table.add_column("In")
    for layer in row.layers:
        error = number(relative_error(layer), ".2f", "%")
        form = "float" if layer.kept_float else "INT8"
        table.add_row(
            escape(layer.layer), layer.operator, number(layer.sqnr_db, ".1f"), error, form,
            style="bold" if layer.kept_float else None,
        )  # fmt: skip
    return table
