"""What a client does about failures: what is sent again, when, and where to. Time and chance are the test's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from client import (
    AbandonedError,
    AnswerError,
    AsyncInferenceClient,
    AuthorizationError,
    Breaker,
    Cancellation,
    CircuitOpenError,
    DeadlineError,
    Hedge,
    InferenceClient,
    InferenceError,
    Options,
    OverloadedError,
    RefusedError,
    Retry,
    Settings,
    SignatureError,
    TlsError,
    UnknownModelError,
    UnreachableError,
)
from client.calls import Answer, Attempt, Infer
from client.events import AttemptEnded, BreakerChanged, RequestEnded
from client.fake import AsyncFakeServer, FakeModel, FakeServer
from client.settings import DEFAULTS
from core.errors import InputError
from core.tensors import Arrays
from tests.support.clients import ROWS, Moments, doubler, fake_server

LOST = UnreachableError("the connection broke", sent=True)
REFUSED = UnreachableError("nobody there")
BUSY = OverloadedError("busy")
STEADY = Retry(burst=100)


@pytest.fixture
def moments() -> Moments:
    """The test's clock."""
    return Moments()


@pytest.fixture
def fake() -> FakeServer:
    """The only server."""
    return fake_server()


def ask(fake: FakeServer, settings: Settings, timeout_s: float = 30.0, options: Options = DEFAULTS) -> Arrays:
    """One request of two rows, with a client that has met the server."""
    client = InferenceClient(timeout_s=timeout_s, settings=settings, transports=[fake])
    client.metadata("double")
    return client.infer("double", ROWS[:2], options=options)


@pytest.mark.parametrize("error", [LOST, REFUSED, BUSY])
def test_what_may_be_sent_again_is_until_it_is_answered(fake: FakeServer, moments: Moments, error: Exception) -> None:
    fake.fail(error, error, error)  # type: ignore[arg-type]
    answer = ask(fake, moments.settings())
    np.testing.assert_array_equal(answer["y"], ROWS[:2] * 2)
    assert len(fake.sent) == 4


def test_waits_double_up_to_the_longest_and_are_drawn_by_chance(fake: FakeServer, moments: Moments) -> None:
    retry = replace(STEADY, first_wait_s=0.1, longest_wait_s=0.5)
    fake.fail(*[BUSY] * 4)
    ask(fake, replace(moments.settings(), retry=retry))
    assert moments.slept_s == pytest.approx([0.05, 0.1, 0.2, 0.25])
    moments.chance, moments.slept_s = 0.0, []
    fake.fail(*[BUSY] * 4)
    ask(fake, replace(moments.settings(), retry=retry))
    assert moments.slept_s == [0, 0, 0, 0]


def test_a_server_that_asks_for_time_gets_it(fake: FakeServer, moments: Moments) -> None:
    fake.fail(OverloadedError("busy", retry_after_s=3))
    ask(fake, moments.settings())
    assert moments.slept_s == [3]


@pytest.mark.parametrize(
    "error",
    [RefusedError("bad"), AuthorizationError("no"), AnswerError("junk"), TlsError("no trust"), DeadlineError("late")],
)
def test_what_a_second_try_does_not_mend_is_not_tried(
    fake: FakeServer, moments: Moments, error: InferenceError
) -> None:
    fake.fail(error)
    with pytest.raises(type(error)):
        ask(fake, moments.settings())
    assert len(fake.sent) == 1


def test_where_a_second_run_does_harm_only_what_was_never_sent_is_repeated(fake: FakeServer, moments: Moments) -> None:
    for error in (LOST, BUSY):
        fake.fail(error)
        with pytest.raises(type(error)):
            ask(fake, moments.settings(), options=Options(retry=False))
    assert len(fake.sent) == 2
    fake.fail(REFUSED)
    ask(fake, moments.settings(), options=Options(retry=False))
    assert len(fake.sent) == 4


def test_attempts_are_limited_and_fewer_to_a_server_never_met(moments: Moments) -> None:
    fake = fake_server()
    fake.fail(*[BUSY] * 99)
    with pytest.raises(OverloadedError):
        ask(fake, replace(moments.settings(), retry=replace(STEADY, attempts=4), breaker=Breaker(failures=99)))
    assert len(fake.sent) == 4

    class Nobody(FakeServer):
        """Answers nothing at all."""

        asked = 0

        def ask(self, *_: object) -> object:
            self.asked += 1
            raise REFUSED

    nobody = Nobody({})
    with pytest.raises(UnreachableError):
        InferenceClient(settings=moments.settings(), transports=[nobody]).infer("double", ROWS[:1])
    assert nobody.asked == Retry().attempts_unmet


def test_retries_are_paid_from_a_budget(fake: FakeServer, moments: Moments) -> None:
    retry = Retry(budget=0.1, burst=2, first_wait_s=0)
    settings = replace(moments.settings(), retry=retry, breaker=Breaker(failures=10**6))
    client = InferenceClient(settings=settings, transports=[fake])
    client.infer("double", ROWS[:1])
    fake.sent.clear()
    fake.fail(*[BUSY] * 10**4)
    for _ in range(100):
        with pytest.raises(OverloadedError):
            client.infer("double", ROWS[:1])
    assert 100 + 10 <= len(fake.sent) <= 100 + 13  # a tenth of the requests, and the burst


def test_no_attempt_begins_that_the_deadline_would_cut_off(fake: FakeServer, moments: Moments) -> None:
    fake.fail(*[BUSY] * 99)
    retry = replace(STEADY, attempts=99, first_wait_s=1, longest_wait_s=1)
    with pytest.raises(OverloadedError):
        ask(fake, replace(moments.settings(), retry=retry, breaker=Breaker(failures=99)), timeout_s=2.2)
    assert moments.now_s == 1002.0
    attempts = [attempt.timeout_s for _, attempt in fake.sent]
    assert attempts == pytest.approx([2.2, 1.7, 1.2, 0.7, 0.2])  # what is left of the one deadline


class Down(FakeServer):
    """Refuses every inference until the clock says otherwise."""

    def __init__(self, moments: Moments, until_s: float) -> None:
        super().__init__({"double": doubler()})
        self._moments = moments
        self._until_s = until_s

    def infer(self, call: Infer, attempt: Attempt) -> Answer:
        if self._moments.now_s < self._until_s:
            self.fail(BUSY)
        return super().infer(call, attempt)


def test_an_open_breaker_lets_one_try_at_growing_intervals_and_then_all(moments: Moments) -> None:
    down = Down(moments, 1010.0)
    settings = replace(moments.settings(), retry=replace(STEADY, attempts=99, first_wait_s=0, longest_wait_s=0))
    settings = replace(settings, breaker=Breaker(failures=5, open_s=1, longest_open_s=4, spread_s=0.2))
    answer = ask(down, settings)
    np.testing.assert_array_equal(answer["y"], ROWS[:2] * 2)
    # five failures at once; then one attempt after 1, 2, 4, 4 s, each and half the spread later
    assert len(down.sent) == 5 + 4
    assert moments.now_s == pytest.approx(1011.4)
    states = [event.state for event in moments.events if isinstance(event, BreakerChanged)]
    assert states == ["open", *["half_open", "open"] * 3, "half_open", "closed"]


def test_an_open_breaker_holds_requests_until_their_deadline(moments: Moments) -> None:
    down = Down(moments, 2000.0)
    settings = replace(moments.settings(), breaker=Breaker(failures=1, open_s=10, longest_open_s=10))
    with pytest.raises(DeadlineError, match=r"did not answer within 3 s; an attempt before failed: busy"):
        ask(down, settings, timeout_s=3)
    assert moments.now_s == pytest.approx(1003.0)
    assert len(down.sent) == 1


def test_or_refuses_them_at_once_if_told_so(moments: Moments) -> None:
    down = Down(moments, 2000.0)
    settings = replace(moments.settings(), breaker=Breaker(failures=1, wait=False))
    with pytest.raises(CircuitOpenError, match=r"the last 1 requests or more for 'double' failed at 127\.0\.0\.1:8000"):
        ask(down, settings)
    assert len(down.sent) == 1


def test_a_breaker_is_that_of_one_model(moments: Moments) -> None:
    class HalfDown(FakeServer):
        """One of its models is broken."""

        def infer(self, call: Infer, attempt: Attempt) -> Answer:
            if call.model == "bad":
                self.fail(BUSY)
            return super().infer(call, attempt)

    server = HalfDown({"bad": doubler(), "double": doubler()})
    settings = replace(moments.settings(), breaker=Breaker(failures=1, wait=False))
    client = InferenceClient(settings=settings, transports=[server])
    for _ in range(3):
        with pytest.raises((OverloadedError, CircuitOpenError)):
            client.infer("bad", ROWS[:1])
        client.infer("double", ROWS[:1])


def test_a_model_that_was_there_a_moment_ago_is_waited_for(fake: FakeServer, moments: Moments) -> None:
    fake.fail(UnknownModelError("is not found"), UnknownModelError("is not found"))
    assert ask(fake, moments.settings())["y"].shape == (2, 2)
    with pytest.raises(UnknownModelError, match="does not serve model 'nope'"):
        InferenceClient(settings=moments.settings(), transports=[fake]).infer("nope", ROWS)


def two(moments: Moments, **changes: object) -> tuple[InferenceClient, FakeServer, FakeServer]:
    """A client of two servers."""
    left, right = fake_server(), fake_server()
    settings = replace(moments.settings(), **changes)  # type: ignore[arg-type]
    client = InferenceClient(["a:1", "b:1"], settings=settings, transports=[left, right])
    client.metadata("double")
    return client, left, right


def test_a_retry_goes_to_the_other_server(moments: Moments) -> None:
    client, left, right = two(moments)
    left.fail(LOST)
    right.fail(LOST)
    client.infer("double", ROWS[:1])
    assert (len(left.sent), len(right.sent)) in ((2, 1), (1, 2))


def test_a_server_with_an_open_breaker_gets_nothing(moments: Moments) -> None:
    client, left, right = two(moments, breaker=Breaker(failures=1, open_s=100, longest_open_s=100))
    left.fail(*[LOST] * 99)
    for _ in range(20):
        client.infer("double", ROWS[:1])
    assert len(left.sent) <= 1
    assert len(right.sent) == 20


def test_requests_go_where_the_fewest_are_under_way(moments: Moments) -> None:
    client, left, right = two(moments)
    held = threading.Event()
    slow, quick = (left, right)

    def wait(inputs: Arrays) -> Arrays:
        held.wait(10)
        return {"y": inputs["x"]}

    for server in (left, right):
        server._models = {"double": replace(doubler(), answer=wait)}
    first = threading.Thread(target=client.infer, args=("double", ROWS[:1]))
    first.start()
    while not left.sent and not right.sent:
        pass
    slow, quick = (left, right) if left.sent else (right, left)
    quick._models = {"double": doubler()}
    for _ in range(10):
        client.infer("double", ROWS[:1])
    held.set()
    first.join()
    assert (len(slow.sent), len(quick.sent)) == (1, 10)


def slowly(held: threading.Event) -> Callable[[Arrays], Arrays]:
    """A model that waits until it is let go."""

    def answer(inputs: Arrays) -> Arrays:
        held.wait(10)
        return {"y": -inputs["x"]}

    return answer


def test_a_hedge_goes_to_the_other_server_and_the_first_answer_counts() -> None:
    client, left, right = two(Moments(), hedge=Hedge(after_s=0.05))
    answers = []
    for server, other in ((left, right), (right, left)):
        held = threading.Event()
        server._models = {"double": FakeModel(slowly(held), doubler().inputs, doubler().outputs, 4)}
        other._models = {"double": doubler()}
        answers += [client.infer("double", ROWS[:1])["y"] for _ in range(20)]
        held.set()
    assert all((answer == ROWS[:1] * 2).all() for answer in answers)
    assert len(left.sent) + len(right.sent) > len(answers)


def test_without_an_answer_from_either_the_first_error_counts(moments: Moments) -> None:
    client, left, right = two(moments, hedge=Hedge(after_s=0.05), retry=Retry(attempts=1))
    for server in (left, right):
        server.fail(RefusedError("wrong"))
    with pytest.raises(RefusedError, match="wrong"):
        client.infer("double", ROWS[:1])


def test_a_cancelled_request_ends_and_stays_ended(fake: FakeServer, moments: Moments) -> None:
    cancellation = Cancellation()
    fake.fail(*[BUSY] * 9)
    real = replace(moments.settings(), clock=Settings().clock, retry=replace(STEADY, first_wait_s=9, longest_wait_s=9))
    timer = threading.Timer(0.1, cancellation.cancel)
    timer.start()
    with pytest.raises(AbandonedError):
        ask(fake, real, options=Options(cancellation=cancellation))
    with pytest.raises(AbandonedError):
        ask(fake, real, options=Options(cancellation=cancellation))
    timer.join()


def test_a_batch_in_parts_is_all_or_nothing(fake: FakeServer, moments: Moments) -> None:
    np.testing.assert_array_equal(ask(fake, moments.settings())["y"], ROWS[:2] * 2)
    client = InferenceClient(settings=moments.settings(), transports=[fake])
    fake.sent.clear()
    np.testing.assert_array_equal(client.infer("double", ROWS)["y"], ROWS * 2)
    assert [len(call.inputs["x"]) for call, _ in fake.sent] == [4, 4, 4]
    fake.fail(RefusedError("wrong"))
    with pytest.raises(RefusedError, match="wrong"):
        client.infer("double", ROWS)


def test_the_headers_of_an_attempt(fake: FakeServer, moments: Moments) -> None:
    tokens = iter(["first", "second", "third", "fourth", "fifth"])
    parent = f"00-{'a' * 32}-{'b' * 16}-01"
    settings = replace(
        moments.settings(), headers={"X-Team": "vision"}, token=lambda: next(tokens), traceparent=lambda: parent
    )
    fake.fail(BUSY)
    ask(fake, settings)
    sent = [dict(attempt.headers) for _, attempt in fake.sent]
    assert [headers["authorization"] for headers in sent] == ["Bearer fourth", "Bearer fifth"]
    assert all(headers["x-team"] == "vision" for headers in sent)
    spans = {headers["traceparent"] for headers in sent} | {parent}
    assert len(spans) == 3  # a span for each attempt
    assert {span[:36] for span in spans} == {parent[:36]}
    assert {span[52:] for span in spans} == {"-01"}


def test_events_tell_the_story(fake: FakeServer, moments: Moments) -> None:
    fake.fail(BUSY)
    ask(fake, moments.settings(), options=Options(request_id="r7"))
    attempts = [event for event in moments.events if isinstance(event, AttemptEnded) and event.request_id]
    assert [(event.number, event.outcome) for event in attempts] == [(1, "OverloadedError"), (2, "ok")]
    (ended,) = [event for event in moments.events if isinstance(event, RequestEnded)]
    assert (ended.outcome, ended.request_id, ended.subject.model) == ("ok", "r7", "double")
    assert ended.seconds == pytest.approx(0.05)


def test_metadata_is_asked_once_and_again_after_a_refusal(fake: FakeServer, moments: Moments) -> None:
    asked = []
    real = fake.ask

    def ask_(question: object, attempt: object) -> object:
        asked.append(question.topic)  # type: ignore[attr-defined]
        return real(question, attempt)  # type: ignore[arg-type]

    fake.ask = ask_  # type: ignore[method-assign]
    client = InferenceClient(settings=moments.settings(), transports=[fake])
    for _ in range(3):
        client.infer("double", ROWS[:1])
    assert asked == ["metadata", "config", "server"]
    fake.fail(RefusedError("unexpected shape"))
    with pytest.raises(RefusedError):
        client.infer("double", ROWS[:1])
    client.infer("double", ROWS[:1])
    assert asked[3:] == ["metadata", "config"]


def test_asyncio_runs_the_same_logic(moments: Moments) -> None:
    fake = fake_server()
    settings = replace(moments.settings(), hedge=Hedge(after_s=5))

    async def main() -> None:
        async with AsyncInferenceClient(settings=settings, transports=[AsyncFakeServer(fake)]) as client:
            assert await client.is_live() and await client.is_ready("double") and not await client.is_ready("nope")
            fake.fail(BUSY, LOST)
            np.testing.assert_array_equal((await client.infer("double", ROWS))["y"], ROWS * 2)
            assert len(fake.sent) == 5
            with pytest.raises(SignatureError):
                await client.infer("double", ROWS.astype(np.int64))
            fake.fail(RefusedError("wrong"))
            with pytest.raises(RefusedError, match="wrong"):
                await client.infer("double", ROWS)
            assert (await client.served())[0].model == "double"

    asyncio.run(main())
    assert moments.slept_s


def test_a_cancelled_task_frees_the_breaker_for_the_next_try(moments: Moments) -> None:
    class Stuck(AsyncFakeServer):
        """Never answers."""

        async def infer(self, call: Infer, attempt: Attempt) -> Answer:
            await asyncio.sleep(60)
            return await super().infer(call, attempt)

    async def main() -> None:
        settings = replace(moments.settings(), breaker=Breaker(failures=1))
        client = AsyncInferenceClient(settings=settings, transports=[Stuck(fake_server())])
        await client.metadata("double")
        (server,) = client._dialogue.servers
        circuit = server.circuit("double")
        circuit.failed(moments.now_s)
        moments.now_s += 10
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.infer("double", ROWS[:1]), 0.05)
        assert (circuit.state, server.under_way) == ("open", 0)
        assert circuit.admit(moments.now_s) == 0

    asyncio.run(main())


def test_settings_that_cannot_be_are_one_sentence() -> None:
    for wrong in (
        lambda: Retry(attempts=0),
        lambda: Retry(first_wait_s=3),
        lambda: Breaker(failures=0),
        lambda: Breaker(open_s=9),
        lambda: Hedge(after_s=0),
        lambda: Settings(max_answer_bytes=0),
        lambda: Options(timeout_s=0),
        lambda: Options(priority=-1),
        lambda: InferenceClient(timeout_s=0),
        lambda: InferenceClient(["a:1", "b:1"], transports=[fake_server()]),
    ):
        with pytest.raises(InputError, match=r"must|seconds above 0|give as many"):
            wrong()
