from pathlib import Path

import pytest

from builder.errors import SpecError
from builder.spec import Gates
from builder.spec_file import load_spec
from tests.support.tiny import SPEC

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
    "metric of fewer scores": (
        "name: top1",
        "name: auc",
        "metric auc takes one score for each sample, or those of two",
    ),
    "metric of one number": (
        "name: top1",
        "name: mae",
        "metric mae takes one number for each sample, and output 'logi",
    ),
    "transform of no input": ("  image:\n    - {op: dec", "  imge:\n    - {op: dec", "preprocess names ['imge']"),
    "no factory": ("  factory: model.py:build_model\n", "", "state_dict and factory (file.py:function) go together"),
    "no variants": (
        EXAMPLE.read_text()[EXAMPLE.read_text().index("variants:") : EXAMPLE.read_text().index("serving:")],
        "variants: []\n",
        "variants: empty; give at least one",
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


TINY = SPEC.format(name="t", checkpoint="CHECKPOINT", max_drop="1pt", variants="onnx_fp32")
# What the checkpoint says, what is added to the spec, and the sentence.
KINDS = {
    "no source": ("trust: true", "", "checkpoint: give one of state_dict, onnx, torchscript, exported, huggingface; n"),
    "two sources": ("onnx: a.onnx, exported: b.pt2", "", "checkpoint: give one of .*; not onnx and exported"),
    "script without trust": (
        "torchscript: a.pt",
        "",
        "a torchscript file is a program, and loading it runs what it contains; .* add `trust: true` to checkpoint",
    ),
    "program without trust": ("exported: a.pt2", "", "a exported file is a program|an exported file is a program"),
    "trust in vain": ("onnx: a.onnx, trust: true", "", "trust is for torchscript and exported; nothing of a onnx"),
    "pooling of nothing": ("onnx: a.onnx, pooling: cls", "", "pooling belong to a huggingface checkpoint"),
    "inputs of no encoder": ("huggingface: a", "", "the inputs of a huggingface checkpoint are input_ids, attention_m"),
    "import of another kind": ("onnx: a.onnx", "imports: {other: other.pt}", "imports: other is other.pt, which must"),
    "name of an import": ("onnx: a.onnx", "imports: {Other: other.onnx}", "imports.Other"),
    "buckets without pad": (
        "onnx: a.onnx",
        "axes: {S: {min: 1, opt: 4, max: 8, buckets: [4, 8]}}",
        "pad and the inputs with a bucketed axis must be the same; they differ in x",
    ),
    "pad of no input": ("onnx: a.onnx", "axes: {S: {min: 1, opt: 4, max: 8}}\npad: {x: 0}", "they differ in x"),
    "pad of a half": (
        "onnx: a.onnx",
        "axes: {S: {min: 1, opt: 4, max: 8, buckets: [4, 8]}}\npad: {x: 0.5}",
        "pad fills x, which is int64, with 0.5; give a whole number",
    ),
    "buckets that end early": (
        "onnx: a.onnx",
        "axes: {S: {min: 1, opt: 4, max: 8, buckets: [2, 4]}}\npad: {x: 0}",
        "axes.S: buckets must ascend, from min or more, and end at max",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_axis_or_import_that_cannot_be(tmp_path: Path, kind: str) -> None:
    checkpoint, more, sentence = KINDS[kind]
    text = TINY.replace("CHECKPOINT", f"{{{checkpoint}}}")
    if "axes" in more:
        text = text.replace("{name: x, dtype: float32, dims: [8]}", "{name: x, dtype: int64, dims: [S, 8]}")
    path = tmp_path / "model.yaml"
    path.write_text(text + more + "\n")
    with pytest.raises(SpecError, match=sentence) as caught:
        load_spec(path)
    assert "\n" not in str(caught.value)


def test_paths_of_every_kind_are_resolved(tmp_path: Path) -> None:
    path = tmp_path / "model.yaml"
    for kind, name in (("torchscript", "a.pt"), ("exported", "a.pt2")):
        path.write_text(TINY.replace("CHECKPOINT", f"{{{kind}: {name}, trust: true}}") + "imports: {b: b.xml}\n")
        spec = load_spec(path)
        assert spec.checkpoint.file == tmp_path / name
        assert spec.imports == {"b": tmp_path / "b.xml"}
        assert spec.all_variants == ("onnx_fp32", "imported_b")
