# python examples/multiple_trees.py, then open http://127.0.0.1:8080/ and http://clock.localhost:8080/
# Streams in two branches of one web tree, and in the tree of another virtual host, with one Upgrader.

import random
import sys
from collections.abc import AsyncIterator, Callable
from datetime import datetime

from twisted.internet import defer, endpoints, interfaces, task
from twisted.web import resource, server, static, vhost

from txsse import SSEChannel, SSEResource, Upgrader

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8"><meta name="color-scheme" content="light dark"><title>Multiple trees</title>
<h1>Multiple trees</h1>
%s
<script>
  for (const span of document.querySelectorAll("span"))
    new EventSource(span.dataset.source).onmessage = (event) => { span.textContent = event.data; };
</script>
"""
upgrader = Upgrader(retry=2.0)


def page(*paths: str) -> resource.Resource:
    streams = "".join(f'<p>{path}: <span data-source="{path}" role="timer"></span></p>' for path in paths)
    return static.Data((PAGE % streams).encode(), "text/html; charset=utf-8")


def branch(make_data: Callable[[], str]) -> resource.Resource:
    async def every_second(channel: SSEChannel) -> AsyncIterator[str]:
        while True:
            yield make_data()
            await task.deferLater(channel.reactor, 1.0)

    node = resource.Resource()
    node.putChild(b"events", SSEResource(every_second, upgrader=upgrader))
    return node


async def main(reactor: interfaces.IReactorCore, port: str = "8080") -> None:
    default = resource.Resource()
    default.putChild(b"", page("a/events", "b/events"))
    default.putChild(b"a", branch(lambda: str(random.randint(1, 6))))
    default.putChild(b"b", branch(lambda: random.choice(["heads", "tails"])))
    clock = branch(lambda: f"{datetime.now():%H:%M:%S}")
    clock.putChild(b"", page("events"))
    hosts = vhost.NameVirtualHost()
    hosts.default = default  # type: ignore[assignment]
    hosts.addHost(b"clock.localhost", clock)
    endpoint = endpoints.serverFromString(reactor, f"tcp:{port}:interface=127.0.0.1")
    listening = await endpoint.listen(server.Site(hosts))
    print(f"Open http://127.0.0.1:{listening.getHost().port}/", flush=True)
    await defer.Deferred()  # until Ctrl-C


task.react(main, sys.argv[1:])
