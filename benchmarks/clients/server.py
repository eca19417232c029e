"""
Serves a stream once, as fast as the kernel takes it: ``python -m clients.server NAME EVENTS``, which prints
its port. All bytes are made before it listens, so that sending costs next to nothing, and no client waits.
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
    Answer one request. A client that comes back has lost its stream, and shall not get it again unnoticed.
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
            # Until the client goes.
            connection.recv(1)
        except ConnectionError:
            return


def main() -> None:
    name, events = sys.argv[1:]
    (stream,) = (stream for stream in all_streams(int(events)) if stream.name == name)
    serve(b"".join([_HEAD, *stream.chunks()]))


if __name__ == "__main__":
    main()
