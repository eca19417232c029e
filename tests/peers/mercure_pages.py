"""
Web pages on other origins than the hub's, with the browser builds of Node packages.

Usage::

    python -m tests.peers.mercure_pages CERTIFICATE COUNT
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from twisted.internet import defer, endpoints, task
from twisted.web import resource, server, static

PAGE = b'<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><title>A page</title>'

MODULES = Path(__file__).with_name("node_modules") / "@microsoft" / "fetch-event-source" / "lib" / "esm"


async def main(reactor: Any, certificate: str, count: str) -> None:
    """
    Listen, and print the origins.
    """
    root = resource.Resource()
    root.putChild(b"", static.Data(PAGE, "text/html"))
    modules = resource.Resource()
    root.putChild(b"fetch-event-source", modules)
    for path in MODULES.glob("*.js"):
        # The modules import one another without the suffix.
        for name in (path.name, path.stem):
            modules.putChild(name.encode(), static.Data(path.read_bytes(), "text/javascript"))
    origins = []
    for _ in range(int(count)):
        endpoint = endpoints.serverFromString(reactor, f"ssl:0:privateKey={certificate}:interface=127.0.0.1")
        port = await endpoint.listen(server.Site(root))
        origins.append(f"https://127.0.0.1:{port.getHost().port}")
    print("Serving", *origins, flush=True)
    await defer.Deferred()


if __name__ == "__main__":
    task.react(main, sys.argv[1:])
