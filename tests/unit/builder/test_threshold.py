"""Layer by layer as far as a threshold allows: what is tried, what is kept, and that training follows each raise."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from builder.edits import RemoveChannels
from builder.source import load_torch
from builder.spec import ModelSpec
from builder.spec_compress import Training
from builder.threshold import Allowance, Raises, Reduced, as_far_as_allowed
from tests.support.quadrants import quadrants_spec


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    return quadrants_spec(tmp_path_factory.mktemp("model"))


def raises(name: str, kinds: str, asked: list[str]) -> Raises:
    """For one layer: networks as they are (`.`) or with a last layer that says nothing (`x`), each one edit more."""

    def layer(best: Reduced) -> Iterator[tuple[Reduced, str]]:
        trial = best
        for number, kind in enumerate(kinds):
            network = copy.deepcopy(best.network)
            if kind == "x":
                torch.nn.init.constant_(network.get_submodule("head").weight, 1e-3)  # no zeros: those would stay
            trial = Reduced(network, (*trial.edits, RemoveChannels(layer=name, channels=(number,))))
            asked.append(f"{name}{number}")
            yield trial, f"{name}{number}"

    return layer


def test_the_last_that_lost_no_more_is_kept_and_patience_ends_a_layer(
    spec: ModelSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []
    layers = [raises("a", ".x.xxx", asked), raises("b", "xx.", asked), raises("c", ".", asked)]
    found = as_far_as_allowed(Reduced(load_torch(spec)), layers, Allowance("5pt", 2, None), spec, tmp_path)
    assert asked == ["a0", "a1", "a2", "a3", "a4", "b0", "b1", "c0"]
    assert [(edit.layer, edit.channels) for edit in found.edits if isinstance(edit, RemoveChannels)] == [
        ("a", (0,)), ("a", (1,)), ("a", (2,)), ("c", (0,)),
    ]  # fmt: skip
    assert len(found.network.get_submodule("head").get_parameter("weight").unique()) > 1
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "a0, 0.00 points are lost"
    assert float(said[1].split()[1]) > 20
    assert not list(tmp_path.iterdir())


def test_training_follows_each_raise_and_may_make_it_good(spec: ModelSpec, tmp_path: Path) -> None:
    training = Training(epochs=3, lr=1e-2, batch=50)
    found = as_far_as_allowed(
        Reduced(load_torch(spec)), [raises("a", "x", [])], Allowance("15pt", 1, training), spec, tmp_path
    )
    assert len(found.edits) == 1
    assert len(found.network.get_submodule("head").get_parameter("weight").unique()) > 1
    assert [path.name for path in tmp_path.iterdir()] == ["raise-1.pt"]  # from which a killed run goes on
