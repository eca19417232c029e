# python examples/dashboard.py, then open http://127.0.0.1:8080/
# Prices that change often. A slow reader gets the newest price of each commodity, and skips older ones.

import json
import random
import sys

from twisted.internet import endpoints, interfaces, task
from twisted.web import resource, server, static

from txsse import Hub, MemoryJournal, Upgrader

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Dashboard</title>
<style>
  :root { color-scheme: light dark; font: 1.1rem/1.5 system-ui; }
  body { max-width: 44rem; margin: 2rem auto; padding: 0 1rem; }
  main { display: grid; grid-template-columns: repeat(auto-fill, minmax(12rem, 1fr)); gap: 1rem; }
  section { padding: .5rem 1rem 1rem; border: 1px solid #8886; border-radius: .75rem; }
  h2 { margin: 0; font-size: 1rem; } output { font-size: 2rem; font-variant-numeric: tabular-nums; }
  svg { display: block; width: 100%; height: 3rem; fill: none; stroke: #1a9c8c; }
</style>
<h1>Prices</h1><main></main>
<template><section><h2></h2><output></output><svg viewBox="0 0 99 200" preserveAspectRatio="none"
  ><polyline vector-effect="non-scaling-stroke" stroke-width="2" /></svg></section></template>
<script>
  const main = document.querySelector("main"), gauges = {};
  new EventSource("events?lastEventId=earliest").onmessage = (event) => {
    const { name, prices } = JSON.parse(event.data);
    if (!gauges[name]) main.append(document.querySelector("template").content.cloneNode(true));
    const gauge = gauges[name] ??= main.lastElementChild, show = (tag) => gauge.querySelector(tag);
    show("h2").textContent = name;
    show("output").value = prices.at(-1).toFixed(2);
    show("polyline").setAttribute("points", prices.map((price, i) => `${i},${200 - price}`).join(" "));
  };
</script>
"""


async def main(reactor: interfaces.IReactorTime, port: str = "8080", interval: str = "0.05") -> None:
    # The journal serves clients that connect: they need only the newest price of each commodity.
    hub = Hub(journal=MemoryJournal(max_count=8), upgrader=Upgrader(slow_policy="latest", max_buffer=65536))
    root = resource.Resource()
    root.putChild(b"", static.Data(PAGE.encode(), "text/html; charset=utf-8"))
    root.putChild(b"events", hub.resource("*"))
    endpoint = endpoints.serverFromString(reactor, f"tcp:{port}:interface=127.0.0.1")
    listening = await endpoint.listen(server.Site(root))
    print(f"Open http://127.0.0.1:{listening.getHost().port}/", flush=True)
    prices = {name: [100.0] for name in ("Copper", "Cotton", "Gold", "Oil", "Rice", "Silver", "Tea", "Wheat")}
    while True:  # until Ctrl-C
        for name, past in prices.items():
            past[:] = [*past, 2 + 0.98 * past[-1] + random.gauss(0, 4)][-100:]
            # One topic for each commodity: a slow reader gets the newest update of each topic.
            hub.publish(f"prices/{name}", json.dumps({"name": name, "prices": [round(p, 2) for p in past]}))
        await task.deferLater(reactor, float(interval))


task.react(main, sys.argv[1:])
