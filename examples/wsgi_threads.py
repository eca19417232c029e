# python examples/wsgi_threads.py, then open http://127.0.0.1:8080/ (pip install flask)
# What is posted to a Flask app, which runs in Twisted's thread pool, goes to every open stream.

import sys
from contextlib import suppress

from flask import Flask, request
from twisted.internet import defer, endpoints, reactor, task
from twisted.web import resource, server, wsgi

from txsse import ChannelClosed, ServerSentEvent, SSEResource

PAGE = """<!doctype html><html lang="en">
<meta charset="utf-8"><meta name="color-scheme" content="light dark"><title>Say it to all</title>
<form><label>Say <input name="text" required></label> <button>to all</button></form><div role="log"></div>
<script>
  const [form] = document.forms, log = document.querySelector("div");
  const say = () => fetch("say", {method: "POST", body: new FormData(form)});
  form.onsubmit = () => { say(); form.reset(); return false; };
  new EventSource("events").onmessage = (event) => log.append(event.data, document.createElement("br"));
</script>
"""
app = Flask(__name__)
app.add_url_rule("/", view_func=lambda: PAGE)
channels = set()  # for the reactor's thread alone


@app.post("/say")
def say():
    reactor.callFromThread(send_to_all, ServerSentEvent(request.form["text"]))
    return "", 204


def send_to_all(event):
    for channel in list(channels):
        with suppress(ChannelClosed):  # a client that is gone keeps it from nobody else
            channel.send_event(event)


def channel_opened(channel):
    channels.add(channel)
    channel.when_closed().addCallback(lambda reason: channels.remove(channel))


class Root(resource.Resource):
    def getChild(self, name, request):
        request.postpath.insert(0, request.prepath.pop())
        return wsgi.WSGIResource(reactor, reactor.getThreadPool(), app)


async def main(reactor, port="8080"):
    root = Root()
    root.putChild(b"events", SSEResource(channel_opened))
    endpoint = endpoints.serverFromString(reactor, f"tcp:{port}:interface=127.0.0.1")
    listening = await endpoint.listen(server.Site(root))
    print(f"Open http://127.0.0.1:{listening.getHost().port}/", flush=True)
    await defer.Deferred()  # until Ctrl-C


task.react(main, sys.argv[1:])
