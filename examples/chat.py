# python examples/chat.py, then open http://127.0.0.1:8080/ in several tabs
# A chat with one hub. New clients and clients that reconnect get recorded messages from its journal.

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from twisted.internet import defer, endpoints, interfaces, task
from twisted.web import resource, server, static

from txsse import Hub, MemoryJournal, Upgrader

PAGE = Path(__file__).with_name("chat.html").read_bytes()


class Say(resource.Resource):
    isLeaf = True

    def __init__(self, hub: Hub) -> None:
        resource.Resource.__init__(self)
        self.hub = hub

    def render_POST(self, request: server.Request) -> bytes | int:
        name, text = (request.args.get(field, [b""])[0].strip() for field in (b"name", b"text"))
        if request.getHeader("Sec-Fetch-Site") not in (None, "same-origin"):
            request.setResponseCode(403)  # from another site's page, in a browser that has this page open
        elif not name or not text:
            request.setResponseCode(400)
        elif len(name) > 120 or len(text) > 4000:
            request.setResponseCode(413)
        else:
            said = {"name": name.decode(errors="replace"), "text": text.decode(errors="replace")}
            said["time"] = datetime.now(UTC).isoformat(timespec="seconds")
            published = self.hub.publish("chat", json.dumps(said))
            published.addCallback(lambda id: request.write(id.encode()))
            published.addErrback(lambda _: request.setResponseCode(503))  # the hub is shutting down
            published.addCallback(lambda _: request.finish())
            return server.NOT_DONE_YET
        return b""


async def main(reactor: interfaces.IReactorCore, port: str = "8080") -> None:
    def changed(*_: object) -> None:  # a client has connected or disconnected
        hub.publish_ephemeral("chat", json.dumps({"people": hub.subscribers["chat"]}), event="presence")

    hub = Hub(journal=MemoryJournal(max_count=1000), upgrader=Upgrader(retry=2), on_presence=changed)
    root = resource.Resource()
    root.putChild(b"", static.Data(PAGE, "text/html; charset=utf-8"))
    root.putChild(b"events", hub.resource("chat"))
    root.putChild(b"say", Say(hub))
    # At Ctrl-C each client gets a random reconnect delay of 1 to 5 s, so that not all reconnect at once.
    reactor.addSystemEventTrigger("before", "shutdown", hub.stop, retry=(1, 5), deadline=3)
    endpoint = endpoints.serverFromString(reactor, f"tcp:{port}:interface=127.0.0.1")
    listening = await endpoint.listen(server.Site(root))
    print(f"Open http://127.0.0.1:{listening.getHost().port}/", flush=True)
    await defer.Deferred()  # until Ctrl-C


task.react(main, sys.argv[1:])
