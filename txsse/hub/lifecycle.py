"""
The lifecycle of a hub, as a state machine.

Strategy: a *new* hub has not been used; it is *starting* while its journal starts, and *live* afterwards. If
the journal cannot be started, the hub is new again, and its next use tries again. A hub that is stopped is
*draining* until its channels are closed and its journal has stopped, and then *stopped* permanently.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Protocol

from automat import TypeMachineBuilder
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger

from txsse._waiters import SharedCall, Waiters
from txsse.errors import HubStopped

__all__ = ["Lifecycle"]

_log = Logger()

_Work = Callable[[], Coroutine[Deferred[object], object, None]]

# The work to do after a transition. The machine cannot process another input within a transition, and this
# work may use the hub.
_Step = Callable[[], Deferred[None]]


class Inputs(Protocol):
    """
    The inputs of the state machine: what happens to a hub.
    """

    def start(self) -> _Step:
        """
        Report that the hub is used.
        """

    def started(self) -> None:
        """
        Report that the journal has been started.
        """

    def not_started(self) -> None:
        """
        Report that the journal cannot be started.
        """

    def stop(self) -> _Step:
        """
        Report that the hub is to be stopped.
        """

    def drained(self) -> None:
        """
        Report that the channels are closed, and that the journal has stopped.
        """


class Steps(Protocol):
    """
    The outputs of the state machine: what a hub does.
    """

    def start_journal(self) -> Deferred[None]:
        """
        Start the journal, or wait until it has been started.
        """

    def await_journal(self) -> Deferred[None]:
        """
        Wait for a journal that is being started. Fail if the journal has not been started.
        """

    def drain(self) -> Deferred[None]:
        """
        Drain the hub, or wait until it has been drained.
        """

    def end(self) -> None:
        """
        Mark the hub as stopped.
        """


def _done() -> Deferred[None]:
    return succeed(None)


def _refuse() -> Deferred[None]:
    return fail(HubStopped())


# Automat is typed for a class, but accepts a protocol.
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
    # A start that was under way when the hub was stopped ends.
    _state.upon(Inputs.started).loop().returns(None)
    _state.upon(Inputs.not_started).loop().returns(None)

_new_machine = _builder.build()


class Lifecycle:
    """
    The state of a hub, and the transitions that its users cause.

    :param start: starts the hub's journal.
    :ivar is_stopping: whether ``stop`` has been called.
    :ivar is_stopped: whether the hub has been drained.
    """

    def __init__(self, start: _Work) -> None:
        self.is_stopping = False
        self.is_stopped = False
        self._start = start
        self._drain: _Work | None = None
        self._starting: SharedCall[None] = SharedCall()
        self._stopping: SharedCall[None] = SharedCall()
        self._stops: Waiters[None] = Waiters()
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

        :returns: a Deferred that fires when the journal has been started. It fails with the journal's error,
            and with :exc:`~txsse.errors.HubStopped`.
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
            self._stops.fire(None)
        return self._machine.stop()()

    def when_stopping(self) -> Deferred[None]:
        """
        Return a Deferred that fires when :meth:`stop` is called.
        """
        return succeed(None) if self.is_stopping else self._stops.wait()

    def start_journal(self) -> Deferred[None]:
        """
        Start the journal, or join a start that is under way.
        """
        return self._starting.join(self._start_now)

    async def _start_now(self) -> None:
        try:
            await self._start()
        except BaseException:
            # A start that is cancelled has failed, too.
            self._machine.not_started()
            raise
        self._has_started = True
        self._machine.started()

    def await_journal(self) -> Deferred[None]:
        """
        Join a start of the journal that is under way; fail if the journal was never started.
        """
        if self._starting.is_running:
            return self._starting.join(self._start_now)
        return succeed(None) if self._has_started else fail(HubStopped())

    def drain(self) -> Deferred[None]:
        """
        Drain the hub, or join a drain that is under way.
        """
        return self._stopping.join(self._drain_now)

    async def _drain_now(self) -> None:
        assert self._drain is not None
        try:
            await self._drain()
        except Exception:
            _log.failure("the hub did not shut down cleanly")
        self._machine.drained()

    def end(self) -> None:
        """
        Mark the hub as stopped.
        """
        self.is_stopped = True
