"""
What is to be published, as it comes: from the command line, a file or stdin.

Reading may take for ever, where somebody types or another program writes, and the reactor has to live
meanwhile. So a thread reads, one piece whenever one is wanted; it is a daemon, and the process's end does not
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

# What one read takes at most, in bytes.
_PIECE = 65536

#: What an update may have, in bytes: more than any hub takes, and less than a mistaken file would cost.
MAX_DATA = 64 * 1024 * 1024


class BadFeed(Exception):
    """
    What came cannot be published.
    """


class Readable(Protocol):
    """
    What is read from, without a buffer.
    """

    def read(self, size: int, /) -> bytes | None:
        """
        Return some bytes; none at the end.
        """

    def close(self) -> None:
        """
        Read no more.
        """


def in_thread(reactor: IReactorFromThreads, work: Callable[[], _T]) -> Deferred[_T]:
    """
    Do what may take for ever.

    :returns: a Deferred of what it returns. Where it is cancelled, nobody waits any more.
    """
    # Without a canceller, it takes the late result and drops it.
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
    Read to the end.

    :param opening: opens what is read.
    :param name: what that is called.
    :raises BadFeed: where that, or the reading, is not possible.
    """
    try:
        # A named pipe opens when somebody writes to it.
        file = await in_thread(reactor, opening)
        while piece := await in_thread(reactor, partial(file.read, _PIECE)):
            yield piece
        file.close()
    except OSError as error:
        raise BadFeed(f"{name}: {error.strerror}") from None


async def whole_of(pieces: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """
    Put the pieces together, without the end of the last line, which the shell's ``echo`` adds.

    :raises BadFeed: for too much, and for what is no text.
    """
    collected = bytearray()
    async for piece in pieces:
        collected += piece
        _check_length(collected)
    yield _text(collected.removesuffix(b"\n").removesuffix(b"\r"))


async def lines_of(pieces: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """
    Cut the pieces into lines, without their ends; each comes as soon as it is there.

    :raises BadFeed: for a line that is too long, and for what is no text.
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

    :raises OSError: where that is not possible.
    """
    return FileIO(path)


def open_number(number: int) -> Readable:
    """
    Read what is open already, and leave it open.
    """
    # Without Python's own buffer, whose lock a thread that still reads would hold at the process's end.
    return FileIO(number, closefd=False)


def _check_length(collected: bytearray) -> None:
    if len(collected) > MAX_DATA:
        raise BadFeed(f"an update may have {MAX_DATA} bytes")


def _text(data: bytes | bytearray) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise BadFeed("it is no text in UTF-8") from None
