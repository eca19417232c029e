"""
Members by the topics that they want.
"""

from __future__ import annotations

import pytest
from twisted.logger import LogEvent

from tests.hub.fakes import Broken, Prefix
from txsse.hub import index as index_module
from txsse.hub.index import TopicIndex
from txsse.hub.topics import TopicSet


def index_of(**wanted: object) -> TopicIndex[str]:
    index: TopicIndex[str] = TopicIndex()
    for member, topics in wanted.items():
        index.add(member, TopicSet(topics))  # type: ignore[arg-type]
    return index


class ExactTests:
    def test_audience(self) -> None:
        """
        It is everybody who wants the topic, in the order in which they came, and nobody else.
        """
        index = index_of(ann="news", bob="sport", cid=["sport", "news"])
        assert index.audience(("news",)) == ["ann", "cid"]
        assert index.audience(("sport",)) == ["bob", "cid"]
        assert index.audience(("weather",)) == []
        assert index.audience(()) == []

    def test_several_topics(self) -> None:
        """
        Whoever wants more than one of them is there once.
        """
        index = index_of(ann="news", bob=["sport", "news"], cid="sport")
        assert index.audience(("sport", "news")) == ["bob", "cid", "ann"]

    def test_audience_is_a_copy(self) -> None:
        """
        Who leaves meanwhile does not disturb those who go through it.
        """
        index = index_of(ann="news")
        audience = index.audience(("news",))
        index.remove("ann", TopicSet("news"))
        assert audience == ["ann"]
        assert index.audience(("news",)) == []

    def test_all(self) -> None:
        """
        Whoever wants all topics gets each, once.
        """
        index = index_of(ann="*", bob="news", cid=["*", "news"])
        assert index.audience(("weather",)) == ["ann", "cid"]
        assert index.audience(("news",)) == ["ann", "cid", "bob"]

    def test_removed(self) -> None:
        """
        Who is removed is nowhere any more, and a topic that nobody wants is forgotten.
        """
        index = index_of(ann=["news", "*"], bob="news")
        index.remove("ann", TopicSet(["news", "*"]))
        assert index.audience(("news",)) == ["bob"]
        assert index.audience(("weather",)) == []
        index.remove("bob", TopicSet("news"))
        assert len(index.counts()) == 0

    def test_removed_without_having_been_added(self) -> None:
        """
        Nothing happens, to the others either.
        """
        index = index_of(ann=["news", "*", Prefix("n")])
        for wanted in ("news", "sport", "*", Prefix("n"), Prefix("s")):
            index.remove("bob", TopicSet(wanted))
        assert index.audience(("news",)) == ["ann"]
        assert dict(index.counts()) == {"news": 1}


class CountsTests:
    def test_by_topic(self) -> None:
        """
        They are those who want a topic by its name, and 0 for one that nobody wants.
        """
        counts = index_of(ann="news", bob=["news", "sport"], cid="*", dan=Prefix("n")).counts()
        assert dict(counts) == {"news": 2, "sport": 1}
        assert counts["weather"] == 0
        assert "news" in counts
        assert "weather" not in counts
        assert len(counts) == 2

    def test_is_a_view(self) -> None:
        """
        It changes with the index.
        """
        index = index_of(ann="news")
        counts = index.counts()
        index.add("bob", TopicSet("news"))
        assert counts["news"] == 2


class SelectorTests:
    def test_audience(self) -> None:
        """
        Whoever has a pattern that selects one of the topics gets the update, once.
        """
        index = index_of(ann=Prefix("a/"), bob=[Prefix("a/"), Prefix("a/1"), "a/1"], cid=Prefix("b/"))
        assert sorted(index.audience(("a/1",))) == ["ann", "bob"]
        assert sorted(index.audience(("a/1", "b/1"))) == ["ann", "bob", "cid"]
        assert index.audience(("b/1",)) == ["cid"]
        assert index.audience(("c",)) == []

    def test_asked_once(self) -> None:
        """
        A pattern is asked about a topic once, however many have it and however often that is published to.
        """
        selector = Prefix("a/")
        index = index_of(ann=selector, bob=Prefix("a/"), cid=Prefix("a/"))
        for _ in range(3):
            assert index.audience(("a/1",)) == ["ann", "bob", "cid"]
            assert index.audience(("b/1",)) == []
        assert selector.asked == ["a/1", "b/1"]

    def test_not_asked_without_need(self) -> None:
        """
        A topic that is only wanted is no reason to ask.
        """
        selector = Prefix("a/")
        index_of(ann=selector, bob="a/1")
        assert selector.asked == []

    def test_pattern_that_comes_later(self) -> None:
        """
        It is asked about topics that are known already, and those that were asked before are not.
        """
        first, second = Prefix("a"), Prefix("a/")
        index = index_of(ann=first)
        assert index.audience(("a/1",)) == ["ann"]
        index.add("bob", TopicSet(second))
        assert sorted(index.audience(("a/1",))) == ["ann", "bob"]
        assert sorted(index.audience(("a/1",))) == ["ann", "bob"]
        assert (first.asked, second.asked) == (["a/1"], ["a/1"])

    def test_several_patterns_that_come_later(self) -> None:
        """
        All of them are asked.
        """
        index = index_of(ann=Prefix("a"))
        index.audience(("a/1",))
        for member, prefix in (("bob", "a/"), ("cid", "b"), ("dan", "a/1")):
            index.add(member, TopicSet(Prefix(prefix)))
        assert sorted(index.audience(("a/1",))) == ["ann", "bob", "dan"]

    def test_pattern_that_leaves(self) -> None:
        """
        Nobody is there for it any more.
        """
        index = index_of(ann=Prefix("a/"), bob=Prefix("a/"), cid=Prefix("a"))
        assert sorted(index.audience(("a/1",))) == ["ann", "bob", "cid"]
        index.remove("ann", TopicSet(Prefix("a/")))
        assert sorted(index.audience(("a/1",))) == ["bob", "cid"]
        index.remove("bob", TopicSet(Prefix("a/")))
        assert index.audience(("a/1",)) == ["cid"]
        index.remove("cid", TopicSet(Prefix("a")))
        assert index.audience(("a/1",)) == []

    def test_nothing_is_kept_of_patterns_that_left(self) -> None:
        """
        However many have come and gone, a topic that is still published to remembers none of them.
        """
        index = index_of(ann=Prefix("a"))
        for number in range(10):
            wanted = TopicSet(Prefix("a" * number))
            index.add("bob", wanted)
            index.audience(("aaaaaaaaaaaa",))
            index.remove("bob", wanted)
        assert index.audience(("aaaaaaaaaaaa",)) == ["ann"]
        assert len(index._remembered["aaaaaaaaaaaa"].matching) == 1
        assert len(index._selectors) == 1

    def test_nothing_is_remembered_without_patterns(self) -> None:
        """
        Where nobody has one, topics cost no memory.
        """
        index = index_of(ann="news", bob="*")
        index.audience(("news", "sport"))
        assert len(index._remembered) == 0

    def test_pattern_that_leaves_and_comes_back(self) -> None:
        """
        It is asked anew, and selects for those who have it now.
        """
        index = index_of(ann=Prefix("a/"))
        assert index.audience(("a/1",)) == ["ann"]
        index.remove("ann", TopicSet(Prefix("a/")))
        again = Prefix("a/")
        index.add("bob", TopicSet(again))
        assert index.audience(("a/1",)) == ["bob"]
        assert again.asked == ["a/1"]
        index.add("cid", TopicSet(Prefix("a/")))
        assert index.audience(("a/1",)) == ["bob", "cid"]

    def test_failing_pattern(self, failures: list[LogEvent]) -> None:
        """
        It selects nothing, is logged once for a topic, and the others select as ever.
        """
        index = index_of(ann=Broken(), bob=Prefix("a"), cid="a/1")
        for _ in range(3):
            assert sorted(index.audience(("a/1",))) == ["bob", "cid"]
        assert [event["topic"] for event in failures] == ["a/1"]

    def test_topics_are_remembered_up_to_a_number(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Beyond it the one that was not used for the longest is asked about anew.
        """
        monkeypatch.setattr(index_module, "_REMEMBERED_TOPICS", 2)
        selector = Prefix("a")
        index = index_of(ann=selector)
        for topic in ("a1", "a2", "a1", "a3"):
            assert index.audience((topic,)) == ["ann"]
        assert selector.asked == ["a1", "a2", "a3"]
        index.audience(("a1",))
        index.audience(("a3",))
        assert selector.asked == ["a1", "a2", "a3"]
        index.audience(("a2",))
        assert selector.asked == ["a1", "a2", "a3", "a2"]


def test_changed() -> None:
    """
    From when it is asked for the first time on, the index knows the topics whose counts may have changed.
    """
    index: TopicIndex[str] = TopicIndex()
    index.add("a", TopicSet("early"))
    assert index.take_changed() == set()
    index.add("b", TopicSet(["x", "y"]))
    index.add("c", TopicSet("*"))
    index.remove("a", TopicSet("early"))
    assert index.take_changed() == {"x", "y", "early"}
    assert index.take_changed() == set()
