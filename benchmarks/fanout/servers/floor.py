"""
The floor for Python: a loop of ``sock.send``; the events of one turn are framed once and sent together.

``python floor.py PORT KEEPALIVE``
"""

from __future__ import annotations

import selectors
import socket
import sys
import time
from urllib.parse import parse_qs, urlsplit

from event import Numbers

HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    b"Cache-Control: no-store\r\nTransfer-Encoding: chunked\r\n\r\n"
)
DONE = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Floor:
    def __init__(self, port: int, keepalive: float) -> None:
        self.numbers = Numbers()
        self.keepalive = keepalive
        self.spoke = time.monotonic()
        self.subscribers: dict[int, socket.socket] = {}
        self.waiting = selectors.DefaultSelector()
        self.listening = socket.create_server(("127.0.0.1", port), backlog=1024)
        self.listening.setblocking(False)
        self.waiting.register(self.listening, selectors.EVENT_READ)

    def send_to_all(self, text: bytes) -> None:
        chunk = b"%x\r\n%b\r\n" % (len(text), text)
        for subscriber in self.subscribers.values():
            try:
                sent = subscriber.send(chunk)
            except BlockingIOError:
                sent = 0
            if sent < len(chunk):
                # A reader this slow stops the floor.
                subscriber.settimeout(30)
                subscriber.sendall(chunk[sent:])
                subscriber.setblocking(False)
        self.spoke = time.monotonic()

    def publish(self, turns: int, burst: int, interval: float) -> None:
        began = time.monotonic()
        for turn in range(1, turns + 1):
            self.send_to_all("".join(f"data: {data}\n\n" for data in self.numbers.turn(burst)).encode())
            self.turn(0)
            while time.monotonic() < began + turn * interval:
                self.turn(began + turn * interval - time.monotonic())

    def turn(self, seconds: float) -> None:
        for key, _ in self.waiting.select(
            max(0, min(seconds, self.spoke + self.keepalive - time.monotonic()))
        ):
            if key.fileobj is self.listening:
                accepted, _ = self.listening.accept()
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                accepted.setblocking(False)
                self.waiting.register(accepted, selectors.EVENT_READ)
            else:
                self.answer(key.fileobj)
        if time.monotonic() >= self.spoke + self.keepalive:
            self.send_to_all(b":\n\n")

    def answer(self, asking: socket.socket) -> None:
        try:
            request = asking.recv(2048)
        except ConnectionError:
            request = b""
        if request.startswith(b"GET /events"):
            asking.send(HEAD)
            self.subscribers[asking.fileno()] = asking
            return
        if request.startswith(b"POST /publish"):
            asked = parse_qs(urlsplit(request.split()[1].decode()).query)
            self.publish(int(asked["turns"][0]), int(asked["burst"][0]), float(asked["interval"][0]))
            asking.send(DONE)
        self.waiting.unregister(asking)
        self.subscribers.pop(asking.fileno(), None)
        asking.close()


if __name__ == "__main__":
    floor = Floor(int(sys.argv[1]), float(sys.argv[2]))
    while True:
        floor.turn(1)
