# python examples/devices.py, then open http://127.0.0.1:8080/ in several tabs
# A page gets the state of all devices when it opens, and then each change, on one stream.

import json
import random
import sys

from twisted.internet import endpoints, interfaces, task
from twisted.web import resource, server, static

from txsse import Hub

PAGE = """<!doctype html><meta charset="utf-8"><title>Devices</title>
<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">
<style>
  body { font: 1rem/1.5 system-ui, sans-serif; max-width: 48rem; margin: 2rem auto; padding: 0 1rem; }
  main { display: grid; grid-template-columns: repeat(auto-fill, minmax(7rem, 1fr)); gap: .5rem; }
  div { padding: .5rem .75rem; border: 1px solid #8886; border-radius: .5rem; white-space: pre-line; }
  .on { background: #22a06b33; border-color: #22a06b; }
</style>
<h1>Devices</h1><p>Waiting for the state.</p><main></main>
<script>
  const main = document.querySelector("main"), items = {}, source = new EventSource("events");
  let changes = 0;
  source.onmessage = ({ data, lastEventId }) => {
    const { id, on, degrees } = JSON.parse(data);
    const item = items[`device-${id}`] ??= main.appendChild(document.createElement("div"));
    item.className = on ? "on" : "";
    item.textContent = `Device ${id}\\n${on ? `${degrees} °C` : "off"}`;
    if (lastEventId) changes += 1;  // the events of the state have no ID
    document.querySelector("p").textContent = `${main.children.length} devices, changes: ${changes}`;
  };
  const remove = (key) => { items[key]?.remove(); delete items[key]; };
  source.addEventListener("unretain", ({ data }) => remove(data));
  source.addEventListener("stream-reset", () => Object.keys(items).forEach(remove));
</script>"""


async def main(reactor: interfaces.IReactorTime, port: str = "8080", interval: str = "0.5") -> None:
    hub = Hub()
    root = resource.Resource()
    root.putChild(b"", static.Data(PAGE.encode(), "text/html; charset=utf-8"))
    root.putChild(b"events", hub.resource("devices"))
    endpoint = endpoints.serverFromString(reactor, f"tcp:{port}:interface=127.0.0.1")
    listening = await endpoint.listen(server.Site(root))
    print(f"Open http://127.0.0.1:{listening.getHost().port}/", flush=True)

    def report(id: int) -> None:
        device = {"id": id, "on": random.random() < 0.8, "degrees": random.randrange(15, 30)}
        # A client that connects gets the newest report of each device first.
        hub.publish("devices", json.dumps(device), retain=f"device-{id}")

    for id in range(24):
        report(id)
    while True:  # until Ctrl-C
        await task.deferLater(reactor, float(interval))
        report(random.randrange(24))


task.react(main, sys.argv[1:])
