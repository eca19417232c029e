"""
A well-behaved client: it sends small requests one after the other and measures how long each response takes.

It runs in its own process, so that the attacker's work does not count as waiting time. For each response it
also reads how much CPU the service used meanwhile. On a busy machine this figure has less noise.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

# How long it pauses after each response, and how long it waits for one, in seconds.
PAUSE, PATIENCE = 0.005, 10.0

# Requests for each connection: a service without free descriptors still responds on old connections only.
PER_CONNECTION = 20

REQUEST = b"GET /nothing HTTP/1.1\r\nHost: hub.example\r\n\r\n"


def main() -> None:
    port, pid = int(sys.argv[1]), int(sys.argv[2])
    waits, cpus, failed = [], [], 0
    connection = None
    while True:
        before, began = cpu_of(pid), time.perf_counter()
        try:
            if connection is None or len(waits) % PER_CONNECTION == 0:
                if connection is not None:
                    connection.close()
                connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
            connection.sendall(REQUEST)
            read_answer(connection)
        except OSError:
            failed += 1
            if connection is not None:
                connection.close()
                connection = None
        waits.append(time.perf_counter() - began)
        cpus.append(cpu_of(pid) - before)
        if len(waits) == 1:
            print("ready", flush=True)
            waits[0] = cpus[0] = 0.0
        if select.select([sys.stdin], [], [], PAUSE)[0]:
            break
    print(json.dumps({"waited": max(waits), "held": max(cpus), "probes": len(waits), "failed": failed}))


def read_answer(connection: socket.socket) -> None:
    """
    Read a whole response.

    :raises OSError: if the connection ends first.
    """
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += read(connection)
    head, _, body = answer.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    while len(body) < length:
        body += read(connection)


def read(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise ConnectionError("the connection was closed")
    return data


def cpu_of(pid: int) -> float:
    """
    Return the CPU that a process's main thread has used, in seconds.
    """
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    return 0.0


if __name__ == "__main__":
    main()
