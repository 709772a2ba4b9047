"""What the checkpoint itself scores: measured once, and read again while nothing that decides it has changed."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import ValidationError

from builder.keys import Keys
from builder.spec import ModelSpec
from builder.worker import Workplace, Workshop, examine_original
from core.errors import InputError
from core.files import write_atomically
from core.results import MetricValue, ResultModel, Sha256
from core.samples import read_pack


class OriginalRecord(ResultModel):
    """`artifacts/<model>/original.json`: what the checkpoint itself scores."""

    key: Sha256
    metric: MetricValue
    parameters: int | None
    warnings: tuple[str, ...] = ()


def original_record(
    spec: ModelSpec, place: Workplace, workshop: Workshop, keys: Keys, on_start: Callable[[], None]
) -> OriginalRecord:
    """The original's metric and size; its sample pack lies in place afterwards. `on_start` is told if it has to be
    run."""
    path = place.folder / "original.json"
    try:
        record = OriginalRecord.model_validate_json(path.read_bytes())
        if record.key == keys.base:
            read_pack(place.folder)  # raises if it is not whole
            return record
    except (OSError, ValidationError, InputError):
        pass  # not there, or not whole: made again
    on_start()
    found = workshop.run(examine_original, spec, place)
    record = OriginalRecord(key=keys.base, metric=found.metric, parameters=found.parameters, warnings=found.warnings)
    write_atomically(path, record.to_json())
    return record
