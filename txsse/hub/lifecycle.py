"""
The life of a hub, as a table of states.

Strategy: a *new* hub has not been used; it is *starting* while its journal starts, and *live* afterwards. A
journal that cannot be started leaves the hub new: the next use tries again. A hub that is stopped is
*draining* until its channels are closed and its journal has ended, and then *stopped* for good.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Protocol

from automat import TypeMachineBuilder
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger

from txsse._waiters import SharedCall
from txsse.errors import HubStopped

__all__ = ["Lifecycle"]

_log = Logger()

_Work = Callable[[], Coroutine[Deferred[object], object, None]]

# What to do once the machine is in its new state: a machine takes no input that returns something while it is
# between two states, and what a hub does may use the hub.
_Step = Callable[[], Deferred[None]]


class Inputs(Protocol):
    """
    What happens to a hub.
    """

    def start(self) -> _Step:
        """
        The hub is used.
        """

    def started(self) -> None:
        """
        The journal has been started.
        """

    def not_started(self) -> None:
        """
        The journal cannot be started.
        """

    def stop(self) -> _Step:
        """
        The hub is stopped.
        """

    def drained(self) -> None:
        """
        The channels are closed, and the journal has ended.
        """


class Steps(Protocol):
    """
    What a hub does.
    """

    def start_journal(self) -> Deferred[None]:
        """
        Start the journal, or wait until it has been started.
        """

    def await_journal(self) -> Deferred[None]:
        """
        Wait for a journal that is being started; fail if none is.
        """

    def drain(self) -> Deferred[None]:
        """
        Drain the hub, or wait until it has been drained.
        """

    def end(self) -> None:
        """
        Take note of the end.
        """


def _done() -> Deferred[None]:
    return succeed(None)


def _refuse() -> Deferred[None]:
    return fail(HubStopped())


# Automat wants a class to name, and is content with a protocol.
_builder = TypeMachineBuilder(Inputs, Steps)  # type: ignore[type-abstract]

_new = _builder.state("new")
_starting = _builder.state("starting")
_live = _builder.state("live")
_draining = _builder.state("draining")
_stopped = _builder.state("stopped")


@_new.upon(Inputs.start).to(_starting)
def _start(inputs: Inputs, steps: Steps) -> _Step:
    return steps.start_journal


@_starting.upon(Inputs.start).loop()
def _join(inputs: Inputs, steps: Steps) -> _Step:
    return steps.start_journal


@_live.upon(Inputs.start).loop()
def _is_live(inputs: Inputs, steps: Steps) -> _Step:
    return _done


@_draining.upon(Inputs.start).loop()
def _await(inputs: Inputs, steps: Steps) -> _Step:
    return steps.await_journal


@_stopped.upon(Inputs.start).loop()
def _is_over(inputs: Inputs, steps: Steps) -> _Step:
    return _refuse


_starting.upon(Inputs.started).to(_live).returns(None)
_starting.upon(Inputs.not_started).to(_new).returns(None)


@_new.upon(Inputs.stop).to(_draining)
def _stop_new(inputs: Inputs, steps: Steps) -> _Step:
    return steps.drain


@_starting.upon(Inputs.stop).to(_draining)
def _stop_starting(inputs: Inputs, steps: Steps) -> _Step:
    return steps.drain


@_live.upon(Inputs.stop).to(_draining)
def _stop_live(inputs: Inputs, steps: Steps) -> _Step:
    return steps.drain


@_draining.upon(Inputs.stop).loop()
def _stop_again(inputs: Inputs, steps: Steps) -> _Step:
    return steps.drain


@_stopped.upon(Inputs.stop).loop()
def _is_stopped(inputs: Inputs, steps: Steps) -> _Step:
    return _done


@_draining.upon(Inputs.drained).to(_stopped)
def _drained(inputs: Inputs, steps: Steps) -> None:
    steps.end()


for _state in (_draining, _stopped):
    # The journal answers after all.
    _state.upon(Inputs.started).loop().returns(None)
    _state.upon(Inputs.not_started).loop().returns(None)

_new_machine = _builder.build()


class Lifecycle:
    """
    Where a hub is in its life.

    :param start: starts the hub's journal.
    :ivar is_stopping: whether the hub has been stopped, drained or not.
    :ivar is_stopped: whether it has been drained.
    """

    def __init__(self, start: _Work) -> None:
        self.is_stopping = False
        self.is_stopped = False
        self._start = start
        self._drain: _Work | None = None
        self._starting: SharedCall[None] = SharedCall()
        self._stopping: SharedCall[None] = SharedCall()
        self._has_started = False
        self._machine = _new_machine(self)

    @property
    def has_journal(self) -> bool:
        """
        Whether the journal has been started, or is being started.
        """
        return self._has_started or self._starting.is_running

    def start(self) -> Deferred[None]:
        """
        Start the journal, unless it has been started.

        :returns: a Deferred that fails with the journal's error, and with
            :exc:`~txsse.errors.HubStopped`.
        """
        return self._machine.start()()

    def stop(self, drain: _Work) -> Deferred[None]:
        """
        Stop the hub, unless it has been stopped.

        :param drain: closes the channels, and stops the journal.
        :returns: a Deferred that fires when that is done, and never fails.
        """
        if not self.is_stopping:
            self.is_stopping = True
            self._drain = drain
        return self._machine.stop()()

    def start_journal(self) -> Deferred[None]:
        """
        Start the journal, or join its start.
        """
        return self._starting.join(self._start_now)

    async def _start_now(self) -> None:
        try:
            await self._start()
        except BaseException:
            # A cancelled start, too, is no start.
            self._machine.not_started()
            raise
        self._has_started = True
        self._machine.started()

    def await_journal(self) -> Deferred[None]:
        """
        Join the start of the journal.
        """
        if self._starting.is_running:
            return self._starting.join(self._start_now)
        return succeed(None) if self._has_started else fail(HubStopped())

    def drain(self) -> Deferred[None]:
        """
        Drain the hub, or join that.
        """
        return self._stopping.join(self._drain_now)

    async def _drain_now(self) -> None:
        assert self._drain is not None
        try:
            await self._drain()
        except Exception:
            _log.failure("the journal did not stop well")
        self._machine.drained()

    def end(self) -> None:
        """
        Take note of the end.
        """
        self.is_stopped = True
