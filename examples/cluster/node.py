# python examples/cluster/node.py one 8081 redis://127.0.0.1:6379; run.py starts two nodes, Redis and nginx
# A node of a cluster. All its state is in the shared Redis, so it can be killed at any time.

import json
import sys
from contextlib import suppress

from twisted.internet import defer, endpoints, interfaces, task
from twisted.web import resource, server, static

from txsse import Hub, HubStopped, JournalFailed, SSEChannel, SSEError, SSEResource, Upgrader
from txsse.journal.redis import RedisJournal


class Publish(resource.Resource):
    def __init__(self, hub: Hub) -> None:
        resource.Resource.__init__(self)
        self.hub = hub

    def render_POST(self, request: server.Request) -> int:
        defer.Deferred.fromCoroutine(self.publish(request))
        return server.NOT_DONE_YET

    async def publish(self, request: server.Request) -> None:
        text, id = (request.args.get(name, [b""])[0].decode("utf-8", "replace") for name in (b"text", b"id"))
        update = json.dumps({"text": text})  # equal at both nodes: the journal ignores a repetition
        try:
            status, answer = 200, await self.hub.publish("messages", update, id=id or None)
        except SSEError as error:
            status = 503 if isinstance(error, JournalFailed | HubStopped) else 400
            answer = f"Not published: {error}"
        if request.channel is not None:  # the client is still connected
            request.setResponseCode(status)
            request.setHeader("Content-Type", "text/plain; charset=utf-8")
            request.write(answer.encode())
            request.finish()


async def main(reactor: interfaces.IReactorCore, name: str, port: str, url: str) -> None:
    upgrader = Upgrader(retry=1, headers={"X-Node": name}, slow_policy="replay")
    hub = Hub(journal=RedisJournal(url), upgrader=upgrader)

    def greet(channel: SSEChannel) -> None:
        channel.send_json({"node": name}, event="node")
        hub.subscribe(channel, ["messages", "status"])

    root = resource.Resource()
    root.putChild(b"", static.File(__file__.replace("node.py", "page.html")))
    root.putChild(b"events", SSEResource(greet, upgrader=upgrader))
    root.putChild(b"publish", Publish(hub))
    reactor.addSystemEventTrigger("before", "shutdown", hub.stop, retry=(1, 3), deadline=3)
    await endpoints.serverFromString(reactor, f"tcp:{port}:interface=127.0.0.1").listen(server.Site(root))
    with suppress(HubStopped):
        while True:  # until Ctrl-C
            # The total of all nodes. It is unknown while Redis is unavailable.
            count = await hub.count_subscribers().addErrback(lambda failure: None)
            hub.publish_ephemeral("status", json.dumps({"subscribers": count}), event="subscribers")
            await task.deferLater(interfaces.IReactorTime(reactor), 1.0)


task.react(main, sys.argv[1:])
