"""
The streams, and what a client must have seen of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

# As large as most buffers for reading are, and as a proxy passes on what it has read.
_CHUNK = 64 * 1024

_TYPE = "price"


@dataclass(frozen=True)
class Stream:
    """
    A number of events, and how they lie in the chunks of the reply.

    :ivar named: whether each event has an id and a type, besides its data.
    :ivar alone: whether each has a chunk of its own. Otherwise chunks have 64 KiB, wherever that cuts.
    """

    named: bool
    alone: bool
    events: int

    @property
    def name(self) -> str:
        """
        Name the shape and the framing, for the results and the command line of the server.
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
        What a client is to have seen: how many characters of data in all, and the data, the type and the id
        of the last event.
        """
        size = sum(len(_data(number)) for number in self._numbers)
        last = self._numbers[-1]
        return {"size": size, "last": [_data(last), self.type, self._id(last)]}

    def chunks(self) -> Iterator[bytes]:
        """
        Make the body, as it is on the wire. It has no end, since such streams have none.
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
    # Not all of the same length: else one event lost and another one twice would not show in the sum.
    return f"{number:07} {'x' * (84 + number % 17)}"


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def all_streams(events: int) -> list[Stream]:
    """
    Make every shape in every framing.
    """
    return [Stream(named, alone, events) for alone in (True, False) for named in (False, True)]
