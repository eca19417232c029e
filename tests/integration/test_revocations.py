"""
The list of revoked tokens of hubs that share a Redis, on the real reactor.
"""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults

from tests.journal.redis_server import RedisServer
from txsse import Hub
from txsse.journal.redis import RedisJournal
from txsse.journal.redis.cluster import RedisCluster
from txsse.journal.revocations import Revocation
from txsse.mercure.auth.grants import Grants
from txsse.mercure.auth.identity import Identity
from txsse.mercure.errors import InvalidToken
from txsse.mercure.revocations import revocations_of

pytestmark = [pytest.mark.redis, pytest.mark.process]

LATE = 4e9


class ClusterTests:
    @pytest_twisted.ensureDeferred
    async def test_read_after_joining(
        self, shared_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A node reads the list when it counts as alive already: a revocation that another node sends while the
        list is being read, and that the list lacks, arrives.
        """
        url = f"{shared_redis.url}/15"
        first, second = (Hub(journal=RedisJournal(url)) for _ in range(2))
        kept: Any = second.revocations
        load = kept.load
        sent: list[list[str]] = []
        alive: list[Any] = []

        def load_before(*arguments: Any) -> Deferred[Any]:
            # The commands of one connection are executed in their order.
            cluster: Any = second.cluster
            cluster._run("other_nodes", cluster._milliseconds(), "nobody").addCallback(alive.append)
            return load().addCallback(send)

        def send(found: list[Revocation]) -> Deferred[list[Revocation]]:
            message = '{"revoked":["sub","ann",1000,4000000000]}'
            broadcast = first.cluster.broadcast(message)
            return broadcast.addCallback(sent.append).addCallback(lambda _: found)

        try:
            await first.start()
            monkeypatch.setattr(kept, "load", load_before)
            found = revocations_of(second)
            revocations_of(first)
            ann, bob = (Grants(identity=Identity(name)) for name in ("ann", "bob"))
            with pytest.raises(InvalidToken, match="it has been revoked"):
                await found.check(ann)
            await found.check(bob)
            assert [len(replies) for replies in sent] == [2]
            assert isinstance(second.cluster, RedisCluster)
            assert second.cluster.node.encode() in alive[0]
        finally:
            await gatherResults([hub.stop(deadline=1.0) for hub in (first, second)])

    @pytest_twisted.ensureDeferred
    async def test_revoked_at_another_node(self, shared_redis: RedisServer) -> None:
        """
        A revocation at one node applies at the others at once, and at one that starts later.
        """
        url = f"{shared_redis.url}/12"
        hubs = [Hub(journal=RedisJournal(url)) for _ in range(3)]
        lists = [revocations_of(hub) for hub in hubs]
        ann = Grants(identity=Identity(session="s1"))
        try:
            for each in lists[:2]:
                await each.check(ann)
            outcome = await lists[0].revoke(Revocation("sid", "s1", 1000.0, LATE))
            assert (outcome.disconnected, outcome.until) == (0, LATE)
            for each in lists:
                with pytest.raises(InvalidToken):
                    await each.check(ann)
        finally:
            await gatherResults([hub.stop(deadline=1.0) for hub in hubs])
