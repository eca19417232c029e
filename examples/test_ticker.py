# python -m pytest examples/test_ticker.py
# How to test a program's streams and clients without sockets, on a fake clock.

from twisted.internet import task
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from twisted.web.iweb import IAgent

from txsse import EventSource, SSEChannel, SSEResource, Upgrader
from txsse.testing import CUT, HOLD, MemoryAgent, MemoryPair, Reply, ScriptedResource


class Ticker(SSEResource):
    """The program's resource: it counts seconds, and resumes after the client's last id."""

    def __init__(self, reactor: IReactorTime) -> None:
        super().__init__(upgrader=Upgrader(reactor=reactor, retry=1.0))
        self.reactor = reactor

    async def channel_opened(self, channel: SSEChannel) -> None:
        last = channel.last_event_id
        number = int(last) if last.isdecimal() else 0
        while True:
            number += 1
            channel.send(str(number), id=str(number))
            await task.deferLater(self.reactor, 1.0)


def follow_total(url: str, reactor: IReactorTime, agent: IAgent) -> list[int]:
    """Add up the numbers of a stream: this is the program's client."""
    totals = [0]
    source = EventSource(
        url,
        reactor=reactor,
        agent=agent,
        event_received=lambda event: totals.append(totals[-1] + int(event.data)),
        reconnect_on=[503],
    )
    source.start()
    return totals


def test_ticker() -> None:
    clock = Clock()
    pair = MemoryPair(Ticker(clock), clock=clock)
    clock.pump([1.0] * 3)
    assert [event.data for event in pair.events] == ["1", "2", "3", "4"]
    pair.agent.cut()
    clock.pump([1.0] * 2)
    assert [event.data for event in pair.events] == ["1", "2", "3", "4", "5", "6"]


def test_total() -> None:
    clock = Clock()
    busy = Reply(status=503, headers={"Retry-After": "5"})
    script = ScriptedResource([["id: 1\ndata: 10\n\n", CUT], busy, ["data: 20\n\n", HOLD]], reactor=clock)
    totals = follow_total("http://example.org/", clock, MemoryAgent(script, clock))
    clock.pump([1.0] * 10)
    assert totals == [0, 10, 30]
    assert [visit.last_event_id for visit in script.visits] == [None, "1", "1"]
