# twistd -n -y examples/news.tac, then: curl -N http://127.0.0.1:8080/events
# A hub as a service of its own, with a journal in SQLite. Without -n, twistd daemonises; SIGTERM drains the hub.

import os
from datetime import datetime

from twisted.application.internet import TimerService
from twisted.application.service import Application
from twisted.internet import reactor
from twisted.web.resource import Resource

from txsse import Hub, HubService, ServerSentEvent
from txsse.journal.sqlite import SQLiteJournal
from txsse.web import BoundedSite

hub = Hub(journal=SQLiteJournal(os.environ.get("NEWS_JOURNAL", "news.sqlite")))
root = Resource()
root.putChild(b"events", hub.resource("news"))

application = Application("news")
HubService(
    hub,
    BoundedSite(root, reactor=reactor, max_connections=10_000),
    os.environ.get("NEWS_LISTEN", "tcp:8080:interface=127.0.0.1"),
    farewell=ServerSentEvent("back soon", event="restart"),
).setServiceParent(application)

# Services stop in the reverse order: this one publishes nothing to a hub that stops.
TimerService(1.0, lambda: hub.publish("news", f"{datetime.now():%H:%M:%S}")).setServiceParent(application)
