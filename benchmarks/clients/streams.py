"""
The streams that clients read, and the result that each client has to report.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

# The size of most read buffers, so also that of the chunks that a proxy forwards.
_CHUNK = 64 * 1024

_TYPE = "price"


@dataclass(frozen=True)
class Stream:
    """
    A stream of events, and how its bytes are divided into chunks.

    :ivar named: whether each event has an id and a type in addition to its data.
    :ivar alone: whether each event is one chunk. Otherwise chunks have 64 KiB, and may cut events.
    """

    named: bool
    alone: bool
    events: int

    @property
    def name(self) -> str:
        """
        The name of its shape and framing, in the results and on the server's command line.
        """
        return f"{'named' if self.named else 'data'}-{'alone' if self.alone else 'together'}"

    @property
    def type(self) -> str:
        """
        The type of all events.
        """
        return _TYPE if self.named else "message"

    def expected(self) -> dict[str, object]:
        """
        Return the result that a client has to report: the total number of characters of data, and the last
        event's data, type and id.
        """
        size = sum(len(_data(number)) for number in self._numbers)
        last = self._numbers[-1]
        return {"size": size, "last": [_data(last), self.type, self._id(last)]}

    def chunks(self) -> Iterator[bytes]:
        """
        Generate the chunked body, without the final chunk: event streams do not end.
        """
        events = map(self._event, self._numbers)
        if self.alone:
            return map(_framed, events)
        body = b"".join(events)
        return (_framed(body[begin : begin + _CHUNK]) for begin in range(0, len(body), _CHUNK))

    @property
    def _numbers(self) -> range:
        return range(1, self.events + 1)

    def _id(self, number: int) -> str:
        return f"{number:07}" if self.named else ""

    def _event(self, number: int) -> bytes:
        head = f"id: {self._id(number)}\nevent: {_TYPE}\n" if self.named else ""
        return f"{head}data: {_data(number)}\n\n".encode()


def _data(number: int) -> str:
    # Lengths differ: otherwise the sum would not show that one event was lost and another one duplicated.
    return f"{number:07} {'x' * (84 + number % 17)}"


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def all_streams(events: int) -> list[Stream]:
    """
    Return a stream of every shape in every framing.
    """
    return [Stream(named, alone, events) for alone in (True, False) for named in (False, True)]
