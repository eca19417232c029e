"""
The state machine of an event source: every transition between its states.
"""

from __future__ import annotations

from typing import Any

import pytest
from automat import NoTransition

from txsse.client.machine import Inputs, new_machine

ERROR = RuntimeError("x")

# The inputs that lead to each state.
WAYS: dict[str, list[str]] = {
    "idle": [],
    "connecting": ["start"],
    "open": ["start", "opened"],
    "waiting": ["start", "interrupted"],
    "closed": ["close"],
}

ARGUMENTS: dict[str, tuple[Any, ...]] = {"interrupted": (ERROR, 7.0), "refused": (ERROR,)}

# The steps and the new state of each transition; any other input has no effect.
TRANSITIONS: dict[tuple[str, str], tuple[list[tuple[Any, ...]], str]] = {
    ("idle", "start"): ([("connect",)], "connecting"),
    ("idle", "close"): ([("finish", None)], "closed"),
    ("connecting", "opened"): ([("announce",)], "open"),
    ("connecting", "interrupted"): ([("wait", ERROR, 7.0)], "waiting"),
    ("connecting", "refused"): ([("finish", ERROR)], "closed"),
    ("connecting", "close"): ([("disconnect",), ("finish", None)], "closed"),
    ("open", "interrupted"): ([("wait", ERROR, 7.0)], "waiting"),
    ("open", "refused"): ([("disconnect",), ("finish", ERROR)], "closed"),
    ("open", "close"): ([("disconnect",), ("finish", None)], "closed"),
    ("waiting", "due"): ([("connect",)], "connecting"),
    ("waiting", "refused"): ([("stop_waiting",), ("finish", ERROR)], "closed"),
    ("waiting", "close"): ([("stop_waiting",), ("finish", None)], "closed"),
}

NOTHING_HAPPENS = [
    *((state, "start") for state in ("connecting", "open", "waiting")),
    *(("closed", name) for name in ("start", "opened", "interrupted", "refused", "due", "close")),
]


class Recording:
    """
    Record the steps.
    """

    def __init__(self) -> None:
        self.done: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.done.append((name, *arguments))


def put(machine: Inputs, *inputs: str) -> None:
    for name in inputs:
        getattr(machine, name)(*ARGUMENTS.get(name, ()))


class MachineTests:
    @pytest.mark.parametrize(("state", "name"), TRANSITIONS)
    def test_transition(self, state: str, name: str) -> None:
        """
        In each state, each input of the table triggers the steps of the table, and leads to its state.
        """
        steps = Recording()
        machine = new_machine(steps)
        put(machine, *WAYS[state])
        steps.done.clear()
        put(machine, name)
        done, then = TRANSITIONS[state, name]
        assert steps.done == done
        assert self.state_of(machine, steps) == then

    @pytest.mark.parametrize(("state", "name"), NOTHING_HAPPENS)
    def test_ignored_input(self, state: str, name: str) -> None:
        """
        A second start, and any input after the end, has no effect.
        """
        steps = Recording()
        machine = new_machine(steps)
        put(machine, *WAYS[state])
        steps.done.clear()
        put(machine, name)
        assert steps.done == []
        assert self.state_of(machine, steps) == state

    def state_of(self, machine: Inputs, steps: Recording) -> str:
        """
        Return the state, by the inputs that it accepts.
        """
        for state, name in (("idle", "start"), ("waiting", "due"), ("connecting", "opened")):
            steps.done.clear()
            try:
                put(machine, name)
            except NoTransition:
                continue
            if steps.done:
                return state
        steps.done.clear()
        machine.close()
        return "open" if steps.done else "closed"
