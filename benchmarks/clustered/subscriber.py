"""
A subscriber that moves between nodes, and compares what it receives with other subscribers.
"""

from __future__ import annotations

import random
import socket
import struct
from contextlib import suppress
from typing import Protocol

from clustered.agreed import END, SEED

__all__ = ["Subscriber", "Track", "World"]

# The share of visits that stop reading for some seconds, so that the hub has to replay.
_SLOW_SHARE = 0.1


class World(Protocol):
    """
    The state that all subscribers share.

    :ivar ports: the ports of the nodes.
    :ivar finishing: whether subscribers are no longer cut off.
    :ivar wrong: violations, as sentences.
    """

    ports: list[int]
    seed: int
    finishing: bool
    wrong: list[str]


class Track:
    """
    The events of one topic. The first subscriber that receives an event adds it; for all others it is
    compared. So each read of a subscriber costs one comparison of bytes, however many events it has, and the
    result is what each of the subscribers received.

    :param topic: the topic; ``None`` for all topics.
    :ivar received: all events, as bytes on the wire.
    """

    def __init__(self, topic: str | None) -> None:
        self.topic = topic
        self.path = "/all" if topic is None else f"/some?t={topic}"
        self.received = bytearray()

    def boundary(self, offset: int) -> int:
        """
        Return the end of the last event that is complete at an offset.
        """
        found = self.received.rfind(b"\n\n", 0, offset)
        return found + 2 if found >= 0 else 0

    def id_before(self, end: int) -> str:
        """
        Return the id of the event that ends at a boundary.
        """
        return id_of(self.received[self.boundary(end - 2) : end])

    def after(self, id: str) -> int | None:
        """
        Return the boundary after the event with an id; ``None`` if no subscriber has received it yet.
        """
        if id == SEED:
            return 0
        beginning = f"id: {id}\n".encode()
        found = 0 if self.received.startswith(beginning) else self.received.rfind(b"\n\n" + beginning)
        return None if found < 0 else self.received.find(b"\n\n", found + 2) + 2

    @property
    def has_end(self) -> bool:
        """
        Whether the last update has been received.
        """
        return bool(self.received) and self.id_before(len(self.received)) == END


def id_of(block: bytes | bytearray) -> str:
    """
    Return the id of an event, which is its first field; ``""`` without one.
    """
    return block[4 : block.index(b"\n")].decode() if block.startswith(b"id: ") else ""


class Subscriber:
    """
    A client that moves between nodes.

    :param number: its number.
    :param track: the topic that it subscribes to.
    :param first_id: the id that its first request resumes from; ``""`` for none.
    :param world: the shared state.
    :ivar offset: its offset in its track; ``None`` while it is unknown, because the subscriber began with new
        updates.
    :ivar began: the offset at which it began.
    :ivar visit: the number of this visit, from 1 on.
    :ivar slow: whether it will stop reading in this visit.
    :ivar asked: whether the request has been sent.
    :ivar socket: the connection; ``None`` while it is disconnected.
    :ivar last_id: the id that it resumed from.
    """

    def __init__(self, number: int, track: Track, first_id: str, world: World) -> None:
        self.number = number
        self.track = track
        self.chance = random.Random(f"{world.seed} {number}")
        self.visit = 0
        self.slow = self.asked = False
        self.began: int | None = None if not first_id else 0
        self.offset = self.began
        self.socket: socket.socket | None = None
        self.port = 0
        self.last_id = first_id
        self._world = world
        # The resume ID that a new client is sent first, and the events that arrived after it.
        self._resume_id = ""
        self._held = b""
        # Only the first violation of a subscriber is reported, not its consequences.
        self._is_wrong = False

    # The connection.

    def connect(self) -> None:
        """
        Connect to a node, after the first visit to another one than before.
        """
        other_ports = [port for port in self._world.ports if port != self.port] or self._world.ports
        self.port = self.chance.choice(other_ports)
        self.visit += 1
        self.slow = self.chance.random() < _SLOW_SHARE and not self._world.finishing
        self.socket = made = socket.socket()
        if self.slow:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        made.setblocking(False)
        with suppress(BlockingIOError):
            made.connect(("127.0.0.1", self.port))
        self.asked = False
        self._raw = b""
        self._in_head = True
        self._left = 0
        self._tail = b""

    def ask(self) -> None:
        """
        Send the request.
        """
        assert self.socket is not None
        if self.offset:
            self.last_id = self.track.id_before(self.offset)
        resume = f"Last-Event-ID: {self.last_id}\r\n" if self.last_id else ""
        request = f"GET {self.track.path} HTTP/1.1\r\nHost: localhost\r\n{resume}\r\n"
        # A new connection's send buffer has room for it.
        self.socket.sendall(request.encode())
        self.asked = True

    def disconnect(self, *, reset: bool) -> None:
        """
        Disconnect, and discard an incomplete event.
        """
        assert self.socket is not None
        if reset:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()
        self.socket = None
        if self.offset is not None:
            self.offset = self.track.boundary(self.offset)

    def take(self, data: bytes) -> None:
        """
        Process the bytes of one read, which may end anywhere.
        """
        if self._is_wrong:
            return
        data = self._raw + data
        if self._in_head:
            head, found, data = data.partition(b"\r\n\r\n")
            if not found:
                self._raw = head
                return
            if not head.startswith(b"HTTP/1.1 200 "):
                self.wrong(f"got the response {head[:60]!r}")
                return
            self._in_head = False
        body = [data[: max(0, min(len(data), self._left - 2))]]
        at = min(len(data), self._left)
        self._left -= at
        while at < len(data):
            end = data.find(b"\r\n", at)
            if end < 0:
                break
            size = int(data[at:end], 16)
            body.append(data[end + 2 : end + 2 + size])
            at = end + 4 + size
        # Of an incomplete chunk, the part that has arrived counts.
        self._left += max(0, at - len(data))
        self._raw = data[at:]
        self._read(b"".join(body))

    # The stream.

    def _read(self, data: bytes) -> None:
        if self.offset is not None and not self._tail and self.track.received.startswith(data, self.offset):
            self.offset += len(data)
            return
        data = self._tail + data
        if self.offset is not None:
            begun = self.track.boundary(self.offset)
            data = bytes(self.track.received[begun : self.offset]) + data
            self.offset = begun
        *blocks, self._tail = data.split(b"\n\n")
        for block in blocks:
            if not self._is_wrong:
                self._take_block(block + b"\n\n")
        if self.offset is None:
            self._find_offset()
        elif self.track.received.startswith(self._tail, self.offset):
            self.offset += len(self._tail)
            self._tail = b""

    def _take_block(self, block: bytes) -> None:
        id = id_of(block)
        if block.startswith(b":"):
            return
        if b"\ndata: " not in block:
            if not id or self.last_id:
                self.wrong(f"got {block!r}")
            self._resume_id = self.last_id = id
        elif not id:
            self.wrong(f"got {block[:100]!r} after {self.last_id!r}")
        elif self.offset is None:
            self._held += block
            self.last_id = id
        elif id == SEED and self.last_id == "earliest":
            self.last_id = id
        elif self.offset == len(self.track.received):
            self.track.received += block
            self.offset += len(block)
        elif self.track.received.startswith(block, self.offset):
            self.offset += len(block)
        else:
            end = self.track.received.find(b"\n\n", self.offset)
            expected = id_of(self.track.received[self.offset : end])
            before = self.track.id_before(self.offset) if self.offset else self.last_id
            self.wrong(f"got {id!r} after {before!r}, where others got {expected!r}")

    def _find_offset(self) -> None:
        place = self.track.after(self._resume_id) if self._resume_id else None
        if place is not None:
            self.offset = self.began = place
            held, self._held, tail, self._tail = self._held, b"", self._tail, b""
            self._read(held + tail)

    @property
    def whereabouts(self) -> str:
        """
        Its node, and the last event that it received.
        """
        at = self.last_id
        if self.offset:
            at = self.track.id_before(self.track.boundary(self.offset))
        where = "away" if self.socket is None else f"at node {self._world.ports.index(self.port)}"
        return f"subscriber {self.number}, {where}, has received up to {at!r}"

    @property
    def is_done(self) -> bool:
        """
        Whether it has received the last update, or has failed.
        """
        return self._is_wrong or (self.offset == len(self.track.received) and self.track.has_end)

    def wrong(self, what: str) -> None:
        """
        Record a violation.
        """
        where = self._world.ports.index(self.port)
        self._world.wrong.append(f"subscriber {self.number}, at node {where} on visit {self.visit}, {what}")
        self._is_wrong = True
