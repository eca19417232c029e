"""
Clients that resume, all at once.

    python -m recording.programs.returning PORT CLIENTS LAST_EVENT_ID UPDATES

Each client requests the updates after an old id. The program parses the events of the first client: their ids
must be consecutive numbers. All others must receive the same bytes. Comparing bytes finds updates that are
lost, duplicated or reordered, and takes so little CPU that it does not limit the hub. The clients start after
the first line on stdin.
"""

from __future__ import annotations

import selectors
import socket
import sys
import time

from recording.programs.making import report

_READ = 256 * 1024

# How long to wait for surplus events, in seconds.
_SILENCE = 0.2


class WrongError(Exception):
    """
    Raised if a client has not received the expected events.
    """


class Expected:
    """
    The body that all clients must receive, as far as one client has received it.

    :param first: the first id, a number.
    :param updates: the number of updates.
    :ivar complete: the size of the whole body in bytes; ``None`` while it is unknown.
    """

    def __init__(self, first: int, updates: int) -> None:
        self.body = bytearray()
        self.complete: int | None = None
        self._next = first
        self._after_last = first + updates
        self._read_up_to = 0

    def extend(self, data: bytes) -> None:
        """
        Add the bytes that follow, and check their events.
        """
        self.body += data
        while self.complete is None:
            end = self.body.find(b"\n\n", self._read_up_to)
            if end < 0:
                return
            self._take_event(bytes(self.body[self._read_up_to : end]))
            self._read_up_to = end + 2
            if self._next == self._after_last:
                self.complete = self._read_up_to

    def _take_event(self, event: bytes) -> None:
        fields = dict(line.split(b": ", 1) for line in event.split(b"\n"))
        if fields.get(b"id") != b"%d" % self._next or len(fields[b"data"]) != 100:
            raise WrongError(f"{event!r} instead of {self._next}")
        self._next += 1


class Client:
    """
    A client.
    """

    def __init__(self, port: int, last_event_id: str, expected: Expected) -> None:
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.connect_ex(("127.0.0.1", port))
        self.is_done = False
        self._request = (
            "GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n"
            f"Last-Event-ID: {last_event_id}\r\n\r\n"
        ).encode()
        self._expected = expected
        self._offset = 0
        # Bytes of an incomplete head or chunk size, and how many bytes of the chunk are still to come.
        self._kept = b""
        self._left = 0
        self._in_head = True

    def ask(self) -> None:
        """
        Send the request, which fits into the send buffer.
        """
        self.socket.send(self._request)

    def read(self) -> None:
        """
        Read the bytes that have arrived, and compare them.
        """
        received = self.socket.recv(_READ)
        if not received:
            raise WrongError("a connection was closed")
        if self._in_head:
            received = self._take_head(received)
        self._take_chunks(received)
        expected = self._expected
        if expected.complete is not None and self._offset >= expected.complete:
            self.is_done = True
            if self._offset > expected.complete:
                raise WrongError("there are more events than were published")

    def check_silent(self) -> None:
        """
        Check that no more bytes arrive.
        """
        try:
            received = self.socket.recv(_READ)
        except BlockingIOError:
            return
        raise WrongError(f"{received[:80]!r} after the last event")

    def _take_head(self, received: bytes) -> bytes:
        head, found, rest = (self._kept + received).partition(b"\r\n\r\n")
        if not found:
            self._kept = head
            return b""
        if not head.startswith(b"HTTP/1.1 200 ") or b"chunked" not in head:
            raise WrongError(f"{head[:80]!r} instead of a stream")
        self._kept, self._in_head = b"", False
        return rest

    def _take_chunks(self, received: bytes) -> None:
        at = 0
        while at < len(received):
            if self._left > 2:
                data = received[at : at + self._left - 2]
                self._take(data)
                at += len(data)
                self._left -= len(data)
            elif self._left:
                # The CRLF after the chunk.
                skipped = min(self._left, len(received) - at)
                at += skipped
                self._left -= skipped
            else:
                at = self._take_size(received, at)

    def _take_size(self, received: bytes, at: int) -> int:
        end = received.find(b"\n", at)
        if end < 0:
            self._kept += received[at:]
            return len(received)
        size = int(self._kept + received[at:end], 16)
        if not size:
            raise WrongError("a stream has ended")
        self._kept, self._left = b"", size + 2
        return end + 1

    def _take(self, data: bytes) -> None:
        expected = self._expected
        known = min(len(data), len(expected.body) - self._offset)
        if not expected.body.startswith(data[:known], self._offset):
            raise WrongError(f"other bytes than other clients received: {data[:80]!r}")
        self._offset += len(data)
        if known < len(data):
            expected.extend(data[known:])


def storm(port: int, count: int, last_event_id: str, updates: int) -> dict[str, float]:
    """
    Run the clients until all have received all updates.
    """
    expected = Expected(int(last_event_id) + 1, updates)
    began = time.monotonic()
    clients = [Client(port, last_event_id, expected) for _ in range(count)]
    done: list[float] = []
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client.socket, selectors.EVENT_WRITE, client)
        while len(done) < count:
            for key, events in selector.select():
                client = key.data
                if events & selectors.EVENT_WRITE:
                    client.ask()
                    selector.modify(client.socket, selectors.EVENT_READ, client)
                    continue
                client.read()
                if client.is_done:
                    # It stays connected: disconnecting is not part of the measurement.
                    done.append(time.monotonic() - began)
                    selector.unregister(client.socket)
    cpu = time.process_time()
    time.sleep(_SILENCE)
    for client in clients:
        client.check_silent()
    return {
        "seconds": done[-1],
        "half": done[len(done) // 2],
        "bytes": len(expected.body),
        "clients_cpu": cpu,
    }


def main() -> None:
    port, count, last_event_id, updates = sys.argv[1:]
    sys.stdin.readline()
    report(storm(int(port), int(count), last_event_id, int(updates)))
    # Wait until the hub has stopped: disconnecting a thousand clients would keep it busy.
    sys.stdin.read()


if __name__ == "__main__":
    main()
