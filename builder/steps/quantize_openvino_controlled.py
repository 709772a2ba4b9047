"""INT8 by NNCF with its own accuracy control, which takes INT8 back from layers until the metric is kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from builder.artifact import Artifact, Format
from builder.doctor import Plan, judged_loss, split_calibration
from builder.errors import StepError
from builder.runtimes import predictor
from builder.spec import ModelSpec
from builder.step import Step
from builder.verify import predict_all, take
from core.machine import cores
from core.tensors import Arrays

WORST = 1e6  # a loss, where answers are not finite: NNCF reckons with it


@dataclass(frozen=True)
class QuantizeOpenVinoControlled(Step):
    """`nncf.quantize_with_accuracy_control`: quantizes, and while more of the metric is lost than may be, takes groups
    of quantizers out, those first without which single samples come out best. What it may lose, and the split of the
    calibration samples, are those of the doctor's plan; without labels the original's decisions stand in for them.
    """

    plan: Plan = field(default_factory=Plan)
    headroom: bool = True

    name: ClassVar[str] = "quantize_openvino_controlled"
    accepts: ClassVar[Format] = "openvino"
    produces: ClassVar[Format] = "openvino"
    tools: ClassVar[tuple[str, ...]] = ("openvino", "nncf")
    calibrates: ClassVar[bool] = True
    judges: ClassVar[bool] = True

    def __call__(self, source: Artifact, out_dir: Path) -> None:
        """Writes `model.xml` and `model.bin`. Raises StepError if nothing is left in INT8 at the end."""
        import nncf
        import openvino
        from nncf.quantization.advanced_parameters import (
            AdvancedAccuracyRestorerParameters,
            AdvancedQuantizationParameters,
            OverflowFix,
        )

        spec = source.spec
        parts = split_calibration(spec, self.plan)
        original = predict_all(predictor(source, cores()), parts.judging, 1)
        count, labels, limit = (
            len(original[spec.metric.output]),
            parts.labels,
            self.plan.limit(spec, original, parts.labels),
        )
        items = [(take(parts.judging, [row]), row) for row in range(count)]

        def validate(compiled: Any, chosen: Iterable[tuple[Arrays, int]]) -> tuple[float, list[float]]:
            """One minus the judged loss (NNCF divides by what the original reaches), of all and of each sample."""
            rows, answers = [], []
            for inputs, row in chosen:
                rows.append(row)
                answers.append({port.any_name: np.array(value) for port, value in compiled(inputs).items()})
            losses = [_loss(spec, original, one, labels, [row]) for one, row in zip(answers, rows, strict=True)]
            whole = {name: np.concatenate([one[name] for one in answers]) for name in answers[0]}
            return 1 - _loss(spec, original, whole, labels, rows), [1 - loss for loss in losses]

        controlled = nncf.quantize_with_accuracy_control(
            openvino.Core().read_model(source.path),
            nncf.Dataset(parts.rows),
            nncf.Dataset(items, lambda item: item[0]),
            validate,
            max_drop=limit,
            subset_size=len(parts.rows),
            advanced_quantization_parameters=AdvancedQuantizationParameters(
                overflow_fix=OverflowFix.ENABLE if self.headroom else OverflowFix.DISABLE
            ),
            advanced_accuracy_restorer_parameters=AdvancedAccuracyRestorerParameters(
                ranking_subset_size=min(self.plan.ranked, len(items)), num_ranking_workers=1
            ),
        )
        if not any(node.get_type_name() == "FakeQuantize" for node in controlled.get_ops()):
            raise StepError(
                f"{spec.name} loses more than {100 * limit:.3g} points on the calibration samples that "
                f"judge until NNCF has taken INT8 out of every layer; allow more with gates.max_drop, or stay with FP32"
            )
        openvino.save_model(controlled, out_dir / "model.xml", compress_to_fp16=False)


def _loss(
    spec: ModelSpec, original: Arrays, outputs: Arrays, labels: NDArray[np.generic] | None, rows: list[int]
) -> float:
    """`judged_loss` on some rows; of a single one, for which a metric of all samples together does not exist, the
    distance of its answer."""
    metric, name, expected = spec.metric.function, spec.metric.output, take(original, rows)
    if len(rows) == 1 and metric.score is None:
        return float(np.abs(outputs[name].astype(np.float64) - expected[name].astype(np.float64)).max())
    return min(judged_loss(spec, expected, outputs, None if labels is None else labels[rows]), WORST)
