"""The search of `trident optimize` on made-up measurements: what it looks at, in which order, and what it answers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from builder.optimize import _published
from builder.search import (
    Candidate,
    Known,
    Look,
    Space,
    beaten,
    combined,
    decide,
    epochs_that_fit,
    fits,
    front,
    keeps,
)  # fmt: skip
from builder.search_answer import answer, chosen, nearest, one_keeps
from builder.search_fates import fates
from builder.search_words import size_words
from core.optimize_results import CandidateRow, Figures, Targets
from core.results import BuildRow

NARROW = tuple(f"narrow{number}" for number in range(1, 8))
SPACE = Space(("fp32", "int8"), (NARROW,))
ALONE = {"fp32": (8_000_000, 4.0, 0.0), "int8": (2_000_000, 1.0, 0.001)}


def made(size_bytes: int, time_ms: float, drop: float | None = 0.0) -> Figures:
    """Figures with an interval of the loss that is half a point wide to each side."""
    if drop is None:
        return Figures(size_bytes=size_bytes, time_ms=time_ms)
    ends = (drop - 0.005, drop + 0.005)
    return Figures(size_bytes=size_bytes, time_ms=time_ms, accuracy=0.9 - drop, drop=drop, drop_ci95=ends)


def wanted(size_bytes: int | None = None, time_ms: float | None = None, drop: float = 0.01) -> Targets:
    return Targets(size_bytes=size_bytes, time_ms=time_ms, drop=drop, drop_given=f"{100 * drop:g}pt")


def world(one: Candidate) -> Figures:
    """Each rung takes an eighth of the base's size and time away and loses a fifth of a point more."""
    rung = NARROW.index(one.compression) + 1 if one.compression in NARROW else 0
    size_bytes, time_ms, drop = ALONE[one.base]
    return made(size_bytes * (8 - rung) // 8, time_ms * (8 - rung) / 8, round(drop + 0.002 * rung, 6))


@dataclass
class Played:
    """A search from beginning to end."""

    known: Known = field(default_factory=Known)
    looks: list[Look] = field(default_factory=list)

    def trained(self) -> list[str]:
        return [look.candidate.variant for look in self.looks if look.kind == "measure" and look.candidate.compression]

    def estimated(self) -> list[str]:
        return [look.candidate.variant for look in self.looks if look.kind == "estimate"]


def play(
    space: Space, targets: Targets, figures: Callable[[Candidate], Figures] = world, most: int = 99, **start: object
) -> Played:
    """Follows the search for at most so many looks. What raises KeyError there failed."""
    played = Played(replace(Known(), **start))  # type: ignore[arg-type]
    while len(played.looks) < most and (look := decide(space, targets, played.known)):
        assert look not in played.looks, "looked at twice"
        played.looks.append(look)
        known, name = played.known, look.candidate.variant
        try:
            found = figures(look.candidate)
        except KeyError:
            played.known = replace(known, failed={**known.failed, name: "broken"})
            continue
        if look.kind == "estimate":
            bare = found.model_copy(update={"drop": None, "accuracy": None, "drop_ci95": None})
            played.known = replace(known, estimated={**known.estimated, name: bare})
        else:
            played.known = replace(known, measured={**known.measured, name: found})
    return played


def rows(space: Space, targets: Targets, known: Known) -> list[CandidateRow]:
    ahead = front(known.measured)
    return [
        CandidateRow(
            variant=one.variant, base=one.base, compression=one.compression, estimated=known.estimated.get(one.variant),
            measured=known.measured.get(one.variant), verdict=fate.verdict, reason=fate.reason,
            on_front=one.variant in ahead,
        )
        for one, fate in fates(space, targets, known, "top1").items()
    ]  # fmt: skip


def test_bases_come_first_and_then_only_what_fits_is_trained() -> None:
    played = play(SPACE, wanted(size_bytes=1_100_000))
    assert [look.candidate.variant for look in played.looks[:2]] == ["fp32", "int8"]
    assert played.known.failed == {}
    assert combined(SPACE, wanted(), played.known) == ("int8",)  # smaller, quicker and within the noise of fp32
    assert set(played.estimated()) < {f"{name}_int8" for name in NARROW}
    assert set(played.estimated()[:3]) == {"narrow4_int8", "narrow2_int8", "narrow3_int8"}  # of seven, by halving
    assert set(played.trained()) <= set(played.estimated())  # each structure before its training
    # Half of 2 MB fits first; it keeps the accuracy, and by halving the strongest that does is found beside it.
    assert played.trained()[0] == "narrow4_int8"
    assert all(NARROW.index(name.split("_")[0]) >= 3 for name in played.trained())
    assert chosen(rows(SPACE, wanted(size_bytes=1_100_000), played.known)) == ("narrow4_int8",)


@pytest.mark.parametrize(("first", "last"), [(a, b) for a, b in itertools.product(range(1, 8), repeat=2) if a <= b])
def test_halving_finds_both_ends_wherever_they_lie(first: int, last: int) -> None:
    """The mildest rung that fits and the strongest that keeps the accuracy, for all places of both."""
    targets = wanted(size_bytes=2_000_000 * (8 - first) // 8, drop=0.001 + 0.002 * last)
    played = play(SPACE, targets)
    kept = {row.variant for row in rows(SPACE, targets, played.known) if row.verdict == "kept"}
    assert {f"narrow{first}_int8", f"narrow{last}_int8"} <= kept
    assert played.trained()[0] == f"narrow{first}_int8"
    assert len(played.trained()) <= 4
    assert len(played.estimated()) <= 3 + len(played.trained())


def test_where_the_mildest_that_fits_loses_too_much_no_stronger_one_is_trained() -> None:
    targets = wanted(size_bytes=600_000, drop=0.005)
    played = play(SPACE, targets)
    assert played.trained() == ["narrow6_int8"]
    found = {row.variant: (row.verdict, row.reason) for row in rows(SPACE, targets, played.known)}
    assert found["narrow7_int8"] == (
        "dropped", "narrow6, which is milder, loses 1.30 points of top1 (95% of the loss: +0.80 to +1.80) already",
    )  # fmt: skip
    assert found["narrow4_int8"] == ("dropped", "takes 1.00 MB, 0.60 MB are allowed (its structure, before training)")
    assert found["narrow1_int8"] == ("dropped", "narrow5, which is stronger, takes 0.75 MB, 0.60 MB are allowed")
    assert found["narrow1_fp32"] == ("dropped", "int8 is no larger and no slower than fp32, and loses no more")
    assert found["int8"] == ("dropped", "takes 2.00 MB, 0.60 MB are allowed")


def test_every_candidate_has_a_reason_unless_it_is_kept() -> None:
    for size_bytes, time_ms, drop in itertools.product((None, 1, 700_000), (None, 0.4), (0.0, 0.004, 0.5)):
        targets = wanted(size_bytes, time_ms, drop)
        for most in (0, 1, 3, 5, 99):
            known = play(SPACE, targets, most=most).known
            found = rows(SPACE, targets, known)
            assert len(found) == 2 + 2 * len(NARROW)
            assert all(bool(row.reason) == (row.verdict != "kept") for row in found)
            if most == 99:
                assert all(row.verdict != "not tried" for row in found)


def test_a_time_that_was_estimated_too_low_moves_on_to_the_next_rung() -> None:
    """Trained, narrow4 turns out to be slower than its structure was: a stronger one is what helps."""
    targets, fresh = wanted(time_ms=0.5, drop=0.05), play(SPACE, wanted(), most=2).known
    late = {**fresh.measured, "narrow4_int8": made(1_000_000, 0.51, 0.009)}
    early = {"narrow4_int8": made(1_000_000, 0.5, None)}
    played = play(SPACE, targets, estimated=early, measured=late)
    assert played.trained()[0] == "narrow5_int8"
    found = {row.variant: (row.verdict, row.reason) for row in rows(SPACE, targets, played.known)}
    assert found["narrow4_int8"] == ("dropped", "takes 0.51 ms, 0.5 ms are allowed")
    assert found["narrow5_int8"] == ("kept", "")


def test_ladders_take_turns_and_other_bases_of_what_is_trained_come_at_once() -> None:
    space = Space(("fp32", "int8"), (("a1", "a2", "a3"), ("b1", "b2", "b3")))

    def figures(one: Candidate) -> Figures:
        if not one.compression:
            return made(8_000_000, 1.0, 0.0) if one.base == "fp32" else made(2_000_000, 2.0, 0.0)
        return made(100 - int(one.compression[1]), 0.1, 0.0)

    played = play(space, wanted(drop=0.01), figures)
    trained = played.trained()
    assert trained[:4] == ["a1_fp32", "a1_int8", "b1_fp32", "b1_int8"]
    assert {name.split("_")[0] for name in trained} == {"a1", "a2", "a3", "b1", "b2", "b3"}


def test_what_fails_or_is_too_long_to_train_is_passed_over() -> None:
    def figures(one: Candidate) -> Figures:
        if one.compression == "narrow4":
            raise KeyError
        return world(one)

    targets = wanted(size_bytes=1_100_000, drop=0.05)
    played = play(SPACE, targets, figures, unaffordable={"narrow5": "too long"})
    assert played.trained()[0] == "narrow6_int8"
    found = {row.variant: (row.verdict, row.reason) for row in rows(SPACE, targets, played.known)}
    assert found["narrow4_int8"] == ("dropped", "broken")
    assert found["narrow5_int8"] == ("not tried", "too long")
    assert found["narrow6_int8"] == ("kept", "")


def test_rungs_that_come_to_the_same_network_are_trained_once() -> None:
    def figures(one: Candidate) -> Figures:
        """From narrow4 on, what stays is rounded up to the same number of channels."""
        return world(Candidate(min(one.compression, "narrow4"), one.base))

    targets = wanted(size_bytes=1_100_000, drop=0.05)
    played = play(SPACE, targets, figures)
    assert played.trained() == ["narrow4_int8"]
    found = {row.variant: (row.verdict, row.reason) for row in rows(SPACE, targets, played.known)}
    assert {found[f"narrow{rung}_int8"] for rung in (5, 6, 7)} == {("dropped", "comes to the same network as narrow4")}


def test_a_search_goes_on_from_what_is_known() -> None:
    targets = wanted(size_bytes=1_100_000)
    whole = play(SPACE, targets)
    for count in range(len(whole.looks)):
        half = play(SPACE, targets, most=count)
        assert decide(SPACE, targets, half.known) == whole.looks[count]


@pytest.mark.parametrize(
    ("wanted_epochs", "epoch_s", "left_s", "epochs"),
    [(10, 1.0, 1000.0, 10), (10, 60.0, 600.0, 5), (10, 400.0, 600.0, 1), (10, 601.0, 600.0, 0), (3, 1.0, 0.5, 0)],
)
def test_a_training_takes_at_most_half_of_what_is_left(
    wanted_epochs: int, epoch_s: float, left_s: float, epochs: int
) -> None:
    assert epochs_that_fit(wanted_epochs, epoch_s, left_s) == epochs


def test_the_front_is_what_none_beats_in_size_time_and_accuracy() -> None:
    measured = {
        "small": made(10, 3.0, 0.03),
        "quick": made(30, 1.0, 0.03),
        "right": made(50, 5.0, 0.0),
        "worse": made(60, 6.0, 0.02),  # than right, in all three
        "noise": made(40, 3.5, 0.026),  # more accurate than small by less than the noise, and larger and slower
        "twin": made(10, 3.0, 0.03),
    }
    assert front(measured) == ("small", "quick", "right", "twin")
    assert not beaten(measured["small"], [measured["twin"], made(10, 3.0, None)])


def test_limits_are_kept_if_they_are_met_exactly() -> None:
    exact = wanted(10, 1.0, 0.01)
    assert fits(made(10, 1.0), exact)
    assert keeps(made(10, 1.0, 0.01), exact)
    assert not fits(made(11, 1.0), exact)
    assert not fits(made(10, 1.001), exact)
    assert not keeps(made(10, 1.0, 0.0101), exact)
    assert not keeps(made(10, 1.0, None), exact)


def answered(targets: Targets, most: int = 99) -> tuple[str, ...]:
    found = rows(SPACE, targets, play(SPACE, targets, most=most).known)
    return answer(found, chosen(found), targets, "top1")


def test_the_answer_names_what_is_found_and_says_where_it_is_undecided() -> None:
    first, second = answered(wanted(size_bytes=1_100_000))
    assert first.endswith("measured candidates keep to all targets; no other beats these:")
    assert second == (
        "narrow4_int8: 1.00 MB, 0.5 ms, loses 0.90 points of top1 (95% of the loss: +0.40 to +1.40) (undecided, since "
        "the interval of its loss straddles the limit)."
    )


def test_an_absurd_target_is_answered_with_the_nearest_and_what_it_would_take() -> None:
    found = answered(wanted(size_bytes=1))
    assert found[0] == "No candidate keeps to all targets, so nothing is published."
    assert found[1] == "The nearest is narrow7_int8: its structure takes 0.25 MB and 0.125 ms, before training."
    assert found[2] == (
        "What it would take: --max-size 0.25MB, if its accuracy holds, which was not measured; of what was measured, "
        "--max-size 2.0MB alone would do (int8)."
    )
    assert found[3] == "No structure fits, trained or not: even narrow7_int8 takes 0.25 MB and 0.125 ms."
    assert len(found) == 4


def test_a_structure_is_the_nearest_even_if_a_base_fits_that_loses_too_much() -> None:
    def figures(one: Candidate) -> Figures:
        if one.base == "int8":
            return made(1, 0.01, 0.9)
        return made(100, 0.1, 0.0) if not one.compression else made(90 - NARROW.index(one.compression), 0.1)

    targets = wanted(size_bytes=80)
    found = rows(SPACE, targets, play(SPACE, targets, figures).known)
    assert answer(found, (), targets, "top1")[1].startswith("The nearest is narrow7_fp32: its structure takes 84 bytes")


def test_what_it_would_take_is_said_for_each_target_that_is_to_blame_alone() -> None:
    found = answered(wanted(size_bytes=600_000, drop=0.005))
    assert "--max-size 2.0MB alone would do (int8), or --max-drop 1.3pt alone would do (narrow6_int8)" in found[2]
    both = answered(wanted(size_bytes=1, time_ms=0.001, drop=0.005))
    assert both[2] == (
        "What it would take: --max-size 0.25MB --max-latency 0.13ms, if its accuracy holds, which was not measured."
    )
    alone = answered(wanted(size_bytes=1, time_ms=0.001, drop=0.005), most=2)
    assert alone[2] == "No target is to blame alone. int8 would take --max-size 2.0MB --max-latency 1.0ms."


def test_what_takes_too_long_when_it_is_timed_again_is_said_to() -> None:
    """At the build that publishes; one of two, and then both."""
    targets = wanted(time_ms=1.0)
    times = {"a": 1.2, "b": 0.9}
    before = [
        CandidateRow(variant=name, base=name, measured=made(size_bytes, 1.0 - size_bytes / 100, 0.0), verdict="kept")
        for name, size_bytes in (("a", 10), ("b", 5))
    ]
    picked = chosen(before)
    assert picked == ("a", "b")
    for b_ms, head, misses in (
        (0.9, "1 of 2 measured candidates keep to all targets; no other beats these:", ["a"]),
        (1.1, "Nothing that is published keeps to all targets: timed again, it takes longer than is", ["a", "b"]),
    ):
        built = {
            name: BuildRow(variant=name, status="published", triton_name=name, time_ms=time_ms)
            for name, time_ms in (times | {"b": b_ms}).items()
        }
        after = [_published(row, built, picked, targets) for row in before]
        assert all(row.published for row in after)
        assert one_keeps(after, picked) == (len(misses) < 2)  # else the exit code is that of nothing found
        assert [row.variant for row in after if row.verdict == "dropped"] == misses
        found = answer(after, picked, targets, "top1")
        assert found[0].startswith(head)
        assert found[3 - len(misses)] == (
            "a: 10 bytes, 0.9 ms, loses 0.00 points of top1 (95% of the loss: -0.50 to +0.50); it is published, but "
            "takes 1.2 ms when it is timed again, 1 ms are allowed."
        )
        assert len(found) == 3


def test_a_budget_that_was_used_up_is_part_of_the_answer() -> None:
    found = answered(wanted(size_bytes=600_000, drop=0.05), most=3)
    assert found[-1] == "3 candidates were not tried for want of time; a larger --budget may find one."
    assert answered(wanted(size_bytes=600_000, drop=0.05), most=0)[-1].startswith("16 candidates were not tried")


def test_nearest_is_the_one_whose_worst_miss_is_least() -> None:
    targets = wanted(100, 1.0, 0.01)
    measured = {"large": made(300, 0.5), "slow": made(50, 1.4), "wrong": made(50, 0.5, 0.03)}
    assert nearest(measured, targets) == "slow"
    assert nearest({}, targets) is None


def test_sizes_are_written_for_people() -> None:
    assert [size_words(count) for count in (1, 999, 12_345, 520_000)] == ["1 byte", "999 bytes", "12.3 kB", "0.52 MB"]
