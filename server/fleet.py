"""All models on one life of the server: loaded side by side, watched, and loaded again when one falls ill."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Final

from server import regions
from server.budget import RestartBudget
from server.errors import AnswerError, NoAnswerError
from server.loading import diagnose, load, not_loaded
from server.options import ModelState, ServeOptions
from server.probe import Probe
from server.stubs import Stub, find_stubs

# As many as Triton itself would. Each occupies one of its eight HTTP threads: clients whose connection that thread
# serves wait until the model is loaded. (gRPC has threads of its own.)
PARALLEL_LOADS: Final = 4
TICK_S: Final = 0.1


class Fleet:
    """Used from one thread; `states` may be read from any."""

    def __init__(
        self,
        probe: Probe,
        options: ServeOptions,
        link: Path,
        names: tuple[str, ...],
        shm_prefix: str,
        tell: Callable[[str], None],
    ) -> None:
        """`link` is the repository's path as the server knows it."""
        self._probe, self._options, self._link, self._shm_prefix, self._tell = probe, options, link, shm_prefix, tell
        self.states: dict[str, tuple[ModelState, ...]] = {name: (not_loaded(name, "loading"),) for name in names}
        self.reloads = 0
        self._budgets = {name: RestartBudget(options.restart_limit, options.restart_window_s) for name in names}
        self._stubs: tuple[Stub, ...] = ()
        self._due: dict[str, float] = {}
        self._goldens_due = 0.0

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
        self._stubs = find_stubs(self._shm_prefix)
        self._adopt()
        self._goldens_due = time.monotonic() + self._options.golden_interval_s

    def _adopt(self) -> None:
        """Takes care of the models that nobody named and the server loaded all the same: an ensemble's steps."""
        for model in sorted({stub.model for stub in self._stubs} - set(self.states)):
            self._budgets[model] = RestartBudget(self._options.restart_limit, self._options.restart_window_s)
            self._note(model, self._load(model))

    def tend(self) -> None:
        """One look at all models. Takes long only while one is loaded again."""
        for stub in [stub for stub in self._stubs if not stub.alive]:
            self._plan(stub.model, f"its process {stub.pid} died")
        for model in [model for model, at in self._due.items() if at <= time.monotonic()]:
            self._reload(model)
        if self._options.golden_interval_s and time.monotonic() >= self._goldens_due:
            self._check_goldens()
            self._goldens_due = time.monotonic() + self._options.golden_interval_s

    def _load(self, model: str) -> tuple[ModelState, ...]:
        repository = self._options.repository
        states = load(self._probe, repository, model, self._options.start_timeout_s)
        return tuple(replace(row, reason=row.reason.replace(str(self._link), str(repository))) for row in states)

    def _note(self, model: str, states: tuple[ModelState, ...]) -> None:
        self.states[model] = states
        for state in states:
            version = f" version {state.version}" if state.version else ""
            golden = "its golden answers are right" if state.golden else state.reason
            self._tell(f"{model}{version} is {'ready' if state.ready else 'NOT ready'}: {golden}")

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
        states = self._load(model)
        self._stubs = find_stubs(self._shm_prefix)
        self._note(model, states)
        if not any(state.ready for state in states):
            self._plan(model, states[0].reason)

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
            for state in states:
                if not (state.ready and state.golden):
                    continue
                try:
                    complaint = diagnose(self._probe, self._options.repository, state)
                except (AnswerError, NoAnswerError):
                    continue  # the server's own health is watched elsewhere
                if complaint:
                    self._kill_stubs(model)  # it may hang, and unloading would wait for it
                    self._plan(model, complaint)
                    break
