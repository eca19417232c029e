"""
Read the data of ``txsse publish`` from the command line, a file or stdin.

A read may block for ever, such as on a terminal or a pipe, and the reactor has to run meanwhile. A thread
therefore reads, one piece at each request; it is a daemon thread, so that the end of the process does not
wait for it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from io import FileIO
from threading import Thread
from typing import Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

__all__ = ["MAX_DATA", "BadFeed", "Readable", "lines_of", "open_number", "open_path", "pieces_of", "whole_of"]

_T = TypeVar("_T")

# The largest number of bytes of one read.
_PIECE = 65536

#: The largest update, in bytes: more than any hub accepts, and little enough memory if the file is a mistake.
MAX_DATA = 64 * 1024 * 1024


class BadFeed(Exception):
    """
    The input cannot be published.
    """


class Readable(Protocol):
    """
    An unbuffered source of bytes.
    """

    def read(self, size: int, /) -> bytes | None:
        """
        Return some bytes; ``b""`` at the end.
        """

    def close(self) -> None:
        """
        Close the source.
        """


def in_thread(reactor: IReactorFromThreads, work: Callable[[], _T]) -> Deferred[_T]:
    """
    Call a function that may block for ever, in a daemon thread.

    :returns: a Deferred of its result. Cancelling it does not stop the function; its result is discarded.
    """
    # A Deferred without a canceller that was cancelled accepts the late result, and drops it.
    waiting: Deferred[_T] = Deferred()

    def run() -> None:
        try:
            result: _T | Failure = work()
        except Exception:
            result = Failure()
        reactor.callFromThread(waiting.callback, result)

    Thread(target=run, daemon=True, name="txsse input").start()
    return waiting


async def pieces_of(
    reactor: IReactorFromThreads, opening: Callable[[], Readable], name: str
) -> AsyncIterator[bytes]:
    """
    Yield the bytes of a source, to its end, as they arrive.

    :param opening: opens the source.
    :param name: the source's name in errors.
    :raises BadFeed: if the source cannot be opened or read.
    """
    try:
        # Opening a named pipe blocks until a writer opens it.
        file = await in_thread(reactor, opening)
        while piece := await in_thread(reactor, partial(file.read, _PIECE)):
            yield piece
        file.close()
    except OSError as error:
        raise BadFeed(f"{name}: {error.strerror}") from None


async def whole_of(pieces: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """
    Yield the pieces joined to one text, without a line end at its end, which the shell's ``echo`` adds.

    :raises BadFeed: if it is too long, or not UTF-8.
    """
    collected = bytearray()
    async for piece in pieces:
        collected += piece
        _check_length(collected)
    yield _text(collected.removesuffix(b"\n").removesuffix(b"\r"))


async def lines_of(pieces: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """
    Yield the lines of the pieces, without line ends, each one as soon as it is complete.

    :raises BadFeed: if a line is too long, or not UTF-8.
    """
    rest = bytearray()
    async for piece in pieces:
        if b"\n" not in piece:
            rest += piece
            _check_length(rest)
            continue
        *lines, last = piece.split(b"\n")
        lines[0] = bytes(rest) + lines[0]
        rest = bytearray(last)
        for line in lines:
            yield _text(line.removesuffix(b"\r"))
    if rest:
        yield _text(rest)


def open_path(path: str) -> Readable:
    """
    Open a file.

    :raises OSError: if that fails.
    """
    return FileIO(path)


def open_number(number: int) -> Readable:
    """
    Return an open file descriptor as a source; closing the source leaves it open.
    """
    # Without Python's own buffer: a thread that still reads would hold its lock when the process ends.
    return FileIO(number, closefd=False)


def _check_length(collected: bytearray) -> None:
    if len(collected) > MAX_DATA:
        raise BadFeed(f"an update may have at most {MAX_DATA} bytes")


def _text(data: bytes | bytearray) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise BadFeed("it is not UTF-8 text") from None
