"""Requests survive the way from a worker to the master."""

from __future__ import annotations

import pytest

from loadtest.errors import PlanError
from loadtest.job import Exchange, Order, scheduled
from loadtest.messages import Assignment, Share, check, pack_share, unpack_share

EXCHANGES = (
    Exchange(5, 0, 100.0, 100.25, 1.5, b"abcd"),
    Exchange(70_000, 1, 100.5, 100.5, 2.5, b"", "HTTP 503: full"),
    Exchange(7, 1, 101.0, 101.0, 3.5, b"efgh"),
)


def test_a_share_comes_back_as_it_was_on_the_other_clock() -> None:
    sent = Share.model_validate(pack_share(3, 0.5, EXCHANGES, 100.0).model_dump())
    assert (sent.number, sent.cpu_s) == (3, 0.5)
    moved = [row._replace(due_s=row.due_s + 900, began_s=row.began_s + 900) for row in EXCHANGES]
    assert unpack_share(sent, 4, 1000.0) == moved
    assert unpack_share(pack_share(1, 0.0, (), 0.0), 4, 1000.0) == []


def assigned(order: Order) -> Assignment:
    """The second half of an order."""
    return Assignment(
        number=1, version="1", samples_sha256="0" * 64, url="127.0.0.1:1", protocol="grpc", names=("m",), users=2,
        part=1, of=2, order=order, timeout_s=1.0,
    )  # fmt: skip


def test_a_worker_of_another_version_or_with_other_samples_refuses() -> None:
    assignment = assigned(Order(samples=3, seed="a"))
    check(assignment, "0" * 64, "1")
    with pytest.raises(PlanError, match="it has Trident 2, and the master 1"):
        check(assignment, "0" * 64, "2")
    with pytest.raises(PlanError, match="its sample pack is another"):
        check(assignment, "1" * 64, "1")


def test_an_assignment_keeps_its_order() -> None:
    for order in (Order(samples=3, seed="a"), scheduled([0.0, 0.25], [0, 1], 3, "a", 0.2, 1.0)):
        assignment = assigned(order)
        assert Assignment.model_validate(assignment.model_dump()) == assignment
