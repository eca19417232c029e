"""
The quota of retained updates: who counts as their publisher, and how many each publisher may have.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from math import inf
from typing import Any

import pytest

from tests.fakes import Client, Wire
from tests.hub.fakes import Forgetful, ScriptedJournal, result_of
from tests.mercure.world import MercureWorld, sign, token
from txsse import Hub, JournalFailed, ServerSentEvent, Update
from txsse.journal.retained import Retained
from txsse.journal.retention import Retention
from txsse.mercure.auth.identity import Identity
from txsse.mercure.retained_quota import OverQuota, Quota, publisher_of


def publisher(**claims: Any) -> str:
    return token(publish=["*"], **claims)


ANN, BOB = publisher(sub="ann"), publisher(sub="bob")


def retain(world: MercureWorld, token: str, key: str, *topics: str, **fields: str) -> Client:
    form = [*(("topic", topic) for topic in topics or ("a",)), ("retain", key), *fields.items()]
    return world.ask("POST", form=form, token=token)


class PublisherTests:
    def test_claims(self) -> None:
        """
        The publisher is the subject; without one, the ID of the token; and without both, the token.
        """
        both = publisher_of(Identity("ann", "t1"), "a.b.c")
        assert both == publisher_of(Identity("ann", "t2", "s1"), "d.e.f")
        by_id = publisher_of(Identity(None, "ann"), "a.b.c")
        assert by_id == publisher_of(Identity(None, "ann"), "d.e.f")
        assert by_id.partition("-")[0] == "jti"
        by_token = publisher_of(Identity(), "a.b.c")
        others = {both, by_id, by_token, publisher_of(Identity(None, None, "ann"), "a.c.c")}
        assert len(others) == 4

    def test_signature(self) -> None:
        """
        The same claims with another valid signature, which some algorithms allow, are the same publisher.
        """
        assert publisher_of(Identity(), "a.b.c") == publisher_of(Identity(), "a.b.d")
        assert publisher_of(Identity(), "a.b.c") != publisher_of(Identity(), "a.x.c")

    def test_discloses_nothing(self) -> None:
        """
        The name of a publisher is short, and contains neither the claim nor the token.
        """
        for identity in (Identity("ann" * 170), Identity(None, "ann"), Identity()):
            name = publisher_of(identity, "ann.ann.c")
            assert len(name) < 50 and name.isascii() and "ann" not in name


class QuotaTests:
    @pytest.mark.parametrize(
        ("first", "second", "is_same"),
        [
            ({"sub": "ann", "jti": "1"}, {"sub": "ann", "jti": "2"}, True),
            ({"sub": "ann"}, {"sub": "bob"}, False),
            ({"jti": "1"}, {"jti": "1", "exp": 3000}, True),
            ({"jti": "1"}, {"jti": "2"}, False),
            ({"jti": "ann"}, {"sub": "ann"}, False),
            ({"sid": "s"}, {"sid": "s", "exp": 3000}, False),
        ],
    )
    def test_tokens(
        self, new: Callable[..., MercureWorld], first: dict[str, Any], second: dict[str, Any], is_same: bool
    ) -> None:
        """
        Tokens of one publisher share a quota; those of others have their own.
        """
        world = new(retained_per_token=1)
        assert retain(world, publisher(**first), "k1").status == 200
        assert retain(world, publisher(**first), "k2").status == 507
        assert retain(world, publisher(**second), "k2").status == (507 if is_same else 200)

    def test_refusal(self, new: Callable[..., MercureWorld]) -> None:
        """
        An update over the quota gets 507 with what to do; it is neither published nor retained.
        """
        world = new(retained_per_token=2, anonymous=True)
        reader = world.subscribe("*")
        assert [retain(world, ANN, key).status for key in ("k1", "k2")] == [200, 200]
        client = retain(world, ANN, "k3", data="x")
        assert client.status == 507
        assert b"may have 2 retained updates" in client.body and b"remove some" in client.body
        assert "www-authenticate" not in client.headers
        assert len(reader.events) == 2
        assert world.hub.metrics().retained == 2
        # Updates that are not retained are not limited.
        assert world.publish("a", token=ANN).status == 200

    def test_own_key(self, new: Callable[..., MercureWorld]) -> None:
        """
        A publisher whose quota is used up may replace its own retained updates, and remove them; that makes
        room.
        """
        world = new(retained_per_token=1)
        assert [retain(world, ANN, "k1", data=str(i)).status for i in range(3)] == [200] * 3
        assert retain(world, ANN, "k2").status == 507
        form = [("topic", "a"), ("key", "k1")]
        assert world.ask("POST", "/.well-known/mercure/unretain", form=form, token=ANN).status == 200
        assert retain(world, ANN, "k2").status == 200

    def test_lower_limit(self, new: Callable[..., MercureWorld], plain: Wire) -> None:
        """
        A publisher that has more retained updates than a lowered limit may still replace them.
        """
        hub = Hub(reactor=plain.reactor)
        assert {retain(new(hub=hub), ANN, key).status for key in ("k1", "k2", "k3")} == {200}
        world = new(hub=hub, retained_per_token=1)
        assert [retain(world, ANN, key).status for key in ("k1", "k2", "k3", "k4")] == [200, 200, 200, 507]

    def test_retained_before_the_acknowledgement(self, plain: Wire) -> None:
        """
        An update that the journal has retained and not yet acknowledged, as Redis may, counts once.
        """
        hub = Hub(reactor=plain.reactor)
        quota = Quota(hub, 2)
        first, second, third = (
            Update(["a"], ServerSentEvent("", id=key), retention=Retention(key, None, "ann"))
            for key in ("k1", "k2", "k3")
        )
        result_of(hub.start())
        with quota.reserve(first):
            result_of(hub.publish_update(first))
            with quota.reserve(second), pytest.raises(OverQuota), quota.reserve(third):
                pass

    def test_key_of_another(self, new: Callable[..., MercureWorld]) -> None:
        """
        The retained update of another publisher counts as a new one, and then as that of the new publisher.
        """
        world = new(retained_per_token=1)
        assert retain(world, ANN, "k1").status == 200
        assert retain(world, BOB, "k2").status == 200
        assert retain(world, BOB, "k1").status == 507
        assert retain(world, publisher(sub="eve"), "k1").status == 200
        assert retain(world, ANN, "k3").status == 200
        assert retain(world, ANN, "k1").status == 507

    def test_several_topics(self, new: Callable[..., MercureWorld]) -> None:
        """
        An update counts once under each of its topics, and once under a topic that it names twice.
        """
        world = new(retained_per_token=3)
        assert retain(world, ANN, "k1", *"abcd").status == 507
        assert retain(world, ANN, "k1", *"aab").status == 200
        assert retain(world, ANN, "k2", *"ab").status == 507
        assert retain(world, ANN, "k1", *"abc").status == 200
        assert retain(world, ANN, "k1", *"abcd").status == 507

    def test_expired(self, new: Callable[..., MercureWorld]) -> None:
        """
        An update that is no longer retained does not count.
        """
        world = new(retained_per_token=1)
        assert retain(world, ANN, "k1", retain_for="10").status == 200
        world.reactor.advance(9.9)
        assert retain(world, ANN, "k2").status == 507
        world.reactor.advance(0.1)
        assert retain(world, ANN, "k2").status == 200

    def test_no_limit(self, new: Callable[..., MercureWorld]) -> None:
        """
        Without a limit, a publisher may retain as many updates as the journal can.
        """
        world = new(retained_per_token=None)
        assert {retain(world, ANN, f"k{number}").status for number in range(50)} == {200}

    def test_published_by_the_program(self, new: Callable[..., MercureWorld]) -> None:
        """
        Updates that the program itself retains have no quota, and count for no token.
        """
        world = new(retained_per_token=1)
        for number in range(3):
            result_of(world.hub.publish("a", "", retain=f"own{number}"))
        assert retain(world, ANN, "k1").status == 200
        assert retain(world, ANN, "own1").status == 507

    @pytest.mark.parametrize("limit", [0, -1, 1.5, True, "1"])
    def test_invalid_limit(self, new: Callable[..., MercureWorld], limit: Any) -> None:
        """
        A limit that is not a whole number above 0 is refused.
        """
        with pytest.raises((TypeError, ValueError), match="retained_per_token"):
            new(retained_per_token=limit)

    def test_token_of_a_cookie(self, new: Callable[..., MercureWorld]) -> None:
        """
        A token counts in the same way, wherever the request presents it.
        """
        world = new(retained_per_token=1)
        own = sign({"aud": world.settings.url, "exp": 60, "authorization_details": DETAILS})
        headers = {"Cookie": f"__Secure-mercure_access_token={own}", "Origin": "https://hub.example"}
        assert retain(world, own, "k1").status == 200
        form = [("topic", "a"), ("retain", "k2")]
        assert world.ask("POST", form=form, headers=headers).status == 507


DETAILS = [
    {
        "type": "https://mercure.rocks/authorization-detail",
        "actions": ["publish"],
        "topics": [{"match": "*"}],
    }
]


def update(key: str, *topics: str, owner: str | None = "ann") -> Update:
    return Update(topics or "a", ServerSentEvent("", id=key), retention=Retention(key, None, owner))


class UnderWayTests:
    @pytest.fixture
    def hub(self, plain: Wire) -> Hub:
        return Hub(reactor=plain.reactor)

    def test_counts(self, hub: Hub) -> None:
        """
        Updates whose publication is under way count until it has ended, each topic and key once.
        """
        quota = Quota(hub, 2)
        with ExitStack() as stack:
            stack.enter_context(quota.reserve(update("k1")))
            stack.enter_context(quota.reserve(update("k1")))
            stack.enter_context(quota.reserve(update("k2")))
            for _ in range(2):
                with pytest.raises(OverQuota), quota.reserve(update("k3")):
                    pass
            with quota.reserve(update("k3", owner="bob")), quota.reserve(update("k1")):
                pass
        for key in ("k3", "k4"):
            with quota.reserve(update(key)):
                pass

    def test_failure(self, hub: Hub) -> None:
        """
        A publication that fails no longer counts.
        """
        quota = Quota(hub, 1)
        for number in range(3):
            with pytest.raises(RuntimeError), quota.reserve(update(f"k{number}")):
                raise RuntimeError
        with quota.reserve(update("k3")):
            pass

    def test_nothing_is_kept(self, hub: Hub) -> None:
        """
        A publisher without a publication under way takes no memory.
        """
        quota = Quota(hub, 1)
        for number in range(3):
            with quota.reserve(update("k", owner=str(number))):
                assert len(quota._under_way) == 1
            with pytest.raises(OverQuota), quota.reserve(update("k", "a", "b", owner=str(number))):
                pass
        assert quota._under_way == {}

    def test_recorded_meanwhile(self, hub: Hub) -> None:
        """
        At the limit, a key that the publisher has is accepted while another publication of it is under way.
        """
        quota = Quota(hub, 1)
        result_of(hub.publish_update(update("k1")))
        with quota.reserve(update("k1")), quota.reserve(update("k1")):
            pass
        with pytest.raises(OverQuota), quota.reserve(update("k2")):
            pass

    def test_slow_journal(self, new: Callable[..., MercureWorld], plain: Wire) -> None:
        """
        A publication that waits for the journal counts; if the client disconnects, it counts until the
        journal has answered.
        """
        journal = ScriptedJournal(reactor=plain.reactor)
        world = new(hub=Hub(journal=journal, reactor=plain.reactor), retained_per_token=1)
        result_of(world.hub.start())
        journal.held.add("append")
        first = retain(world, ANN, "k1")
        assert (first.status, retain(world, ANN, "k2").status) == (0, 507)
        first.disconnect(clean=False)
        assert retain(world, ANN, "k2").status == 507
        journal.errors["append"] = JournalFailed("memory", "full")
        journal.release("append")
        journal.errors.clear()
        assert retain(world, ANN, "k2").status == 200
        assert retain(world, ANN, "k1").status == 507

    def test_before_the_journal_has_started(self, new: Callable[..., MercureWorld], plain: Wire) -> None:
        """
        A publication waits until the journal has read its retained updates, which the quota counts, also with
        a journal that keeps no revoked tokens.
        """
        journal = ScriptedJournal(reactor=plain.reactor)
        del journal.revocations
        journal.held.add("start")
        world = new(hub=Hub(journal=journal, reactor=plain.reactor), retained_per_token=1)
        client = retain(world, ANN, "k2")
        assert client.status == 0
        owner = publisher_of(Identity("ann"), "")
        row = Retained(1, ("a",), False, "k1", owner, inf, b"data\n\n")
        journal.retained.restore([row], 1)
        journal.release("start")
        client.pump()
        assert client.status == 507


def test_journal_without_retained_updates(plain: Wire) -> None:
    """
    A journal that retains no updates has no quota: it refuses them by itself.
    """
    quota = Quota(Hub(journal=Forgetful(reactor=plain.reactor), reactor=plain.reactor), 1)
    with quota.reserve(update("k", "a", "b")):
        pass
