"""
The topic index: finding the subscribers of an update's topics.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import LogEvent

from tests.hub.fakes import Broken, Heavy, Prefix
from txsse.hub import topic_index as index_module
from txsse.hub.topic_index import TopicIndex
from txsse.topics.topic_set import STEP_WEIGHT, TopicSet


def index_of(**wanted: object) -> TopicIndex[str]:
    index: TopicIndex[str] = TopicIndex()
    for member, topics in wanted.items():
        index.add(member, TopicSet(topics))  # type: ignore[arg-type]
    return index


class ExactTests:
    def test_audience(self) -> None:
        """
        The audience of a topic is all its members, in the order in which they were added.
        """
        index = index_of(ann="news", bob="sport", cid=["sport", "news"])
        assert index.audience(("news",)) == ["ann", "cid"]
        assert index.audience(("sport",)) == ["bob", "cid"]
        assert index.audience(("weather",)) == []
        assert index.audience(()) == []

    def test_several_topics(self) -> None:
        """
        A member of several of an update's topics is in the audience once.
        """
        index = index_of(ann="news", bob=["sport", "news"], cid="sport")
        assert index.audience(("sport", "news")) == ["bob", "cid", "ann"]

    def test_audience_is_a_copy(self) -> None:
        """
        An audience does not change when a member is removed.
        """
        index = index_of(ann="news")
        audience = index.audience(("news",))
        index.remove("ann", TopicSet("news"))
        assert audience == ["ann"]
        assert index.audience(("news",)) == []

    def test_all(self) -> None:
        """
        A member of all topics is in each audience, once.
        """
        index = index_of(ann="*", bob="news", cid=["*", "news"])
        assert index.audience(("weather",)) == ["ann", "cid"]
        assert index.audience(("news",)) == ["ann", "cid", "bob"]

    def test_removed(self) -> None:
        """
        A removed member is in no audience, and a topic without members is not counted.
        """
        index = index_of(ann=["news", "*"], bob="news")
        index.remove("ann", TopicSet(["news", "*"]))
        assert index.audience(("news",)) == ["bob"]
        assert index.audience(("weather",)) == []
        index.remove("bob", TopicSet("news"))
        assert len(index.counts()) == 0

    def test_removed_without_having_been_added(self) -> None:
        """
        Removing a member that was never added changes nothing.
        """
        index = index_of(ann=["news", "*", Prefix("n")])
        for wanted in ("news", "sport", "*", Prefix("n"), Prefix("s")):
            index.remove("bob", TopicSet(wanted))
        assert index.audience(("news",)) == ["ann"]
        assert dict(index.counts()) == {"news": 1}


class CountsTests:
    def test_by_topic(self) -> None:
        """
        The counts are of members by exact topic, and 0 for a topic without members.
        """
        counts = index_of(ann="news", bob=["news", "sport"], cid="*", dan=Prefix("n")).counts()
        assert dict(counts) == {"news": 2, "sport": 1}
        assert counts["weather"] == 0
        assert "news" in counts
        assert "weather" not in counts
        assert len(counts) == 2

    def test_is_a_view(self) -> None:
        """
        The counts are a view: they change with the index.
        """
        index = index_of(ann="news")
        counts = index.counts()
        index.add("bob", TopicSet("news"))
        assert counts["news"] == 2


class SelectorTests:
    def test_audience(self) -> None:
        """
        A member with a matching pattern is in the audience, once.
        """
        index = index_of(ann=Prefix("a/"), bob=[Prefix("a/"), Prefix("a/1"), "a/1"], cid=Prefix("b/"))
        assert sorted(index.audience(("a/1",))) == ["ann", "bob"]
        assert sorted(index.audience(("a/1", "b/1"))) == ["ann", "bob", "cid"]
        assert index.audience(("b/1",)) == ["cid"]
        assert index.audience(("c",)) == []

    def test_asked_once(self) -> None:
        """
        A pattern is matched once per topic, however many members have it and however often an update is
        published.
        """
        selector = Prefix("a/")
        index = index_of(ann=selector, bob=Prefix("a/"), cid=Prefix("a/"))
        for _ in range(3):
            assert index.audience(("a/1",)) == ["ann", "bob", "cid"]
            assert index.audience(("b/1",)) == []
        assert selector.asked == ["a/1", "b/1"]

    def test_not_asked_by_add(self) -> None:
        """
        A pattern is not matched with topics of subscriptions, only with those of updates.
        """
        selector = Prefix("a/")
        index_of(ann=selector, bob="a/1")
        assert selector.asked == []

    def test_pattern_is_added_later(self) -> None:
        """
        A pattern that is added later is matched with known topics, and other patterns are not matched again.
        """
        first, second = Prefix("a"), Prefix("a/")
        index = index_of(ann=first)
        assert index.audience(("a/1",)) == ["ann"]
        index.add("bob", TopicSet(second))
        assert sorted(index.audience(("a/1",))) == ["ann", "bob"]
        assert sorted(index.audience(("a/1",))) == ["ann", "bob"]
        assert (first.asked, second.asked) == (["a/1"], ["a/1"])

    def test_several_patterns_are_added_later(self) -> None:
        """
        All patterns that are added between two updates are matched with known topics.
        """
        index = index_of(ann=Prefix("a"))
        index.audience(("a/1",))
        for member, prefix in (("bob", "a/"), ("cid", "b"), ("dan", "a/1")):
            index.add(member, TopicSet(Prefix(prefix)))
        assert sorted(index.audience(("a/1",))) == ["ann", "bob", "dan"]

    def test_pattern_is_removed(self) -> None:
        """
        A removed pattern no longer matches, unless another member has an equal one.
        """
        index = index_of(ann=Prefix("a/"), bob=Prefix("a/"), cid=Prefix("a"))
        assert sorted(index.audience(("a/1",))) == ["ann", "bob", "cid"]
        index.remove("ann", TopicSet(Prefix("a/")))
        assert sorted(index.audience(("a/1",))) == ["bob", "cid"]
        index.remove("bob", TopicSet(Prefix("a/")))
        assert index.audience(("a/1",)) == ["cid"]
        index.remove("cid", TopicSet(Prefix("a")))
        assert index.audience(("a/1",)) == []

    def test_removed_patterns_are_forgotten(self) -> None:
        """
        The index keeps no memory of removed patterns, even for topics that are still published to.
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
        Without patterns, the index remembers no topics of updates.
        """
        index = index_of(ann="news", bob="*")
        index.audience(("news", "sport"))
        assert len(index._remembered) == 0

    def test_pattern_is_removed_and_added_again(self) -> None:
        """
        A pattern that is removed and added again is matched again, for its new members.
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
        A pattern that raises matches nothing and is logged once per topic, and other patterns still match.
        """
        index = index_of(ann=Broken(), bob=Prefix("a"), cid="a/1")
        for _ in range(3):
            assert sorted(index.audience(("a/1",))) == ["bob", "cid"]
        assert [event["topic"] for event in failures] == ["a/1"]

    def test_remembered_topics_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        At the limit of remembered topics, the least recently used one is forgotten, and its patterns are
        matched again.
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

    def test_remembered_patterns_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        At the limit of remembered matches, all topics but the most recently used one may be forgotten.
        """
        monkeypatch.setattr(index_module, "_REMEMBERED_PATTERNS", 5)
        selectors = [Prefix("a" * length) for length in range(1, 4)]
        index = index_of(ann=selectors)
        for topic, kept in (("aaa1", 1), ("b", 2), ("aaa2", 2), ("aaaa", 1)):
            index.audience((topic,))
            assert len(index._remembered) == kept
            assert index._remembered_patterns == sum(
                len(each.matching) for each in index._remembered.values()
            )
        index.add("bob", TopicSet([Prefix("aaaa"), Prefix(""), Prefix("aa")]))
        index.audience(("aaaa",))
        assert list(index._remembered) == ["aaaa"]
        index.remove("bob", TopicSet([Prefix("aaaa"), Prefix(""), Prefix("aa")]))
        assert index.audience(("aaaa",)) == ["ann"]
        assert index._remembered_patterns == 3


heavies = st.sampled_from([Heavy("a", 300), Heavy("b", 0), Heavy("c", 5000), Prefix("d"), Prefix("e")])


class WeightTests:
    @settings(derandomize=True, deadline=None, max_examples=200)
    @given(st.lists(st.tuples(st.integers(0, 4), st.lists(heavies, max_size=4)), max_size=30))
    def test_each_pattern_counts_once(self, changes: list[tuple[int, list[Prefix]]]) -> None:
        """
        The weight of the index is that of the different patterns of its members, and ``new_weight`` predicts
        what a new member adds.
        """
        index: TopicIndex[int] = TopicIndex()
        held: dict[int, TopicSet] = {}
        for member, selectors in changes:
            if member in held:
                index.remove(member, held.pop(member))
            else:
                wanted = TopicSet(selectors)
                expected = index.weight + index.new_weight(wanted)
                index.add(member, wanted)
                held[member] = wanted
                assert index.weight == expected
                assert index.new_weight(wanted) == 0
            different = {selector for wanted in held.values() for selector in wanted.selectors}
            assert index.weight == sum(getattr(selector, "weight", 100) for selector in different)

    def test_removed_without_having_been_added(self) -> None:
        """
        Removing a member that was never added does not change the weight.
        """
        index = index_of(ann=[Heavy("a", 300)])
        index.remove("bob", TopicSet([Heavy("a", 300), Heavy("b", 10)]))
        assert index.weight == 300
        index.remove("ann", TopicSet([Heavy("a", 300)]))
        index.remove("ann", TopicSet([Heavy("a", 300)]))
        assert index.weight == 0


class StepTests:
    @pytest.mark.parametrize("weight", [1, 100, 700, 4000, 50_000])
    def test_bounded(self, weight: int) -> None:
        """
        The patterns matched in one step exceed the weight of a step by at most one pattern.
        """
        selectors = [Heavy(f"{number % 3}", weight) for number in range(3)]
        selectors += [Heavy(f"x{number}", weight) for number in range(60)]
        index = index_of(**{f"m{number}": selector for number, selector in enumerate(selectors)})
        topics = tuple(f"{number}" for number in range(20))
        steps = index.find_audience(topics)
        counts, before = [], 0
        while True:
            try:
                next(steps)
            except StopIteration as end:
                audience = end.value
                break
            asked = sum(len(selector.asked) for selector in selectors)
            counts.append(asked - before)
            before = asked
        assert all(count * weight <= STEP_WEIGHT + weight for count in counts)
        assert len(counts) >= 20 * 63 * weight // (STEP_WEIGHT + weight)
        assert sorted(audience) == ["m0", "m1", "m2"]
        assert all(selector.asked == list(topics) for selector in selectors)

    def test_many_members(self) -> None:
        """
        Finding the members of patterns that are known to match a topic also takes several steps.
        """
        index: TopicIndex[int] = TopicIndex()
        for number in range(3000):
            index.add(number, TopicSet(Heavy("a" * number, 0)))
        topic = "a" * 3000
        assert sorted(index.audience((topic,))) == list(range(3000))
        assert len(list(index.find_audience((topic,)))) >= 4

    def test_topic_is_forgotten_between_steps(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A topic that is forgotten while its patterns are matched does not count as remembered afterwards.
        """
        monkeypatch.setattr(index_module, "_REMEMBERED_TOPICS", 1)
        index = index_of(ann=Heavy("a", STEP_WEIGHT), bob=Heavy("a1", STEP_WEIGHT))
        steps = index.find_audience(("a1",))
        next(steps)
        assert index.audience(("a2",)) == ["ann"]
        assert list(steps) == [None]
        assert list(index._remembered) == ["a2"]
        assert index._remembered_patterns == 1

    def test_changes_between_steps(self) -> None:
        """
        If members and patterns change between two steps, members that stay are found once.
        """
        index: TopicIndex[str] = TopicIndex()
        for number in range(10):
            index.add(f"m{number}", TopicSet([Heavy(f"{number % 2}" * number, STEP_WEIGHT)]))
        steps = index.find_audience(("0" * 20, "1" * 20))
        leavers, joiners = iter(range(0, 10, 3)), iter(range(100))
        while True:
            try:
                next(steps)
            except StopIteration as end:
                audience = end.value
                break
            leaver = next(leavers, None)
            if leaver is not None:
                index.remove(f"m{leaver}", TopicSet([Heavy(f"{leaver % 2}" * leaver, STEP_WEIGHT)]))
            index.add(f"n{next(joiners)}", TopicSet([Heavy("0", STEP_WEIGHT)]))
        stayed = {f"m{number}" for number in range(10) if number % 3}
        assert stayed <= set(audience)
        assert len(set(audience)) == len(audience)
        later = index.audience(("0" * 20, "1" * 20))
        assert {name for name in later if name[0] == "m"} == stayed
        assert {name for name in later if name[0] == "n"} == {f"n{number}" for number in range(next(joiners))}


def test_changed() -> None:
    """
    After its first call, ``take_changed`` returns each topic whose count may have changed since the call
    before.
    """
    index: TopicIndex[str] = TopicIndex()
    index.add("a", TopicSet("early"))
    assert index.take_changed() == set()
    index.add("b", TopicSet(["x", "y"]))
    index.add("c", TopicSet("*"))
    index.remove("a", TopicSet("early"))
    assert index.take_changed() == {"x", "y", "early"}
    assert index.take_changed() == set()
