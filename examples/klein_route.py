# python examples/klein_route.py, then open http://127.0.0.1:8080/ (pip install klein)
# Streams from Klein routes: one returns a resource, the other upgrades its request.

import sys
from datetime import datetime

from klein import Klein
from twisted.internet import defer, endpoints, task
from twisted.web import server

from txsse import SSEResource, UpgradeRefused, upgrade

PAGE = b"""<!doctype html>
<html lang="en">
<meta charset="utf-8"><meta name="color-scheme" content="light dark"><title>Klein</title>
<p>Every second: <span role="timer"></span></p>
<p>Every three seconds: <span role="timer"></span></p>
<script>
  const [often, seldom] = document.querySelectorAll("span");
  new EventSource("clock").onmessage = (event) => { often.textContent = event.data; };
  new EventSource("clock/3").onmessage = (event) => { seldom.textContent = event.data; };
</script>
"""
app = Klein()


@app.route("/")
def page(request):
    return PAGE


@app.route("/clock")
def clock(request):
    return SSEResource(lambda channel: times(channel.reactor))


@app.route("/clock/<int(min=1):seconds>")
def slow_clock(request, seconds):
    try:
        channel = upgrade(request)
    except UpgradeRefused:
        return None  # the client has its answer
    channel.send_from(times(channel.reactor, seconds))
    return channel.when_closed()  # Klein ends the request when this fires, and no earlier


async def times(reactor, seconds=1):
    while True:
        yield f"{datetime.now():%H:%M:%S}"
        await task.deferLater(reactor, seconds)


async def main(reactor, port="8080"):
    endpoint = endpoints.serverFromString(reactor, f"tcp:{port}:interface=127.0.0.1")
    listening = await endpoint.listen(server.Site(app.resource()))
    print(f"Open http://127.0.0.1:{listening.getHost().port}/", flush=True)
    await defer.Deferred()  # until Ctrl-C


task.react(main, sys.argv[1:])
