"""
Deliver updates to subscribers on sockets: ``delivering.py COUNT``, to be run under valgrind.
"""

from __future__ import annotations

import gc
import subprocess
import sys
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import deferLater, react
from twisted.web.server import Site

from txsse import Hub

SUBSCRIBERS = 500

# Reads all streams in another process, which is not counted, until the server closes them.
_READERS = """
import selectors, socket, sys
ready = selectors.DefaultSelector()
for _ in range(int(sys.argv[2])):
    one = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    one.sendall(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
    ready.register(one, selectors.EVENT_READ)
while all(key.fileobj.recv(65536) for key, _ in ready.select()):
    pass
"""


async def _deliver(hub: Hub, count: int) -> None:
    while hub.subscribers.total < SUBSCRIBERS:
        await deferLater(reactor, 0.05)
    for number in range(1, count + 1):
        await hub.publish("topic", "x" * 100)
        # metrics() iterates over all subscribers, and its instructions would be counted, too.
        while hub._counters.delivered < number * SUBSCRIBERS:
            await deferLater(reactor, 0)
    await hub.stop(deadline=1.0)


def main(_: Any, count: str) -> Any:
    """
    Deliver updates to all subscribers.
    """
    # The time of a collection depends on earlier allocations, so it would vary between runs.
    gc.disable()
    hub = Hub()
    listening: Any = reactor
    port = listening.listenTCP(0, Site(hub.resource("topic")), interface="127.0.0.1")
    readers = subprocess.Popen([sys.executable, "-c", _READERS, str(port.getHost().port), str(SUBSCRIBERS)])
    return ensureDeferred(_deliver(hub, int(count))).addBoth(_ended, readers)


def _ended(result: Any, readers: subprocess.Popen[bytes]) -> Any:
    readers.kill()
    readers.wait()
    return result


react(main, sys.argv[1:])
