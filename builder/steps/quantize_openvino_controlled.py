"""INT8 by NNCF with its own accuracy control, which takes INT8 back from layers until the metric is kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from builder.artifact import Artifact, Format
from builder.doctor import Parts, Plan, split_calibration
from builder.errors import StepError
from builder.runtimes import predictor
from builder.verify import predict_all, take
from core.machine import cores
from core.metrics import METRICS
from core.tensors import Arrays


@dataclass(frozen=True)
class QuantizeOpenVinoControlled:
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

    def unavailable(self) -> str | None:
        """Always available where the builder is."""
        return None

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
        items = _judging_items(source, parts)
        output, score = spec.metric.output, METRICS[spec.metric.name].score

        def validate(compiled: Any, chosen: Iterable[tuple[Arrays, Any]]) -> tuple[float, list[float]]:
            scores = [float(score(compiled(inputs)[output], label)[0]) for inputs, label in chosen]
            return float(np.mean(scores)), scores

        controlled = nncf.quantize_with_accuracy_control(
            openvino.Core().read_model(source.path),
            nncf.Dataset(parts.rows),
            nncf.Dataset(items, lambda item: item[0]),
            validate,
            max_drop=self.plan.limit(spec),
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
                f"{spec.name} loses more than {100 * self.plan.limit(spec):g} points on the calibration samples that "
                f"judge until NNCF has taken INT8 out of every layer; allow more with gates.max_drop, or stay with FP32"
            )
        openvino.save_model(controlled, out_dir / "model.xml", compress_to_fp16=False)


def _judging_items(source: Artifact, parts: Parts) -> list[tuple[Arrays, Any]]:
    """Each sample that judges, `[1, ...]` by input name, with its label `[1]` or the original's decision."""
    labels = parts.labels
    if labels is None:
        outputs = predict_all(predictor(source, cores()), parts.judging, 1)
        labels = METRICS[source.spec.metric.name].decide(outputs[source.spec.metric.output])
    return [(take(parts.judging, [row]), labels[row : row + 1]) for row in range(len(labels))]
