"""
A hub as a node of its cluster: subscriber counts and messages.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from tests.fakes import Wire
from tests.hub.fakes import World, result_of
from txsse.journal.cluster import IClusterListener, NoCluster
from txsse.topics.topic_set import ALL


class Listening(NoCluster):
    """
    A cluster that keeps its listener.
    """

    listener: IClusterListener

    def start(self, listener: IClusterListener) -> Deferred[None]:
        self.listener = listener
        return super().start(listener)


class NodeTests:
    def test_counts(self, plain: Wire) -> None:
        """
        The hub counts its subscribers by topic for the cluster, and returns each changed topic once.
        """
        cluster = Listening()
        world = World(plain, cluster=cluster)
        result_of(world.hub.start())
        counts = cluster.listener.subscriber_counts()
        assert dict(counts) == {ALL: 0}
        assert set(cluster.listener.changed_topics()) == {ALL}
        world.join("news")
        member = world.join(["news", "sport"])
        assert dict(counts) == {ALL: 2, "news": 2, "sport": 1}
        assert set(cluster.listener.changed_topics()) == {ALL, "news", "sport"}
        assert set(cluster.listener.changed_topics()) == {ALL}
        assert result_of(world.hub.count_subscribers("news")) == 2
        assert result_of(world.hub.count_subscribers()) == 2
        member.leave()
        assert set(cluster.listener.changed_topics()) == {ALL, "news", "sport"}
        assert counts["news"] == 1
        world.end()

    def test_count_starts_the_hub(self, plain: Wire) -> None:
        """
        ``count_subscribers`` starts a hub that was not used before.
        """
        world = World(plain)
        assert result_of(world.hub.count_subscribers()) == 0
        assert result_of(world.hub.start()) is None

    def test_find(self, plain: Wire) -> None:
        """
        The first handler of a class is found.
        """

        class Handler:
            def message_received(self, message: str) -> None:
                return None

            def messages_missed(self) -> None:
                pass

        node = World(plain).hub.node
        assert node.find(Handler) is None
        first = Handler()
        node.add(first)
        node.add(Handler())
        assert node.find(Handler) is first

    def test_unknown_message(self, plain: Wire) -> None:
        """
        A hub acknowledges a cluster message of an unknown kind.
        """
        world = World(plain)
        result_of(world.hub.start())
        assert result_of(world.hub.cluster.broadcast("unknown")) == []
        world.end()
