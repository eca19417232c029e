# python examples/resume.py, then open http://127.0.0.1:8080/
# A number every half a second, and a journal of the last ten. The page goes away, and comes back for more.

import sys

from twisted.internet import endpoints, interfaces, task
from twisted.web import resource, server, static

from txsse import Hub, MemoryJournal

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Resume</title>
<style>
  :root { color-scheme: light dark; font: 1.2rem/1.5 system-ui; }
  body { max-width: 40rem; margin: 3rem auto; padding: 0 1rem; }
  button { font: inherit; padding: .25rem 1rem; } p { overflow-wrap: anywhere; }
</style>
<h1>Resume</h1>
<button>Go away for 3 seconds</button> <button>Go away for 12 seconds</button>
<div role="log"></div>
<script>
  const log = document.querySelector("div");
  let source, last = "", line;
  function write(text) { line = log.appendChild(document.createElement("p")); line.textContent = text; }
  function listen() {
    // A browser that loses its connection tells the last id by itself, in a header. This page leaves, so it
    // has to say where it was: "", on a first visit, is from now on.
    source = new EventSource("events?lastEventId=" + encodeURIComponent(last));
    source.onopen = () => write(last ? `Back, behind ${last}: ` : "Here: ");
    source.onmessage = (event) => { last = event.lastEventId; line.textContent += event.data + " "; };
    source.addEventListener("stream-reset", (event) => write(`There was more; replayed ${event.data}: `));
  }
  document.querySelectorAll("button").forEach((button, i) => button.onclick = () => {
    source.close();
    setTimeout(listen, [3000, 12000][i]);
  });
  listen();
</script>
"""


async def main(reactor: interfaces.IReactorTime, port: str = "8080") -> None:
    # The bounds hold all at once, and the oldest go first. A client that is away for longer is told so.
    hub = Hub(journal=MemoryJournal(max_count=10, max_bytes=1_000_000, max_age=3600.0))
    root = resource.Resource()
    root.putChild(b"", static.Data(PAGE.encode(), "text/html; charset=utf-8"))
    root.putChild(b"events", hub.resource("numbers"))
    endpoint = endpoints.serverFromString(reactor, f"tcp:{port}:interface=127.0.0.1")
    listening = await endpoint.listen(server.Site(root))
    print(f"Open http://127.0.0.1:{listening.getHost().port}/", flush=True)
    number = 0
    while True:  # until Ctrl-C
        number += 1
        await hub.publish("numbers", str(number))  # it has an id from the hub, which no other run gives
        await task.deferLater(reactor, 0.5)


task.react(main, sys.argv[1:])
