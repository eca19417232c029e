# python examples/wsgi_threads.py, then open http://127.0.0.1:8080/ (pip install flask)
# A Flask app runs in Twisted's thread pool. Each text that is posted to it is sent to every open stream.

import sys

from flask import Flask, request
from twisted.internet import defer, endpoints, interfaces, reactor, task
from twisted.web import resource, server, wsgi

from txsse import SSEChannel, SSEResource, broadcast

PAGE = """<!doctype html><html lang="en">
<meta charset="utf-8"><meta name="color-scheme" content="light dark"><title>Say it to all</title>
<form><label>Say <input name="text" required></label> <button>to all</button></form><div role="log"></div>
<script>
  const [form] = document.forms, log = document.querySelector("div");
  form.onsubmit = () => (fetch("say", {method: "POST", body: new FormData(form)}), form.reset(), false);
  new EventSource("events").onmessage = (event) => log.append(event.data, document.createElement("br"));
</script>"""
app = Flask(__name__)
app.add_url_rule("/", view_func=lambda: PAGE)
channels: set[SSEChannel] = set()  # only used in the reactor's thread


@app.post("/say")
def say() -> tuple[str, int]:
    interfaces.IReactorFromThreads(reactor).callFromThread(broadcast, channels, request.form["text"])
    return "", 204


def channel_opened(channel: SSEChannel) -> None:
    channels.add(channel)
    channel.when_closed().addCallback(lambda reason: channels.remove(channel))


class Root(resource.Resource):
    def __init__(self) -> None:
        resource.Resource.__init__(self)
        self.putChild(b"events", SSEResource(channel_opened))

    def getChild(self, name: bytes, request: server.Request) -> resource.IResource:
        request.prepath, request.postpath = [], [name, *(request.postpath or [])]
        return wsgi.WSGIResource(reactor, interfaces.IReactorThreads(reactor).getThreadPool(), app)


async def main(reactor: interfaces.IReactorCore, port: str = "8080") -> None:
    endpoint = endpoints.serverFromString(reactor, f"tcp:{port}:interface=127.0.0.1")
    listening = await endpoint.listen(server.Site(Root()))
    print(f"Open http://127.0.0.1:{listening.getHost().port}/", flush=True)
    await defer.Deferred()  # until Ctrl-C


task.react(main, sys.argv[1:])
