"""
A state machine test of a Mercure hub: in any order of publications, subscriptions, disconnections and
expiries each subscriber receives exactly the updates that it may read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.logger import LogEvent

from tests.fakes import Wire
from tests.mercure.fuzzing import TOKENS, check_secret
from tests.mercure.model import Match, Published, Record, modern, texts_of, updates
from tests.mercure.world import (
    PATH,
    MercureWorld,
    Reader,
    token,
)
from txsse.mercure.settings import COOKIE

pytestmark = pytest.mark.fuzz


@dataclass
class Viewer:
    """
    A subscriber of the model.

    :ivar start: the index of the first update that it may receive.
    :ivar expires: when its token expires.
    :ivar end: the index after the last update before it disconnected.
    """

    reader: Reader
    wanted: list[Match]
    granted: list[Match]
    start: int
    expires: float | None
    end: int | None = None
    disconnected: bool = field(default=False)


class MercureMachine(RuleBasedStateMachine):
    """
    Publishers, and subscribers with tokens of all kinds, as time passes.
    """

    world: MercureWorld

    def __init__(self) -> None:
        super().__init__()
        self._patch = pytest.MonkeyPatch()
        self.viewers: list[Viewer] = []

    @initialize(compatibility=st.booleans(), several=st.lists(updates, max_size=3))
    def begin(self, compatibility: bool, several: list[Published]) -> None:
        wire = Wire("direct", self._patch)
        self.world = MercureWorld(wire, anonymous=True, compatibility=compatibility)
        self.record = Record(self.world)
        self.publish_several(several)

    @rule(several=st.lists(updates, min_size=1, max_size=3))
    def publish_several(self, several: list[Published]) -> None:
        for update in several:
            self.record.publish(update)

    @rule(
        update=updates,
        kind=st.sampled_from([None, "elsewhere", "expired", "other_audience", "other_key", "unsigned"]),
    )
    def publish_without_right(self, update: Published, kind: str | None) -> None:
        form = [("topic", topic) for topic in update.topics]
        client = self.world.ask("POST", form=form, token=None if kind is None else TOKENS[kind])
        assert client.status == (403 if kind == "elsewhere" else 401)

    @rule(
        granted=st.lists(modern, min_size=1, max_size=2),
        update=updates,
    )
    def publish_with_some_right(self, granted: list[Match], update: Published) -> None:
        may = all(any(match.selects(topic) for match in granted) for topic in update.topics)
        if not may:
            form = [("topic", topic) for topic in update.topics]
            given = self.make_token(publish=[match.granted for match in granted])
            assert self.world.ask("POST", form=form, token=given).status == 403

    @precondition(lambda self: sum(not viewer.disconnected for viewer in self.viewers) < 5)
    @rule(
        wanted=st.lists(modern, min_size=1, max_size=3),
        granted=st.lists(modern, max_size=2),
        lifetime=st.none() | st.sampled_from([10, 100]),
        resumed=st.none() | st.sampled_from(["earliest", "unknown", 0, 1, 2]),
        by_cookie=st.booleans(),
    )
    def subscribe(
        self,
        wanted: list[Match],
        granted: list[Match],
        lifetime: int | None,
        resumed: str | int | None,
        by_cookie: bool,
    ) -> None:
        last_id = (
            f"u{max(0, len(self.record.published) - 1 - resumed)}" if isinstance(resumed, int) else resumed
        )
        expires = None
        sent = {} if last_id is None else {"Last-Event-ID": last_id}
        given = None
        if granted or lifetime is not None:
            expires = self.world.reactor.seconds() + (lifetime or 100_000)
            given = self.make_token(subscribe=[match.granted for match in granted], exp=expires)
            if by_cookie:
                sent["Cookie"], given = f"x=y; {COOKIE}={given}", None
        start = self.record.begin(last_id)
        query = [match.parameter for match in wanted]
        reader = Reader(self.world.ask(query=query, token=given, headers=sent))
        assert reader.status == 200
        self.viewers.append(Viewer(reader, wanted, granted, start, expires))

    def make_token(self, **claims: Any) -> str:
        return token(**{"exp": self.world.reactor.seconds() + 3600, **claims})

    @rule(wanted=modern, kind=st.sampled_from(["expired", "other_audience", "other_key", "unsigned"]))
    def subscribe_by_bad_token(self, wanted: Match, kind: str) -> None:
        client = self.world.ask(query=[wanted.parameter], token=TOKENS[kind])
        assert client.status == 401

    @precondition(lambda self: any(not viewer.disconnected for viewer in self.viewers))
    @rule(which=st.integers(0, 10))
    def disconnect(self, which: int) -> None:
        connected = [viewer for viewer in self.viewers if not viewer.disconnected]
        viewer = connected[which % len(connected)]
        viewer.reader.disconnect()
        self.note_disconnected(viewer)

    def note_disconnected(self, viewer: Viewer) -> None:
        viewer.disconnected = True
        viewer.end = len(self.record.published)

    @precondition(lambda self: any(viewer.disconnected for viewer in self.viewers))
    @rule(which=st.integers(0, 10), keep_grants=st.booleans())
    def resume(self, which: int, keep_grants: bool) -> None:
        """
        Reconnect with the id of the last update received, with or without the token.
        """
        away = [viewer for viewer in self.viewers if viewer.disconnected]
        viewer = away[which % len(away)]
        ids = [
            event.id
            for event in viewer.reader.events
            if (event.id or "")[:1] == "u" and (event.id or "")[:3] != "urn"
        ]
        if not ids:
            return
        granted = viewer.granted if keep_grants else []
        given = self.make_token(subscribe=[match.granted for match in granted]) if granted else None
        query = [match.parameter for match in viewer.wanted]
        start = self.record.begin(ids[-1])
        expires = self.world.reactor.seconds() + 3600 if granted else None
        reader = Reader(self.world.ask(query=query, token=given, headers={"Last-Event-ID": ids[-1]}))  # type: ignore[dict-item]
        self.viewers.append(Viewer(reader, viewer.wanted, granted, start, expires))

    @rule(seconds=st.sampled_from([1, 20, 200]))
    def wait(self, seconds: int) -> None:
        self.world.reactor.advance(seconds)
        for viewer in self.viewers:
            viewer.reader.client.pump()
            if (
                not viewer.disconnected
                and viewer.expires is not None
                and viewer.expires <= self.world.reactor.seconds()
            ):
                assert viewer.reader.client.ended
                self.note_disconnected(viewer)

    @invariant()
    def receives_exactly(self) -> None:
        """
        Check that each subscriber has received exactly the updates that the model names, and no other is
        connected.
        """
        for viewer in self.viewers:
            due = self.record.due(viewer.wanted, viewer.granted, viewer.start, viewer.end)
            assert texts_of(viewer.reader) == due
            if not viewer.granted:
                check_secret(viewer.reader.client)
        connected = sum(not viewer.disconnected for viewer in self.viewers)
        assert self.world.hub.metrics().channels == connected

    @invariant()
    def lists_the_connected(self) -> None:
        """
        Check that the subscription API lists the connected subscribers, each matcher once.
        """
        expected = [
            match
            for viewer in self.viewers
            if not viewer.disconnected
            for match in dict.fromkeys(viewer.wanted)
        ]
        given = self.make_token(subscribe=["*"])
        client = self.world.ask(path=f"{PATH}/subscriptions", token=given)
        assert client.status == 200
        assert client.body.count(b'"active":true') == len(expected)

    def teardown(self) -> None:
        try:
            self.world.end()
            assert self.world.reactor.getDelayedCalls() == []
            assert self.world.hub.metrics().channels == 0
        finally:
            self._patch.undo()


class MachineTests:
    def test_any_order_of_events(self, failures: list[LogEvent]) -> None:
        """
        Each subscriber receives exactly the updates that it may read, until its token expires.
        """
        every = settings(
            derandomize=True, deadline=None, max_examples=40, stateful_step_count=25, database=None
        )
        run_state_machine_as_test(MercureMachine, settings=every)
        assert failures == []
