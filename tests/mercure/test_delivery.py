"""
A property test of delivery: for drawn subscriptions, grants and updates each subscriber receives exactly the
updates that the model (tests/mercure/model.py) names.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.logger import LogEvent

from tests.mercure.fuzzing import check_secret, fuzz, hub
from tests.mercure.model import ORIGIN, Match, Published, Record, modern, olden, texts_of, updates
from tests.mercure.world import (
    MercureWorld,
    Reader,
    token,
)

pytestmark = pytest.mark.fuzz


class DeliveryTests:
    def test_model(self, failures: list[LogEvent]) -> None:
        """
        Each subscriber receives exactly the updates that it has subscribed to and may read, replayed and
        live, in order.
        """

        @fuzz(200)
        @given(
            st.tuples(st.just(False), st.lists(modern, min_size=1, max_size=4))
            | st.tuples(st.just(True), st.lists(olden, min_size=1, max_size=4)),
            st.lists(modern, max_size=2),
            st.lists(updates, max_size=6),
            st.lists(updates, max_size=4),
            st.none() | st.sampled_from(["earliest", "unknown"]) | st.integers(0, 5),
            st.sampled_from(["header", "query", "body"]),
        )
        @example(
            (False, [Match("urlpattern", "/a")]),
            [Match("exact", "/a")],
            [],
            [Published([f"{ORIGIN}/a"], True)],
            None,
            "query",
        )
        @example(
            (False, [Match("urlpattern", "/A")]),
            [],
            [Published(["/a"], False), Published(["/A"], False)],
            [],
            "earliest",
            "body",
        )
        def deliver(
            subscription: tuple[bool, list[Match]],
            granted: list[Match],
            before: list[Published],
            after: list[Published],
            resumed: str | int | None,
            carrier: str,
        ) -> None:
            compatibility, wanted = subscription
            with hub(compatibility=compatibility) as world:
                record = Record(world)
                for update in before:
                    record.publish(update)
                last_id = f"u{resumed}" if isinstance(resumed, int) else resumed
                start = record.begin(last_id)
                reader = self.ask(world, wanted, granted, last_id, carrier)
                assert reader.status == 200
                if last_id is not None:
                    named = last_id if start else "earliest"
                    assert reader.headers["mercure-last-event-id"] == named
                for update in after:
                    record.publish(update)
                assert texts_of(reader) == record.due(wanted, granted, start)
                if not granted:
                    check_secret(reader.client)

        deliver()
        assert failures == []

    def ask(
        self,
        world: MercureWorld,
        wanted: Sequence[Match],
        granted: Sequence[Match],
        last_id: str | None,
        carrier: str,
    ) -> Reader:
        fields = [match.parameter for match in wanted]
        given = token(subscribe=[match.granted for match in granted]) if granted else None
        sent = {}
        if last_id is not None and carrier == "header":
            sent["Last-Event-ID"] = last_id
        elif last_id is not None:
            fields.append(("last_event_id", last_id))
        if carrier == "body":
            return Reader(world.ask("QUERY", form=fields, token=given, headers=sent))
        return Reader(world.ask(query=fields, token=given, headers=sent))
