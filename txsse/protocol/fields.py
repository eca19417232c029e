"""
The fields of a block: the lines of an event stream up to an empty line.

The rules for them are here once, for the parser of streams and for :meth:`txsse.ServerSentEvent.parse`.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

from txsse.errors import NotOneEvent

__all__ = ["MAX_RETRY_MILLISECONDS", "NO_ID", "NO_TYPE", "FieldReader", "read_one_block"]

# 31,700 years; up to there, seconds as a float distinguish all milliseconds.
MAX_RETRY_MILLISECONDS = 10**15

# A server can send any number of digits, and Python refuses to parse more than 4,300 of them, as a guard
# against quadratic work. One digit more than the longest time has is enough to cap it at that time.
_ENOUGH_DIGITS = len(str(MAX_RETRY_MILLISECONDS)) + 1


class _Unnamed(str):
    """
    The type or the ID of an event whose stream names none.

    The values are ``"message"`` and ``""``, as in a browser. When the event is encoded again, the field is
    omitted: an empty ``id`` would reset the last event ID of its client.
    """

    __slots__ = ()

    def __reduce__(self) -> str:
        # Copies and unpickled events refer to the same two objects.
        return "NO_TYPE" if self else "NO_ID"


NO_ID = _Unnamed("")
NO_TYPE = _Unnamed("message")


class FieldReader:
    """
    Reads the fields of blocks.

    It is the base class of the parser, which uses the attributes for each line and cannot afford a call.

    :param last_event_id: the last event ID before the first block.
    """

    def __init__(self, last_event_id: str = "") -> None:
        self._retry: float | None = None
        # The open block.
        self._data: list[str] = []
        self._event = ""
        self._id = last_event_id or NO_ID
        self._block_retry: float | None = None

    def _read_field(self, line: str) -> None:
        name, _, value = line.partition(":")
        if value[:1] == " ":
            value = value[1:]
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id":
            if "\0" not in value:
                self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            milliseconds = int(value.lstrip("0")[:_ENOUGH_DIGITS] or "0")
            self._retry = self._block_retry = min(milliseconds, MAX_RETRY_MILLISECONDS) / 1000


class _OneBlock(FieldReader):
    """
    Reads the lines of a text that is one block.
    """

    def read(self, text: str) -> tuple[str, str | None, str | None, float | None]:
        is_open = is_over = False
        for line in text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n"):
            if not line:
                is_over = is_open
            elif line[0] != ":":
                if is_over:
                    raise NotOneEvent(
                        "it has more lines after the empty line that ends its event; "
                        "EventStreamParser().feed(...) parses several events"
                    )
                is_open = True
                self._read_field(line)
        if not self._data:
            raise NotOneEvent(
                "it has no line that begins with 'data:', and clients ignore such an event; "
                "ServerSentEvent(text) makes an event of a plain text"
            )
        id = None if self._id is NO_ID else self._id
        return "\n".join(self._data), self._event or None, id, self._block_retry


def read_one_block(text: str) -> tuple[str, str | None, str | None, float | None]:
    """
    Return the data, the type, the ID and the reconnection time, in seconds, of a text that is one block.

    :raises NotOneEvent: for any other text.
    """
    return _OneBlock().read(text)
