"""
Serve a stream once, as fast as the kernel accepts it: ``python -m clients.server NAME EVENTS`` prints its
port. All bytes are ready before it listens, so that sending costs almost no CPU and no client waits.
"""

from __future__ import annotations

import socket
import sys

from clients.streams import all_streams

_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    b"Cache-Control: no-store\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def serve(reply: bytes) -> None:
    """
    Respond to one request, then stop listening: a client that lost its stream must fail, not read it again.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:
        sys.stdout.write(f"{listening.getsockname()[1]}\n")
        sys.stdout.flush()
        connection, _ = listening.accept()
    with connection:
        request = b""
        while b"\r\n\r\n" not in request:
            received = connection.recv(65536)
            if not received:
                return
            request += received
        try:
            connection.sendall(reply)
            # Until the client disconnects.
            connection.recv(1)
        except ConnectionError:
            return


def main() -> None:
    name, events = sys.argv[1:]
    (stream,) = (stream for stream in all_streams(int(events)) if stream.name == name)
    serve(b"".join([_HEAD, *stream.chunks()]))


if __name__ == "__main__":
    main()
