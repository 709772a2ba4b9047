from pathlib import Path

import pytest

from builder.errors import SpecError
from builder.spec import Gates
from builder.spec_file import load_spec

EXAMPLE = Path(__file__).parents[3] / "examples/fashion/model.yaml"

# (what to replace, by what, what the sentence must say after the line number's place)
MISTAKES = {
    "typo of a field": ("label: label", "lable: label", "data.lable: unknown field; did you mean 'label'?"),
    "typo of a required field": ("metric: {", "metrik: {", "metrik: unknown field; did you mean 'metric'?"),
    "unknown variant": ("- onnx_fp32\n", "- onnx_fp23\n", "variants[1]: 'onnx_fp23' is not known"),
    "bad name": ("name: fashion", "name: Fashion!", "name: 'Fashion!' cannot be read; write it such as my-model"),
    "no size": ("dims: [10]", "dims: [0]", "outputs[0].dims[0]"),
    "unknown data type": ("dtype: float32, dims: [1", "dtype: float31, dims: [1", "unknown data type 'float31'"),
    "metric of no output": ("output: logits", "output: logit", "metric.output 'logit' is not an output"),
    "drop without unit": ("1pt", "'1'", "gates.max_drop: '1' cannot be read; write it such as 1pt, or 2%"),
    "axis without range": ("[1, 28, 28]", "[1, H, 28]", "axes and the names in dims must be the same"),
    "label missing": (", Bag, Ankle boot]", ", Bag]", "there are 9 labels, but 'logits' has 10 classes"),
    "unknown metric": ("name: top1", "name: top2", "did you mean top5? known are top1"),
    "transform of no input": ("  image:\n    - {op: dec", "  imge:\n    - {op: dec", "preprocess names ['imge']"),
    "no factory": ("  factory: model.py:build_model\n", "", "state_dict and factory (file.py:function) go together"),
    "no variants": (
        EXAMPLE.read_text()[EXAMPLE.read_text().index("variants:") : EXAMPLE.read_text().index("serving:")],
        "variants: []\n",
        "variants: Tuple should have at",
    ),
    "variant twice": ("variants:\n  - torch_fp32", "variants:\n  - onnx_fp32", "variants: onnx_fp32 stands twice"),
    "name of a folder": ("name: fashion", "name: cache", "name: a model cannot be called cache, demo, server"),
    "date that is none": ("name: fashion", "name: 2024-13-45", "'2024-13-45' cannot be read (month must be in 1..12"),
    "number that is none": ("name: fashion", "name: !!int x", "'x' cannot be read"),
    "key twice": ("metric: {", "metric: {output: logits, ", "'output' stands twice, first in line"),
    "batch of none": ("{max: 32}", "{max: 0}", "batch.max"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_sentence_with_file_and_line(tmp_path: Path, mistake: str) -> None:
    old, new, sentence = MISTAKES[mistake]
    text = EXAMPLE.read_text()
    assert old in text
    path = tmp_path / "model.yaml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    message = str(caught.value)
    assert sentence in message
    assert "\n" not in message
    place = message.removeprefix(f"{path}:").split(":")[0]
    if new and "axes" not in sentence and "metric.output" not in sentence and "preprocess" not in sentence:
        line = next(i for i, part in enumerate(path.read_text().splitlines(), 1) if new.splitlines()[0] in part)
        assert int(place) == line
    else:
        assert int(place) >= 1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name: [", ":1: "),
        ("- a\n- b\n", "a spec is a mapping"),
        ("", "a spec is a mapping"),
        ("name: " + "[" * 3000, "nested too deeply"),
        ("name: fashion\ndata:\n  label: a\n  label: b\n", ":4: 'label' stands twice, first in line 3"),
        ("name: &a [*a]\n", ":1: "),
        ("name: fashion\n", "required, but missing; add it"),
    ],
)
def test_a_file_that_is_no_spec(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "model.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match=sentence):
        load_spec(path)


def test_the_example_is_read_with_its_paths_resolved() -> None:
    spec = load_spec(EXAMPLE)
    assert spec.checkpoint.file.is_file()
    assert spec.data.evaluation.is_file()
    assert spec.gates.limit(0.9) == pytest.approx(0.01)
    assert Gates(max_drop="2%").limit(-0.5) == pytest.approx(0.01)
    assert spec.triton_name("onnx_fp32") == "fashion_onnx_fp32"
