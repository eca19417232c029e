# python examples/log_out.py, then open http://127.0.0.1:8080/ in two tabs
# A log-out in one tab ends the streams of all tabs: the rule refuses the session, and the hub disconnects it.

import secrets
import sys
from pathlib import Path

from twisted.internet import endpoints, interfaces, task
from twisted.web import resource, server, static

from txsse import Access, Hub, Upgrader, UpgradeRefused

PAGE = Path(__file__).with_name("log_out.html").read_bytes()
# The user of each session; a program keeps them in its database, and ends them after some time.
SESSIONS: dict[bytes | None, str] = {}
HUB = Hub(upgrader=Upgrader(retry=1))  # a client asks again a second after its stream has ended


def access(request: server.Request) -> Access:
    session = request.getCookie(b"session")
    if session not in SESSIONS:
        raise UpgradeRefused("log in first", status=204)  # after this, a browser does not ask again
    topic = f"users/{SESSIONS[session]}"
    return Access(topic, private=topic, key=session)  # with several nodes, choose a key that is not secret


class Form(resource.Resource):
    def render_POST(self, request: server.Request) -> bytes:
        if request.getHeader("Sec-Fetch-Site") not in (None, "same-origin"):
            request.setResponseCode(403)  # sent by another site's page
            return b""
        # In this order: a client that reconnects in between must be refused.
        session = request.getCookie(b"session")
        if SESSIONS.pop(session, None) is not None:
            HUB.disconnect(key=session)
        if request.path == b"/log-in":
            session, name = secrets.token_urlsafe().encode(), request.args.get(b"name", [b""])[0]
            SESSIONS[session] = name.decode("utf-8", "replace")[:30]
            request.addCookie("session", session, path="/", httpOnly=True, sameSite="strict")
        request.redirect(b"/")
        return b""


async def main(reactor: interfaces.IReactorTime, port: str = "8080") -> None:
    root, form = resource.Resource(), Form()  # type: ignore[no-untyped-call]
    root.putChild(b"", static.Data(PAGE, "text/html; charset=utf-8"))
    root.putChild(b"events", HUB.resource(access))
    root.putChild(b"log-in", form)
    root.putChild(b"log-out", form)
    endpoint = endpoints.serverFromString(reactor, f"tcp:{port}:interface=127.0.0.1")
    listening = await endpoint.listen(server.Site(root))
    print(f"Open http://127.0.0.1:{listening.getHost().port}/", flush=True)
    while True:  # until Ctrl-C
        for user in set(SESSIONS.values()):
            text = f"You are {user}, in {HUB.subscribers[f'users/{user}']} tabs."
            HUB.publish(f"users/{user}", text, private=True)
        await task.deferLater(reactor, 0.5)


task.react(main, sys.argv[1:])
