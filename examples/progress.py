# python examples/progress.py, then open http://127.0.0.1:8080/
# A long job reports its progress. The job is an asynchronous generator without web code; send_from reads it.

import sys
from collections.abc import AsyncIterator
from math import isqrt

from twisted.internet import defer, endpoints, interfaces, task, threads
from twisted.web import resource, server, static

from txsse import ServerSentEvent, SSEResource

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Progress</title>
<style>
  :root { color-scheme: light dark; font: 1.2rem/1.5 system-ui; }
  body { max-width: 40rem; margin: 3rem auto; padding: 0 1rem; }
  progress { width: 100%; height: 2rem; }
</style>
<h1><label for="bar">Counting primes</label></h1>
<progress id="bar" max="100"></progress>
<p id="result" role="status"></p>
<script>
  const source = new EventSource("job");
  source.onmessage = (event) => { document.getElementById("bar").value = event.data; };
  source.addEventListener("done", (event) => {
    source.close();  // otherwise the browser would reconnect and start the job again
    document.getElementById("result").textContent = event.data;
  });
</script>
"""


def count_primes(start: int, stop: int) -> int:
    return sum(all(n % d for d in range(2, isqrt(n) + 1)) for n in range(max(start, 2), stop))


async def job() -> AsyncIterator[str | ServerSentEvent]:
    found = 0
    for percent in range(1, 101):
        found += await threads.deferToThread(count_primes, (percent - 1) * 5000, percent * 5000)
        yield str(percent)
    yield ServerSentEvent(f"There are {found:,} primes below 500,000.", event="done")


async def main(reactor: interfaces.IReactorCore, port: str = "8080") -> None:
    root = resource.Resource()
    root.putChild(b"", static.Data(PAGE.encode(), "text/html; charset=utf-8"))
    root.putChild(b"job", SSEResource(lambda channel: channel.send_from(job())))
    endpoint = endpoints.serverFromString(reactor, f"tcp:{port}:interface=127.0.0.1")
    listening = await endpoint.listen(server.Site(root))
    print(f"Open http://127.0.0.1:{listening.getHost().port}/", flush=True)
    await defer.Deferred()  # until Ctrl-C


task.react(main, sys.argv[1:])
