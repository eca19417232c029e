"""
The states of an event source, and the steps that it takes between them.

=============  ======================================================================
idle           no request was sent yet
connecting     a request is waiting for its reply
open           the stream is being read
waiting        the connection was lost, and the next attempt is not due yet
closed         the source has ended permanently
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
    The three states that the standard defines, with its numbers.
    """

    CONNECTING = 0
    OPEN = 1
    CLOSED = 2


class Inputs(Protocol):
    """
    The inputs of the machine: the occurrences that change its state.
    """

    def start(self) -> None:
        """
        Process the program's request for events.
        """

    def opened(self) -> None:
        """
        Process a reply that opens a stream.
        """

    def interrupted(self, error: Exception, retry_after: float | None) -> None:
        """
        Process a failed connection, or the end of a stream; another attempt makes sense.
        """

    def refused(self, error: Exception) -> None:
        """
        Process a reply without a stream, or an unreadable stream; another attempt is futile.
        """

    def due(self) -> None:
        """
        Process the end of the wait: the next attempt is due.
        """

    def close(self) -> None:
        """
        Process the program's call of ``close()``.
        """


class Steps(Protocol):
    """
    The steps that the machine calls on its way to the next state.
    """

    def connect(self) -> None:
        """
        Send the request.
        """

    def disconnect(self) -> None:
        """
        Abort the request or the stream.
        """

    def announce(self) -> None:
        """
        Notify the program that the stream is open.
        """

    def wait(self, error: Exception, retry_after: float | None) -> None:
        """
        Schedule the next attempt.
        """

    def stop_waiting(self) -> None:
        """
        Cancel the next attempt.
        """

    def finish(self, error: Exception | None) -> None:
        """
        Notify the program of the end; ``error`` is ``None`` if the program closed the source.
        """


# Automat needs a class for its name, and accepts a protocol.
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
def _closed_before_start(inputs: Inputs, steps: Steps) -> None:
    steps.finish(None)


@_connecting.upon(Inputs.opened).to(_open)
def _stream_opened(inputs: Inputs, steps: Steps) -> None:
    steps.announce()


@_connecting.upon(Inputs.interrupted).to(_waiting)
def _failed(inputs: Inputs, steps: Steps, error: Exception, retry_after: float | None) -> None:
    steps.wait(error, retry_after)


@_open.upon(Inputs.interrupted).to(_waiting)
def _lost(inputs: Inputs, steps: Steps, error: Exception, retry_after: float | None) -> None:
    steps.wait(error, retry_after)


@_connecting.upon(Inputs.refused).to(_closed)
def _request_refused(inputs: Inputs, steps: Steps, error: Exception) -> None:
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
def _reconnect(inputs: Inputs, steps: Steps) -> None:
    steps.connect()


@_connecting.upon(Inputs.close).to(_closed)
def _cancel_request(inputs: Inputs, steps: Steps) -> None:
    steps.disconnect()
    steps.finish(None)


@_open.upon(Inputs.close).to(_closed)
def _close_stream(inputs: Inputs, steps: Steps) -> None:
    steps.disconnect()
    steps.finish(None)


@_waiting.upon(Inputs.close).to(_closed)
def _cancel_wait(inputs: Inputs, steps: Steps) -> None:
    steps.stop_waiting()
    steps.finish(None)


for _state in (_connecting, _open, _waiting):
    # The source has been started already.
    _state.upon(Inputs.start).loop().returns(None)
for _input in (Inputs.start, Inputs.opened, Inputs.interrupted, Inputs.refused, Inputs.due, Inputs.close):
    # A reply or a timer that was pending when the program closed the source changes nothing.
    _closed.upon(_input).loop().returns(None)

new_machine = _builder.build()
