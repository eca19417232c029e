# python examples/clock.py, then open http://127.0.0.1:8080/
# Sends the time every second. The page shows its own JavaScript.

import sys
from datetime import datetime

from twisted.internet import defer, endpoints, interfaces, task
from twisted.web import resource, server, static

from txsse import SSEChannel, SSEResource

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Clock</title>
<style>
  :root { color-scheme: light dark; font: 1.2rem/1.5 system-ui; }
  body { max-width: 40rem; margin: 3rem auto; padding: 0 1rem; }
  #time { margin: 0; font-size: 5rem; font-variant-numeric: tabular-nums; }
  script { display: block; font: 1rem/1.5 monospace; white-space: pre-line; }
</style>
<h1>What time is it?</h1>
<p id="time" role="timer">…</p>
<p>The stream is <strong id="state" role="status">opening</strong>.</p>
<script>
  const show = (id, text) => { document.getElementById(id).textContent = text; };
  const source = new EventSource("events");
  source.onopen = () => show("state", "open");
  source.onmessage = (event) => show("time", event.data);
  source.onerror = () => show("state", "interrupted");
</script>
"""


def clock(channel: SSEChannel) -> defer.Deferred[task.LoopingCall]:
    # The Deferred fails when the channel is closed. This ends the loop, and is not reported as an error.
    return task.LoopingCall(lambda: channel.send(f"{datetime.now():%H:%M:%S}")).start(1.0)


async def main(reactor: interfaces.IReactorCore, port: str = "8080") -> None:
    root = resource.Resource()
    root.putChild(b"", static.Data(PAGE.encode(), "text/html; charset=utf-8"))
    root.putChild(b"events", SSEResource(clock))
    endpoint = endpoints.serverFromString(reactor, f"tcp:{port}:interface=127.0.0.1")
    listening = await endpoint.listen(server.Site(root))
    print(f"Open http://127.0.0.1:{listening.getHost().port}/", flush=True)
    await defer.Deferred()  # until Ctrl-C


task.react(main, sys.argv[1:])
