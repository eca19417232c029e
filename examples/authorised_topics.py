# python examples/authorised_topics.py, then open http://127.0.0.1:8080/
# Authorised topics: for each request, a callable returns the topics that it may read, or refuses it.

import sys
from datetime import datetime

from twisted.internet import defer, endpoints, interfaces, task, threads
from twisted.web import resource, server, static

from txsse import Access, Hub, UpgradeRefused

PAGE = """<!doctype html><html lang="en">
<meta charset="utf-8"><meta name="color-scheme" content="light dark"><title>Authorised topics</title>
<h1>Who are you?</h1>
<button value="a1">Ada</button> <button value="g2">Grace</button> <button value="x">Eve</button>
<p role="log"></p>
<script>
  let source, write = (text) => document.querySelector("p").prepend(text, document.createElement("br"));
  for (const button of document.querySelectorAll("button")) button.onclick = () => {
    source?.close();
    document.cookie = `token=${button.value}; SameSite=Strict`;
    source = new EventSource("by-cookie");
    source.onmessage = (event) => write(event.data);
    source.onerror = () => write(source.readyState === EventSource.CLOSED ? "refused" : "interrupted");
  };
</script>
"""
USERS = {b"a1": "ada", b"g2": "grace"}


def access(token: bytes | None) -> Access:
    if token not in USERS:
        raise UpgradeRefused("send a valid token", status=403 if token else 401)
    own = f"users/{USERS[token]}"
    return Access(["news", own], private=own)


# For clients other than browsers. The callable may return a Deferred, such as that of a database query.
def by_header(request: server.Request) -> defer.Deferred[Access]:
    request.setHeader("WWW-Authenticate", "Bearer")
    header = request.getHeader(b"Authorization") or b""
    return threads.deferToThread(access, header.removeprefix(b"Bearer "))


async def main(reactor: interfaces.IReactorTime, port: str = "8080") -> None:
    hub, root = Hub(), resource.Resource()
    root.putChild(b"", static.Data(PAGE.encode(), "text/html; charset=utf-8"))
    root.putChild(b"by-cookie", hub.resource(lambda request: access(request.getCookie(b"token"))))
    root.putChild(b"by-header", hub.resource(by_header))
    endpoint = endpoints.serverFromString(reactor, f"tcp:{port}:interface=127.0.0.1")
    listening = await endpoint.listen(server.Site(root))
    print(f"Open http://127.0.0.1:{listening.getHost().port}/", flush=True)
    while True:  # until Ctrl-C
        hub.publish("news", f"{datetime.now():%H:%M:%S}, for all")
        for user in USERS.values():
            hub.publish(f"users/{user}", f"only for {user}", private=True)
        await task.deferLater(reactor, 1.0)


task.react(main, sys.argv[1:])
