# python examples/resume.py, then open http://127.0.0.1:8080/
# A number every half second, and a journal of the last ten. The page disconnects, and resumes later.

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
<button>Disconnect for 3 seconds</button> <button>Disconnect for 12 seconds</button>
<div role="log"></div>
<script>
  const log = document.querySelector("div");
  let source, last = "", line;
  function write(text) { line = log.appendChild(document.createElement("p")); line.textContent = text; }
  function listen() {
    // A browser that loses its connection sends the last id in a header. After close() it does not, so
    // this page sends the id as a parameter. "", on a first visit, starts with new events.
    source = new EventSource("events?lastEventId=" + encodeURIComponent(last));
    source.onopen = () => write(last ? `Resumed after ${last}: ` : "Connected: ");
    source.onmessage = (event) => { last = event.lastEventId; line.textContent += event.data + " "; };
    source.addEventListener("stream-reset", (event) => write(`Gap; replayed ${event.data}: `));
  }
  document.querySelectorAll("button").forEach((button, i) => button.onclick = () => {
    source.close();
    setTimeout(listen, [3000, 12000][i]);
  });
  listen();
</script>
"""


async def main(reactor: interfaces.IReactorTime, port: str = "8080") -> None:
    # All limits apply; the oldest updates are removed first. A client that misses some gets stream-reset.
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
        await hub.publish("numbers", str(number))  # the hub chooses an id that no other run uses
        await task.deferLater(reactor, 0.5)


task.react(main, sys.argv[1:])
