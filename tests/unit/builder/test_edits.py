"""A network that was changed is the same network in another process, and a list of edits that is none is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from builder.channels import without
from builder.edits import AnyEdit, Factor, RemoveChannels, Student, read_edits, replay, write_edits
from builder.errors import CheckpointError
from builder.example_inputs import example_inputs
from builder.factors import Ranks, factored, put
from builder.source import load_torch, save_torch
from tests.support.quadrants import quadrants_spec, samples

ROOT = Path(__file__).parents[3]
ANSWER = """
import sys
from pathlib import Path
import numpy as np, torch
from builder.source import load_torch
from builder.spec_file import load_spec
folder = Path(sys.argv[1])
network = load_torch(load_spec(folder / "model.yaml"), folder / "pruned/model.safetensors")
with torch.no_grad():
    np.save(folder / "answers.npy", network(torch.from_numpy(np.load(folder / "x.npy"))).numpy())
"""
WIDER = """
from torch import nn


def student():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 4))
"""


def test_a_changed_network_gives_the_same_bits_in_a_new_process(tmp_path: Path) -> None:
    spec = quadrants_spec(tmp_path)
    network, edits = load_torch(spec), list[AnyEdit]()
    # Of the sum twice: numbered as they are by then. A layer in parts, one of which loses channels, is among them.
    for layer, count in (("back", 5), ("body.0", 20), ("stem.0", 3), ("body.0.0", 2)):
        if layer == "stem.0":
            ranks = Ranks(6, 9)
            put(network, "body.0", factored(network.body[0], ranks))
            edits.append(Factor(layer="body.0", ranks=ranks))
        network, gone = without(network, example_inputs(spec), layer, count, "l2", 0)
        edits.append(RemoveChannels(layer=layer, channels=gone))
    (tmp_path / "pruned").mkdir()
    save_torch(network, edits, tmp_path / "pruned")
    images, _ = samples(16, 7)
    np.save(tmp_path / "x.npy", images)
    subprocess.run([sys.executable, "-c", ANSWER, str(tmp_path)], cwd=ROOT, check=True)
    with torch.no_grad():
        expected = network(torch.from_numpy(images)).numpy()
    assert np.array_equal(np.load(tmp_path / "answers.npy"), expected)
    assert network.back.out_channels == network.stem[0].out_channels == 16 - 5 - 3
    assert network.depth.groups == 12
    assert [tuple(part.weight.shape) for part in network.body[0]] == [(4, 8, 1, 1), (9, 4, 3, 3), (12, 9, 1, 1)]


def test_a_student_takes_the_networks_place_and_can_be_edited_itself(tmp_path: Path) -> None:
    spec = quadrants_spec(tmp_path)
    (tmp_path / "student.py").write_text(WIDER)
    edits = (
        RemoveChannels(layer="back", channels=(0,)),  # of the network before, which is gone
        Student(factory=f"{tmp_path}/student.py:student"),
        RemoveChannels(layer="1", channels=tuple(range(16))),
    )
    write_edits(tmp_path / "artifact", edits)
    assert read_edits(tmp_path / "artifact") == edits
    network = replay(load_torch(spec), edits, example_inputs(spec))
    assert [tuple(value.shape) for value in network.parameters()] == [(8, 64), (8,), (4, 8), (4,)]
    assert not network.training


def test_what_is_no_list_of_edits_is_refused(tmp_path: Path) -> None:
    assert read_edits(tmp_path) == ()
    for text in ("{", '[{"edit": "widen", "layer": "back"}]', '[{"edit": "remove_channels", "layer": 3}]'):
        (tmp_path / "edits.json").write_text(text)
        with pytest.raises(CheckpointError, match=r"edits\.json is no list of edits: .*; remove its folder"):
            read_edits(tmp_path)
