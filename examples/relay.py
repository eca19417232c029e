# python examples/relay.py 8081 http://127.0.0.1:8080/events, then open http://127.0.0.1:8081/
# Relays a stream, such as that of examples/clock.py, to many clients over one connection to its server.

import sys

from twisted.internet import defer, endpoints, interfaces, task
from twisted.web import resource, server, static

from txsse import EventSource, Hub, ServerSentEvent

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Relay</title>
<style>
  :root { color-scheme: light dark; font: 1.2rem/1.5 system-ui; }
  body { max-width: 40rem; margin: 3rem auto; padding: 0 1rem; }
  #data { margin: 0; font-size: 3rem; overflow-wrap: anywhere; }
</style>
<h1>Events of the other server</h1>
<p id="data" role="log">…</p>
<script>
  new EventSource("events").onmessage = (event) => {
    document.getElementById("data").textContent = event.data;
  };
</script>
"""


async def main(
    reactor: interfaces.IReactorCore, port: str = "8081", url: str = "http://127.0.0.1:8080/events"
) -> None:
    hub = Hub()

    def relay(event: ServerSentEvent) -> defer.Deferred[str]:
        # Events keep their types and get ids of this hub. The source waits until the journal has stored each.
        return hub.publish("relayed", event.data, event=event.event if event.event != "message" else None)

    source = EventSource(url, event_received=relay, on_error=lambda error: print(error, file=sys.stderr))
    source.start()
    root = resource.Resource()
    root.putChild(b"", static.Data(PAGE.encode(), "text/html; charset=utf-8"))
    root.putChild(b"events", hub.resource("relayed"))
    reactor.addSystemEventTrigger("before", "shutdown", source.close)
    endpoint = endpoints.serverFromString(reactor, f"tcp:{port}:interface=127.0.0.1")
    listening = await endpoint.listen(server.Site(root))
    print(f"Open http://127.0.0.1:{listening.getHost().port}/", flush=True)
    await defer.Deferred()  # until Ctrl-C


task.react(main, sys.argv[1:])
