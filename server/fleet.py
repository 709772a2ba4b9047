"""All models on one life of the server: loaded side by side, watched, loaded again when one falls ill, and replaced by
what is published meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Final

from server import regions
from server.assemble import Assembly
from server.budget import RestartBudget
from server.canary import try_out
from server.errors import AnswerError, NoAnswerError
from server.loading import diagnose, load, load_best, not_loaded
from server.options import ModelState, Refusal, ServeOptions
from server.probe import Probe
from server.repository import served_names
from server.stubs import Stub, find_stubs
from server.wanted import Mark, Wanted, read_wanted

# As many as Triton itself would.
PARALLEL_LOADS: Final = 4
TICK_S: Final = 0.1


@dataclass(frozen=True)
class Attempt:
    """What came of loading a model. `refused`: why an older version stands in for those that its folder asks for."""

    states: tuple[ModelState, ...]
    refused: str
    wanted: Wanted


class Fleet:
    """Used from one thread; `states` and `refused` may be read from any."""

    def __init__(
        self,
        probe: Probe,
        options: ServeOptions,
        assembly: Assembly,
        names: tuple[str, ...],
        shm_prefix: str,
        tell: Callable[[str], None],
    ) -> None:
        """`names` are the models to load at the start."""
        self._probe, self._options, self._assembly, self._tell = probe, options, assembly, tell
        self._shm_prefix = shm_prefix
        self.states: dict[str, tuple[ModelState, ...]] = {name: (not_loaded(name, "loading"),) for name in names}
        self.refused: dict[str, Refusal] = {}
        self.reloads = 0
        self._budgets = {name: self._budget() for name in names}
        self._stubs: tuple[Stub, ...] = ()
        self._leaving: frozenset[int] = frozenset()  # processes that may be about to end, their version being replaced
        self._due: dict[str, float] = {}
        self._marks: dict[str, Mark] = {}  # what was loaded, or tried in vain
        self._seen: dict[str, Mark] = {}  # what was found changed at the last look
        self._goldens_due = self._look_due = 0.0

    @property
    def hopeless(self) -> bool:
        """Whether no model is ready and none will be tried again."""
        return not self._due and not any(state.ready for states in self.states.values() for state in states)

    def reasons(self) -> str:
        """Each model that is not ready, with the cause."""
        rows = (state for states in self.states.values() for state in states if not state.ready)
        return "; ".join(f"{state.name}: {state.reason}" for state in rows)

    def load_all(self, interrupted: Callable[[], bool]) -> None:
        """Loads every model; leaves early when `interrupted` says so."""
        pool = ThreadPoolExecutor(PARALLEL_LOADS, thread_name_prefix="load")
        waiting = {pool.submit(self._load, name): name for name in self.states}
        while waiting and not interrupted():
            for future in wait(waiting, TICK_S, FIRST_COMPLETED).done:
                self._note(waiting.pop(future), future.result())
        pool.shutdown(wait=False, cancel_futures=True)
        self._count_stubs()
        # What nobody named and the server loaded all the same: the steps of an ensemble.
        for model in sorted({stub.model for stub in self._stubs} - set(self.states)):
            self._take_on(model)
        self._goldens_due = time.monotonic() + self._options.golden_interval_s
        self._look_due = time.monotonic() + self._options.look_interval_s

    def tend(self) -> None:
        """One look at all models. Takes long only while one is loaded."""
        for stub in [stub for stub in self._stubs if not stub.alive]:
            self._bury(stub)
        for model in [model for model, at in self._due.items() if at <= time.monotonic()]:
            self._reload(model)
        if self._options.look_interval_s and time.monotonic() >= self._look_due:
            self._look()
            self._look_due = time.monotonic() + self._options.look_interval_s
        if self._options.golden_interval_s and time.monotonic() >= self._goldens_due:
            self._check_goldens()
            self._goldens_due = time.monotonic() + self._options.golden_interval_s

    def _budget(self) -> RestartBudget:
        return RestartBudget(self._options.restart_limit, self._options.restart_window_s)

    def _load(self, model: str) -> Attempt:
        repository = self._options.repository
        wanted = read_wanted(repository / model)
        states, refused = load_best(self._probe, repository, model, self._options.start_timeout_s)
        states = tuple(replace(row, reason=self._real(row.reason)) for row in states)
        return Attempt(states, self._real(refused), wanted)

    def _real(self, reason: str) -> str:
        """A reason with the repository's path, not that of the server's link to it."""
        return reason.replace(str(self._assembly.repository), str(self._options.repository))

    def _note(self, model: str, attempt: Attempt) -> None:
        self.states[model], self._marks[model] = attempt.states, attempt.wanted.mark
        self.refused.pop(model, None)
        if attempt.refused:
            self._refuse(model, attempt.wanted, attempt.refused)
        for state in attempt.states:
            version = f" version {state.version}" if state.version else ""
            golden = "its golden answers are right" if state.golden else state.reason
            self._tell(f"{model}{version} is {'ready' if state.ready else 'NOT ready'}: {golden}")

    def _refuse(self, model: str, wanted: Wanted, why: str) -> None:
        self.refused[model] = Refusal(wanted.versions, why, time.time())
        asked, serving = _list(wanted.versions), _list(state.version for state in self.states[model] if state.ready)
        self._tell(f"{model} version {asked} is refused, {serving} serves on: {why}")

    def _plan(self, model: str, why: str) -> None:
        """Has a model loaded again, after a while, unless that was tried too often."""
        self._stubs = tuple(stub for stub in self._stubs if stub.model != model or stub.alive)
        if model in self._due:
            return
        delay_s = self._budgets[model].spend()
        if delay_s is None:
            limit, window_s = self._options.restart_limit, self._options.restart_window_s
            why = f"given up after {limit} reloads within {window_s:g} s: {why}"
            self._unload(model)
        else:
            self._due[model] = time.monotonic() + delay_s
        self.states[model] = tuple(replace(state, ready=False, reason=why) for state in self.states[model])
        self._tell(f"{model} is NOT ready: {why}" + ("" if delay_s is None else "; it is loaded again"))

    def _reload(self, model: str) -> None:
        """Unload and load: only both together make the server start a new stub in a dead one's place."""
        del self._due[model]
        self.reloads += 1
        self._unload(model)
        attempt = self._load(model)
        self._note(model, attempt)
        self._count_stubs()
        if not any(state.ready for state in attempt.states):
            self._plan(model, attempt.states[0].reason)

    def _look(self) -> None:
        """Follows what was published, rolled back or removed. A change must look the same twice: a publisher may be in
        its midst. An empty repository changes nothing: rather it is not mounted, or being moved."""
        names = served_names(self._options.repository, self._options.models)
        for model in sorted(set(self.states) - set(names)) if names else ():
            if not (self._options.repository / model).is_dir():
                self._dismiss(model)
        for model in names:
            wanted = read_wanted(self._options.repository / model)
            if wanted.mark == self._marks.get(model):
                self._seen.pop(model, None)
            elif self._seen.get(model) != wanted.mark:
                self._seen[model] = wanted.mark
            elif any(state.ready for state in self.states.get(model, ())):
                self._renew(model, wanted)
            elif model not in self._due:
                self._take_on(model)

    def _take_on(self, model: str) -> None:
        """Loads a model of which nothing serves."""
        self._budgets[model] = self._budget()
        self._note(model, self._load(model))
        self._count_stubs()

    def _dismiss(self, model: str) -> None:
        self._unload(model)
        for known in (self.states, self.refused, self._budgets, self._due, self._marks, self._seen):
            known.pop(model, None)
        self._tell(f"{model} was removed from the repository, and is served no longer")

    def _renew(self, model: str, wanted: Wanted) -> None:
        """Puts what the folder asks for in the place of what serves, if it proves itself beside it. The server sends
        requests to the new version once it is ready, and lets the old one finish what it has."""
        repository, timeout_s = self._options.repository, self._options.start_timeout_s
        self._marks[model] = wanted.mark
        why = try_out(self._probe, self._assembly.canaries, repository / model, wanted, timeout_s, self._unload)
        if why:
            self._refuse(model, wanted, self._real(why))
            return
        leaving = {stub.pid for stub in find_stubs(self._shm_prefix) if stub.model == model}
        states = load(self._probe, repository, model, timeout_s, wanted.versions)
        if any(state.ready for state in states):
            self._note(model, Attempt(states, "", wanted))
        else:
            self._note(model, self._load(model))
        self._leaving = self._leaving | leaving
        self._count_stubs()

    def _count_stubs(self) -> None:
        """Which processes there are now. One of a model that was refused something may still be on its way out."""
        self._stubs = find_stubs(self._shm_prefix)
        self._leaving = self._leaving | {stub.pid for stub in self._stubs if stub.model in self.refused}

    def _bury(self, stub: Stub) -> None:
        """A process has ended. If it may have been one of those that were to, the model's answers tell."""
        expected = stub.pid in self._leaving and not any(map(self._complaint, self.states.get(stub.model, ())))
        self._leaving = self._leaving - {stub.pid}
        if expected:
            self._stubs = tuple(other for other in self._stubs if other != stub)
        elif stub.model in self.states:
            self._plan(stub.model, f"its process {stub.pid} died")

    def _unload(self, model: str) -> None:
        try:
            self._probe.unload(model)
        except (AnswerError, NoAnswerError) as error:
            self._tell(f"{model} could not be unloaded: {error}")
        self._kill_stubs(model)  # the server forgets one that hangs, and its memory with it
        self._stubs = find_stubs(self._shm_prefix)
        regions.remove(self._shm_prefix, keep={stub.region for stub in self._stubs})

    def _kill_stubs(self, model: str) -> None:
        for stub in find_stubs(self._shm_prefix):
            if stub.model == model:
                stub.kill()

    def _check_goldens(self) -> None:
        for model, states in self.states.items():
            complaint = next(filter(None, map(self._complaint, states)), "")
            if complaint:
                self._kill_stubs(model)  # it may hang, and unloading would wait for it
                self._plan(model, complaint)

    def _complaint(self, state: ModelState) -> str:
        """What has gone wrong with a version that was ready, or nothing."""
        if not (state.ready and state.golden):
            return ""
        try:
            return diagnose(self._probe, self._options.repository, state)
        except (AnswerError, NoAnswerError):
            return ""  # the server's own health is watched elsewhere


def _list(versions: Iterable[int]) -> str:
    return ", ".join(map(str, versions)) or "none"
