"""
A subscriber that wanders, and what it compares with the others.
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
    Where a subscriber lives.

    :ivar ports: those of the nodes.
    :ivar finishing: whether nobody is cut off any more.
    :ivar wrong: what went wrong, in sentences.
    """

    ports: list[int]
    seed: int
    finishing: bool
    wrong: list[str]


class Track:
    """
    What all get who want the same: whoever is first to receive an event adds it, and for all others it is
    compared. So a subscriber costs a comparison of bytes for what comes in one read, however many events
    that is, and what is there in the end is what each of them received.

    :param topic: the topic; ``None`` for all.
    :ivar received: all events, as they came over the wire.
    """

    def __init__(self, topic: str | None) -> None:
        self.topic = topic
        self.path = "/all" if topic is None else f"/some?t={topic}"
        self.received = bytearray()

    def boundary(self, offset: int) -> int:
        """
        Return where the last event ends that ends at an offset or before.
        """
        found = self.received.rfind(b"\n\n", 0, offset)
        return found + 2 if found >= 0 else 0

    def id_before(self, end: int) -> str:
        """
        Return the id of the event that ends at a boundary.
        """
        return id_of(self.received[self.boundary(end - 2) : end])

    def behind(self, id: str) -> int | None:
        """
        Return the boundary behind the event with an id; ``None`` where nobody has received it yet.
        """
        if id == SEED:
            return 0
        beginning = f"id: {id}\n".encode()
        found = 0 if self.received.startswith(beginning) else self.received.rfind(b"\n\n" + beginning)
        return None if found < 0 else self.received.find(b"\n\n", found + 2) + 2

    @property
    def has_end(self) -> bool:
        """
        Whether the last update is there.
        """
        return bool(self.received) and self.id_before(len(self.received)) == END


def id_of(block: bytes | bytearray) -> str:
    """
    Return the id of an event. It comes first.
    """
    return block[4 : block.index(b"\n")].decode() if block.startswith(b"id: ") else ""


class Subscriber:
    """
    A client that wanders.

    :param number: which one.
    :param track: what it wants.
    :param first_id: what it resumes from at first; ``""`` for nothing.
    :param world: where it lives.
    :ivar offset: where in its track it is; ``None`` where it came in the middle and nobody knows yet.
    :ivar began: where it began.
    :ivar visit: which visit this is, from 1 on.
    :ivar slow: whether it will stop reading in this visit.
    :ivar asked: whether the request has been sent.
    :ivar socket: the connection; ``None`` where it is away.
    :ivar last_id: what it resumed from.
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
        # The id that a newcomer was sent first, and what came behind it.
        self._anchor = ""
        self._held = b""
        # One violation is one, and not all that follows from it.
        self._is_wrong = False

    # The connection.

    def connect(self) -> None:
        """
        Come, or come back to another node.
        """
        elsewhere = [port for port in self._world.ports if port != self.port] or self._world.ports
        self.port = self.chance.choice(elsewhere)
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
        # The first bytes of a connection have room.
        self.socket.sendall(request.encode())
        self.asked = True

    def disconnect(self, *, reset: bool) -> None:
        """
        Be cut off. What is not a whole event by now is none.
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
        Take in what was read, however it was cut.
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
                self.wrong(f"was answered {head[:60]!r}")
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
        # A chunk that has come in part counts as far as it has come.
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
            self._look_for_place()
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
            self._anchor = self.last_id = id
        elif not id:
            self.wrong(f"got {block[:100]!r} behind {self.last_id!r}")
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
            self.wrong(f"got {id!r} behind {before!r}, where others got {expected!r}")

    def _look_for_place(self) -> None:
        place = self.track.behind(self._anchor) if self._anchor else None
        if place is not None:
            self.offset = self.began = place
            held, self._held, tail, self._tail = self._held, b"", self._tail, b""
            self._read(held + tail)

    @property
    def whereabouts(self) -> str:
        """
        Tell how far it has come.
        """
        at = self.last_id
        if self.offset:
            at = self.track.id_before(self.track.boundary(self.offset))
        where = "away" if self.socket is None else f"at node {self._world.ports.index(self.port)}"
        return f"subscriber {self.number}, {where}, has come to {at!r}"

    @property
    def is_done(self) -> bool:
        """
        Whether it has all up to the last update, or cannot have any more.
        """
        return self._is_wrong or (self.offset == len(self.track.received) and self.track.has_end)

    def wrong(self, what: str) -> None:
        """
        Take note of a violation.
        """
        where = self._world.ports.index(self.port)
        self._world.wrong.append(f"subscriber {self.number}, at node {where} on visit {self.visit}, {what}")
        self._is_wrong = True
