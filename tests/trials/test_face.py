"""
Trial: a second HTTP face, ``GET /events?topic=``, in one new module.
"""

from __future__ import annotations

from tests.fakes import Client, Wire
from tests.hub.fakes import World
from tests.trials.events_face import EventsFace


def connect(world: World, path: str, last_event_id: str | None = None, method: str = "GET") -> Client:
    client = world.wire.connect(EventsFace(world.hub))
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    return client.request(path, method=method, headers=headers)


class EventsFaceTests:
    def test_topics(self, plain: Wire) -> None:
        """
        A client of a third-party HTTP face gets the topics of its query, live and after it resumes.
        """
        world = World(plain)
        client = connect(world, "/events?topic=a&topic=b")
        (first,) = world.publish("1", topics="a")
        world.publish("2", topics="c")
        world.publish("3", topics="b")
        world.reactor.run_soon()
        client.pump()
        assert [line for line in client.body.split(b"\n") if line.startswith(b"data")] == [
            b"data: 1",
            b"data: 3",
        ]
        resumed = connect(world, "/events?topic=b", first)
        assert b"data: 3" in resumed.body
        assert resumed.headers["last-event-id"] == first
        for each in (client, resumed):
            each.disconnect()

    def test_no_topic(self, plain: Wire) -> None:
        """
        A third-party HTTP face refuses a query without a topic, with its own message.
        """
        world = World(plain)
        client = connect(world, "/events")
        assert (client.status, client.body) == (400, b"name a topic: ?topic=news\n")

    def test_other_requests(self, plain: Wire) -> None:
        """
        ``RequestAdmission`` answers HEAD, OPTIONS and other methods for a third-party HTTP face.
        """
        world = World(plain)
        assert connect(world, "/events?topic=a", method="HEAD").status == 200
        assert connect(world, "/events?topic=a", method="POST").status == 405
        assert connect(world, "/events?topic=a", method="OPTIONS").headers["allow"] == "GET, HEAD, OPTIONS"
