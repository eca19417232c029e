"""
Parse the bytes of an event stream into events.

Strategy: each chunk is split after its last line end. The part before it, together with the bytes that an
earlier chunk left over, is decoded and split into lines at once, by the interpreter's own code. The part
after it is kept unchanged until its line end arrives. So every byte is searched once, decoded once and copied
a few times, however the stream is cut into chunks.

``feed`` returns the completed events, in order, or raises :exc:`EventTooLarge`, which carries
them; after that it raises on every call.
"""

from __future__ import annotations

from itertools import repeat

from txsse.errors import SSEError
from txsse.protocol.bulk import columns
from txsse.protocol.event import ServerSentEvent, parsed_event, parsed_events
from txsse.protocol.fields import NO_TYPE, FieldReader

__all__ = ["DEFAULT_MAX_EVENT_SIZE", "EventStreamParser", "EventTooLarge"]

# Large enough for a base64 image or an HTML page, small enough to hold a thousand in memory.
DEFAULT_MAX_EVENT_SIZE = 4 * 1024 * 1024

_BOM = b"\xef\xbb\xbf"

# A shorter text contains one or two events, which are parsed faster line by line.
_WORTH_COLUMNS = 512


class EventTooLarge(SSEError):
    """
    A line or an event of the stream exceeds the parser's ``max_event_size``.

    :ivar limit: the limit, in bytes.
    :ivar events: the events that the same call to ``feed`` completed before it.
    """

    def __init__(self, limit: int, events: list[ServerSentEvent]) -> None:
        super().__init__(
            f"the stream holds an event of more than {limit} bytes; a larger max_event_size would accept it"
        )
        self.limit = limit
        self.events = events


class EventStreamParser(FieldReader):
    """
    Parse one event stream, fed in pieces of any size.

    It accepts everything that the standard accepts: a byte order mark, lines that end with CR LF, LF or CR,
    each of which may be cut anywhere, and invalid UTF-8 as U+FFFD. A line is processed as soon as its end has
    arrived: after a CR, the parser does not wait for an LF.

    :param max_event_size: the largest event in bytes: the sum of its lines, without comments and line ends.
        No line of any kind, comments included, may be longer.
    :param last_event_id: the last event ID to begin with, if this stream continues another one.

    Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
    """

    def __init__(self, max_event_size: int = DEFAULT_MAX_EVENT_SIZE, *, last_event_id: str = "") -> None:
        if max_event_size < 1:
            raise ValueError(f"max_event_size must be at least 1 byte, not {max_event_size}")
        super().__init__(last_event_id)
        self._max_event_size = max_event_size
        self._last_event_id = last_event_id
        # The bytes after the last line end, unchanged.
        self._pending = bytearray()
        self._at_start = True
        self._after_cr = False
        self._too_large = False
        # The size of the open block's lines, in bytes.
        self._block_size = 0

    @property
    def last_event_id(self) -> str:
        """
        The last event ID: that of the last complete block, with or without data.
        """
        return self._last_event_id

    @property
    def retry(self) -> float | None:
        """
        The reconnection time that the stream set last, in seconds; ``None`` if it set none.
        """
        return self._retry

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """
        Process the next bytes of the stream.

        :param data: any number of bytes.
        :returns: the events that these bytes complete. Each one has an ``event``, ``"message"`` if the stream
            names none, and an ``id``, the last event ID at this point.
        :raises EventTooLarge: if an event or a line exceeds ``max_event_size``.
        """
        events: list[ServerSentEvent] = []
        if self._too_large:
            raise EventTooLarge(self._max_event_size, events)
        if self._after_cr and data:
            self._after_cr = False
            if data[0] == 0x0A:
                # The second half of a CR LF whose first half has already ended the line.
                data = data[1:]
        end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        if end:
            self._read_lines(self._take(data[:end]), events)
            data = data[end:]
        if data:
            # An LF after these bytes ends their own line; it is not the second half of an earlier CR LF.
            self._after_cr = False
            self._keep(data, events)
        return events

    def _take(self, lines: bytes) -> bytes:
        """
        Prepend the bytes kept from the first line to whole lines.
        """
        if self._pending:
            self._pending.extend(lines)
            lines = bytes(self._pending)
            self._pending.clear()
        self._after_cr = lines[-1] == 0x0D
        if self._at_start:
            self._at_start = False
            lines = lines.removeprefix(_BOM)
        return lines

    def _keep(self, data: bytes, events: list[ServerSentEvent]) -> None:
        """
        Keep the beginning of a line until its end arrives.
        """
        self._pending.extend(data)
        bom = len(_BOM) if self._at_start else 0
        if len(self._pending) > self._max_event_size + bom:
            self._refuse(events)

    def _refuse(self, events: list[ServerSentEvent]) -> None:
        self._too_large = True
        self._pending.clear()
        self._data.clear()
        raise EventTooLarge(self._max_event_size, events)

    def _read_lines(self, lines: bytes, events: list[ServerSentEvent]) -> None:
        if b"\r" in lines:
            lines = lines.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if self._block_size + len(lines) <= self._max_event_size:
            # A line end is never inside a character, so decoding lines together or one by one gives the same
            # text.
            left = self._read_text(lines.decode("utf-8", "replace"), events)
            if left:
                # The size counts received bytes: one invalid byte becomes three when it is decoded and
                # encoded again.
                self._count(lines.rsplit(b"\n", left + 1)[-left - 1 : -1])
            return
        # Only here can an event or a line be too large; which one is found line by line.
        for line in lines.split(b"\n")[:-1]:
            if len(line) > self._max_event_size:
                self._refuse(events)
            if line[:1] == b":":
                # Comments do not count, and one read can contain 30,000 of them.
                continue
            if self._read_each([line.decode("utf-8", "replace")], events):
                self._count([line])
                if self._block_size > self._max_event_size:
                    self._refuse(events)

    def _count(self, lines: list[bytes]) -> None:
        """
        Add lines to the size of the open block, comments excepted.
        """
        self._block_size += sum(len(line) for line in lines if line[0] != 0x3A)

    def _read_text(self, text: str, events: list[ServerSentEvent]) -> int:
        """
        Parse lines that end with LF: the rest of the open block, the blocks of one shape, then the rest.

        :returns: how many of the last lines belong to a block that is still open.
        """
        if len(text) > _WORTH_COLUMNS and "\0" not in text:
            start = 0
            if self._block_size:
                start = ("\n" + text).find("\n\n") + 1
                if not start:
                    return self._read_each(text.split("\n")[:-1], events)
                self._read_each(text[:start].split("\n")[:-1], events)
            end = text.rfind("\n\n") + 2
            if not self._block_size and end - start > _WORTH_COLUMNS:
                found = columns(text[start:end])
                if found is not None:
                    self._read_columns(found, events)
                    start = end
            text = text[start:]
        return self._read_each(text.split("\n")[:-1], events)

    def _read_columns(self, found: dict[str, list[str]], events: list[ServerSentEvent]) -> None:
        ids = found.get("id")
        types = found.get("event")
        if types is not None and "" in types:
            types = [name or NO_TYPE for name in types]
        events += parsed_events(found["data"], types or repeat(NO_TYPE), ids or repeat(self._id))
        if ids:
            self._id = ids[-1]
        self._last_event_id = self._id

    def _read_each(self, lines: list[str], events: list[ServerSentEvent]) -> int:
        """
        Parse lines one by one.

        :returns: how many of the last lines belong to a block that is still open.
        """
        data = self._data
        opened = 0
        for number, line in enumerate(lines, 1):
            if line[:6] == "data: ":
                data.append(line[6:])
            elif not line:
                # https://html.spec.whatwg.org/multipage/server-sent-events.html#dispatchMessage
                opened = number
                self._block_size = 0
                self._last_event_id = self._id
                if data:
                    text = data[0] if len(data) == 1 else "\n".join(data)
                    events.append(parsed_event(text, self._event or NO_TYPE, self._id, self._block_retry))
                    data.clear()
                self._event = ""
                self._block_retry = None
            elif line[0] != ":":
                self._read_field(line)
        return len(lines) - opened
