# python examples/events.py, then open http://127.0.0.1:8080/
# Events of two types, with ids. The stream ends after ten; the browser reconnects, and the count continues.

import sys

from twisted.internet import defer, endpoints, interfaces, task
from twisted.web import resource, server, static

from txsse import SSEChannel, SSEResource, Upgrader

QUOTES = ["Über allen Gipfeln\nist Ruh", "古池や\n蛙飛びこむ\n水の音", "Je pense,\ndonc je suis"]

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Events</title>
<style>
  :root { color-scheme: light dark; font: 1.2rem/1.5 system-ui; }
  body { max-width: 40rem; margin: 3rem auto; padding: 0 1rem; }
  #log { display: flex; flex-direction: column-reverse; }
  #log p { margin: 0; white-space: pre-line; }
</style>
<h1>Events</h1>
<p>The stream is <strong id="state" role="status">opening</strong>.</p>
<div id="log" role="log"></div>
<script>
  const state = document.getElementById("state"), log = document.getElementById("log");
  const add = (event, text) => {
    log.appendChild(document.createElement("p")).textContent = `${event.lastEventId}. ${text}`;
  };
  const source = new EventSource("events");
  source.onopen = () => { state.textContent = "open"; };
  source.onerror = () => { state.textContent = "interrupted; the browser will reconnect"; };
  source.addEventListener("tick", (event) => add(event, `The square is ${JSON.parse(event.data).square}`));
  source.addEventListener("quote", (event) => add(event, event.data));
</script>
"""


async def events(channel: SSEChannel) -> None:
    last = int(channel.last_event_id) if channel.last_event_id.isdecimal() else 0
    for number in range(last + 1, last + 11):
        if number % 4:
            channel.send_json({"number": number, "square": number**2}, event="tick", id=str(number))
        else:
            channel.send(QUOTES[number // 4 % 3], event="quote", id=str(number))
        await task.deferLater(channel.reactor, 0.25)


async def main(reactor: interfaces.IReactorCore, port: str = "8080") -> None:
    root = resource.Resource()
    root.putChild(b"", static.Data(PAGE.encode(), "text/html; charset=utf-8"))
    root.putChild(b"events", SSEResource(events, upgrader=Upgrader(retry=1.0)))
    endpoint = endpoints.serverFromString(reactor, f"tcp:{port}:interface=127.0.0.1")
    listening = await endpoint.listen(server.Site(root))
    print(f"Open http://127.0.0.1:{listening.getHost().port}/", flush=True)
    await defer.Deferred()  # until Ctrl-C


task.react(main, sys.argv[1:])
