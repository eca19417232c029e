"""
The states that an event source goes through, and what it does between them.

=============  ======================================================================
idle           nothing was asked yet
connecting     a request is on its way
open           the stream flows
waiting        the connection was lost, and it is not time yet for the next attempt
closed         for good
=============  ======================================================================

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#sse-processing-model
"""

from __future__ import annotations

from enum import IntEnum
from typing import Protocol

from automat import TypeMachineBuilder

__all__ = ["Inputs", "ReadyState", "Steps", "new_machine"]


class ReadyState(IntEnum):
    """
    The three states that the standard tells apart, by its numbers.
    """

    CONNECTING = 0
    OPEN = 1
    CLOSED = 2


class Inputs(Protocol):
    """
    What happens.
    """

    def start(self) -> None:
        """
        The user wants events.
        """

    def opened(self) -> None:
        """
        The reply opens a stream.
        """

    def interrupted(self, error: Exception, retry_after: float | None) -> None:
        """
        The connection failed, or the stream ended; another attempt makes sense.
        """

    def refused(self, error: Exception) -> None:
        """
        There is no stream, or none that can be read; another attempt is futile.
        """

    def due(self) -> None:
        """
        It is time for the next attempt.
        """

    def close(self) -> None:
        """
        The user wants no more.
        """


class Steps(Protocol):
    """
    What is done.
    """

    def connect(self) -> None:
        """
        Send the request.
        """

    def disconnect(self) -> None:
        """
        Give the request or the stream up.
        """

    def announce(self) -> None:
        """
        Tell that the stream is open.
        """

    def wait(self, error: Exception, retry_after: float | None) -> None:
        """
        Arrange for the next attempt.
        """

    def stop_waiting(self) -> None:
        """
        Call it off.
        """

    def finish(self, error: Exception | None) -> None:
        """
        Tell that it is over, and why; ``None`` where the user wanted it so.
        """


# Automat wants a class to name, and is content with a protocol.
_builder = TypeMachineBuilder(Inputs, Steps)  # type: ignore[type-abstract]

_idle = _builder.state("idle")
_connecting = _builder.state("connecting")
_open = _builder.state("open")
_waiting = _builder.state("waiting")
_closed = _builder.state("closed")


@_idle.upon(Inputs.start).to(_connecting)
def _begin(inputs: Inputs, steps: Steps) -> None:
    steps.connect()


@_idle.upon(Inputs.close).to(_closed)
def _never_began(inputs: Inputs, steps: Steps) -> None:
    steps.finish(None)


@_connecting.upon(Inputs.opened).to(_open)
def _flows(inputs: Inputs, steps: Steps) -> None:
    steps.announce()


@_connecting.upon(Inputs.interrupted).to(_waiting)
def _failed(inputs: Inputs, steps: Steps, error: Exception, retry_after: float | None) -> None:
    steps.wait(error, retry_after)


@_open.upon(Inputs.interrupted).to(_waiting)
def _lost(inputs: Inputs, steps: Steps, error: Exception, retry_after: float | None) -> None:
    steps.wait(error, retry_after)


@_connecting.upon(Inputs.refused).to(_closed)
def _futile(inputs: Inputs, steps: Steps, error: Exception) -> None:
    steps.finish(error)


@_open.upon(Inputs.refused).to(_closed)
def _unreadable(inputs: Inputs, steps: Steps, error: Exception) -> None:
    steps.disconnect()
    steps.finish(error)


@_waiting.upon(Inputs.refused).to(_closed)
def _gave_up(inputs: Inputs, steps: Steps, error: Exception) -> None:
    steps.stop_waiting()
    steps.finish(error)


@_waiting.upon(Inputs.due).to(_connecting)
def _again(inputs: Inputs, steps: Steps) -> None:
    steps.connect()


@_connecting.upon(Inputs.close).to(_closed)
def _call_off(inputs: Inputs, steps: Steps) -> None:
    steps.disconnect()
    steps.finish(None)


@_open.upon(Inputs.close).to(_closed)
def _hang_up(inputs: Inputs, steps: Steps) -> None:
    steps.disconnect()
    steps.finish(None)


@_waiting.upon(Inputs.close).to(_closed)
def _wait_no_more(inputs: Inputs, steps: Steps) -> None:
    steps.stop_waiting()
    steps.finish(None)


for _state in (_connecting, _open, _waiting):
    # It has begun already.
    _state.upon(Inputs.start).loop().returns(None)
for _input in (Inputs.start, Inputs.opened, Inputs.interrupted, Inputs.refused, Inputs.due, Inputs.close):
    # What was under way when the user closed it arrives afterwards, and changes nothing.
    _closed.upon(_input).loop().returns(None)

new_machine = _builder.build()
