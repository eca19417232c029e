"""
Members by the topics that they want.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import LogEvent

from tests.hub.fakes import Broken, Heavy, Prefix
from txsse.hub import topic_index as index_module
from txsse.hub.topic_index import TopicIndex
from txsse.hub.topics import STEP_WEIGHT, TopicSet


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

    def test_patterns_are_remembered_up_to_a_number(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Beyond it topics are forgotten, however few they are, but for the one that was used last.
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
        The weight is that of the different patterns that anybody has at the moment, and what a newcomer adds
        to it is foretold.
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
        The weight stays what it is.
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
        Between two steps no more is asked than a step may weigh, and one pattern more.
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
        Going through patterns that select a topic already known goes by steps as well.
        """
        index: TopicIndex[int] = TopicIndex()
        for number in range(3000):
            index.add(number, TopicSet(Heavy("a" * number, 0)))
        topic = "a" * 3000
        assert sorted(index.audience((topic,))) == list(range(3000))
        assert len(list(index.find_audience((topic,)))) >= 4

    def test_forgotten_between_steps(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A topic that is forgotten while patterns are asked about it counts no more among those remembered.
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
        Members and patterns may come and go between two steps: those that stay are found once.
        """
        index: TopicIndex[str] = TopicIndex()
        for number in range(10):
            index.add(f"m{number}", TopicSet([Heavy(f"{number % 2}" * number, STEP_WEIGHT)]))
        steps = index.find_audience(("0" * 20, "1" * 20))
        gone, come = iter(range(0, 10, 3)), iter(range(100))
        while True:
            try:
                next(steps)
            except StopIteration as end:
                audience = end.value
                break
            leaver = next(gone, None)
            if leaver is not None:
                index.remove(f"m{leaver}", TopicSet([Heavy(f"{leaver % 2}" * leaver, STEP_WEIGHT)]))
            index.add(f"n{next(come)}", TopicSet([Heavy("0", STEP_WEIGHT)]))
        stayed = {f"m{number}" for number in range(10) if number % 3}
        assert stayed <= set(audience)
        assert len(set(audience)) == len(audience)
        later = index.audience(("0" * 20, "1" * 20))
        assert {name for name in later if name[0] == "m"} == stayed
        assert {name for name in later if name[0] == "n"} == {f"n{number}" for number in range(next(come))}


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
