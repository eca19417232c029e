"""
Topic patterns: which topics they match, what they refuse, what a match costs, and their use in a hub.
"""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from enum import StrEnum
from functools import cache
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import Wire
from tests.hub.fakes import World
from txsse import Access, ISelector, TopicPattern
from txsse.topics import pattern as module
from txsse.topics.pattern import MAX_PATTERN_LENGTH
from txsse.topics.topic_set import STEP_WEIGHT, TopicSet


def naive(pattern: str, topic: str) -> bool:
    """
    Match by the definition, and try everything.
    """
    wanted, given = pattern.split("/"), topic.split("/")

    @cache
    def rest(i: int, j: int) -> bool:
        if i == len(wanted):
            return j == len(given)
        if wanted[i] == "**":
            return rest(i + 1, j) or (j < len(given) and rest(i, j + 1))
        return (
            j < len(given)
            and (given[j] != "" if wanted[i] == "*" else given[j] == wanted[i])
            and rest(i + 1, j + 1)
        )

    return rest(0, 0)


def lines_of(call: Callable[[], object]) -> int:
    """
    Count the lines of the module that a call executes.
    """
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if frame.f_code.co_filename != module.__file__:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


class MatchingTests:
    @pytest.mark.parametrize(
        ("pattern", "topic"),
        [
            ("a/b", "a/b"),
            ("a", "a"),
            ("*", "news"),
            ("*", "*a"),
            ("a/*", "a/b"),
            ("*/b", "a/b"),
            ("a/*/c", "a/b/c"),
            ("**", ""),
            ("**", "a"),
            ("**", "/a//b/"),
            ("a/**", "a"),
            ("a/**", "a/"),
            ("a/**", "a/b/c"),
            ("**/c", "c"),
            ("**/c", "/c"),
            ("**/c", "a/b/c"),
            ("a/**/b", "a/b"),
            ("a/**/b", "a/x/y/b"),
            ("a/**/**/b", "a/b"),
            ("a/**/*/b", "a/x/b"),
            ("a/**/*/b", "a/x/y/b"),
            ("**/x/**", "x"),
            ("**/x/**", "a/x/b"),
            ("**/a/b/**/a/b/**", "a/a/b/x/a/b"),
            ("**/a/b/**/c", "a/a/b/c"),
            ("**/*/b/**", "/a/b"),
            ("builders/*/builds/**", "builders/linux/builds"),
            ("builders/*/builds/**", "builders/linux/builds/17/steps/2"),
            # An empty segment is a text like any other.
            ("/a/*", "/a/b"),
            ("a//b", "a//b"),
            ("/", "/"),
            ("**//b/**", "a//b"),
            ("a/", "a/"),
            ("**/", "a/b/"),
            ("é/*", "é/😀"),
        ],
    )
    def test_matches(self, pattern: str, topic: str) -> None:
        """
        A topic pattern matches these topics.
        """
        assert TopicPattern(pattern).matches(topic)
        assert naive(pattern, topic)

    @pytest.mark.parametrize(
        ("pattern", "topic"),
        [
            ("a/b", "a/c"),
            ("a/b", "A/b"),
            ("a/b", "a/b/"),
            ("a/b", "a"),
            ("a", "/a"),
            ("*", ""),
            ("*", "a/b"),
            ("a/*", "a/"),
            ("a/*", "a"),
            ("a/*", "a/b/c"),
            ("*/a", "/a"),
            ("*/a", "/x/a"),
            ("a/**", "ab"),
            ("a/**", "b"),
            ("a/b/**", "a"),
            ("**/c", "a/bc"),
            ("**/b/c", "c"),
            ("a/**/b", "a"),
            ("a/**/a", "a"),
            ("a/b/**/b/c", "a/b/c"),
            ("a/**/*/b", "a/b"),
            ("a/**/*/b", "a//b"),
            ("**/x/**", "a/b"),
            ("a/**/x/**", "a"),
            ("a/**/x/**/b", "a/b"),
            ("a/**/b/**/b", "a/b"),
            ("**/a/**/a", "a"),
            ("**/*/b/**", "/b"),
            ("**/a/b/**/a/b/**", "a/b/a"),
            ("builders/*/builds/**", "builders//builds/17"),
            ("builders/*/builds/**", "builders/linux/x/builds"),
        ],
    )
    def test_does_not_match(self, pattern: str, topic: str) -> None:
        """
        A topic pattern does not match these topics.
        """
        assert not TopicPattern(pattern).matches(topic)
        assert not naive(pattern, topic)

    @settings(derandomize=True, deadline=None, max_examples=1000)
    @given(
        st.lists(st.sampled_from(["a", "b", "", "*", "**"]), max_size=7).map("/".join).filter(bool),
        st.lists(st.sampled_from(["a", "b", ""]), max_size=8).map("/".join),
    )
    def test_random(self, pattern: str, topic: str) -> None:
        """
        A topic pattern matches the same topics as a reference that tries every way.
        """
        assert TopicPattern(pattern).matches(topic) == naive(pattern, topic)


class ValueTests:
    def test_equal(self) -> None:
        """
        Topic patterns with the same text are equal and have one hash, and a topic set has them once.
        """
        one, same, other = TopicPattern("a/*"), TopicPattern("a/*"), TopicPattern("a/**")
        assert one == same
        assert hash(one) == hash(same)
        assert one != other
        assert one != "a/*"
        assert TopicSet([one, same, other, "a/*"]).selectors == (one, other)

    def test_immutable(self) -> None:
        """
        The text of a topic pattern cannot be changed.
        """
        pattern = TopicPattern("a/*")
        with pytest.raises(FrozenInstanceError):
            pattern.pattern = "b"  # type: ignore[misc]

    def test_text(self) -> None:
        """
        ``str`` of a topic pattern is its text, and ``repr`` is the expression that makes it.
        """
        assert str(TopicPattern("a/*")) == "a/*"
        assert repr(TopicPattern("a/*")) == "TopicPattern('a/*')"

    @pytest.mark.parametrize(
        "make", [copy.copy, copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))]
    )
    def test_copies(self, make: Callable[[TopicPattern], TopicPattern]) -> None:
        """
        A copied and an unpickled topic pattern are equal to the original, and match.
        """
        made = make(TopicPattern("**/a/**"))
        assert made == TopicPattern("**/a/**")
        assert made.matches("x/a/y")

    def test_subclass_of_str(self) -> None:
        """
        A text of a subclass of ``str``, such as an Enum, counts as its plain text.
        """

        class Own(StrEnum):
            NEWS = "news/*"

            def __str__(self) -> str:
                return "other"

        assert type(TopicPattern(Own.NEWS).pattern) is str
        assert TopicPattern(Own.NEWS).matches("news/a")
        assert str(TopicPattern(Own.NEWS)) == "news/*"

    def test_selector(self) -> None:
        """
        A topic pattern provides ``ISelector``.
        """
        assert ISelector.providedBy(TopicPattern("a"))


class RefusedTests:
    @pytest.mark.parametrize("pattern", ["a*b", "x/a*", "x/*a/y", "***", "x/**a", "* "])
    def test_star_in_a_segment(self, pattern: str) -> None:
        """
        A topic pattern refuses a star next to another character, names the segment, and says what to write.
        """
        with pytest.raises(ValueError, match=r"a \* stands for a whole segment, and \*\* for any number"):
            TopicPattern(pattern)

    def test_long_segment(self) -> None:
        """
        The error for a star in a long segment shows only the beginning of the segment.
        """
        with pytest.raises(ValueError) as caught:
            TopicPattern("x" * 1000 + "*")
        assert len(str(caught.value)) < 400

    def test_empty(self) -> None:
        """
        A topic pattern refuses an empty text.
        """
        with pytest.raises(ValueError, match=r"the pattern is empty; '\*\*' matches all topics"):
            TopicPattern("")

    def test_too_long(self) -> None:
        """
        A topic pattern of 2,048 characters is accepted, and a longer one is refused with the limit.
        """
        assert TopicPattern("x" * MAX_PATTERN_LENGTH).matches("x" * 2048)
        with pytest.raises(ValueError, match="the pattern has 2049 characters, and 2048 is the limit"):
            TopicPattern("x" * 2049)

    def test_surrogate(self) -> None:
        """
        A topic pattern refuses a lone surrogate and names its position.
        """
        with pytest.raises(ValueError, match=r"the lone surrogate U\+D800 at position 2, which no topic has"):
            TopicPattern("a/\ud800")

    @pytest.mark.parametrize("pattern", [b"a/*", None, 3, ["a"]])
    def test_not_text(self, pattern: Any) -> None:
        """
        A topic pattern refuses what is not ``str`` with ``TypeError``.
        """
        with pytest.raises(TypeError, match=r"pattern must be str, such as 'builders/\*/builds/\*\*', not"):
            TopicPattern(pattern)


class CostTests:
    """
    The steps of a match are counted in executed lines, not in time.
    """

    # No segment of the topic is compared more often than this.
    SIZE = 2000

    @pytest.mark.parametrize(
        "topic", ["/" * SIZE, "a/" * (SIZE // 2), "a/" * (SIZE // 2) + "b", "a" * SIZE], ids=range(4)
    )
    @pytest.mark.parametrize(
        "pattern", ["a/b", "*/*/a", "**", "a/**", "**/b", "a/**/b", "*/**/*/x", "**/**/**/b"]
    )
    def test_long_topic(self, pattern: str, topic: str) -> None:
        """
        With at most one ``**``, the work depends on the pattern alone, however many segments a topic has.
        """
        made = TopicPattern(pattern)
        assert lines_of(lambda: made.matches(topic)) < 50
        assert made.weight < 20

    @pytest.mark.parametrize("topic", ["a/" * (SIZE // 2) + "c", "/" * SIZE], ids=["a", "empty"])
    @pytest.mark.parametrize(
        "pattern",
        [
            "**/a/**/b/**",
            "**/a/a/a/b/**",
            "/".join(["**", "a"] * 400 + ["b"] + ["**"]),
            "/".join(["**", *["*"] * 900, "b", "**"]),
            "/".join(["**", *["a", "*"] * 450, "b", "**"]),
            "/".join(["**", *["**/*"] * 400, "b/**"]),
        ],
        ids=range(6),
    )
    def test_hostile(self, pattern: str, topic: str) -> None:
        """
        With several ``**``, each segment of a topic is compared once, where backtracking would take forever.
        """
        made = TopicPattern(pattern)
        steps = lines_of(lambda: made.matches(topic))
        assert steps < 4 * self.SIZE + 50
        assert 2500 <= made.weight < STEP_WEIGHT
        assert not made.matches(topic)

    def test_stops_when_found(self) -> None:
        """
        A match of a pattern with several ``**`` ends where the last of its groups was found.
        """
        made = TopicPattern("**/a/**")
        assert lines_of(lambda: made.matches("a" + "/x" * 1000)) < 50

    def test_long_pattern(self) -> None:
        """
        The weight of a pattern grows with the number of its segments and with its length.
        """
        assert TopicPattern("/".join(["*"] * 1000)).weight > 1000
        assert 100 < TopicPattern("x" * 2000).weight < 300


class HubTests:
    @pytest.fixture
    def world(self, plain: Wire) -> Any:
        world = World(plain)
        yield world
        world.end()

    def test_subscribe(self, world: World) -> None:
        """
        A channel that is subscribed to a topic pattern receives the updates of the topics that it matches.
        """
        reader = world.open()
        world.hub.subscribe(reader.channel, TopicPattern("builders/*/builds/**"))
        for topic in ["builders/a/builds/17", "builders/a", "builders/b/builds", "builders//builds"]:
            world.publish(topic, topics=topic)
        world.reactor.run_soon()
        assert reader.texts == ["builders/a/builds/17", "builders/b/builds"]

    def test_replay(self, world: World) -> None:
        """
        A client of a resource with a topic pattern that resumes gets the matching updates that it missed.
        """
        (first,) = world.publish("first", topics="a/1/x")
        world.publish("b", topics="b/1/x")
        world.publish("second", topics="a/2/x")
        reader = world.join(TopicPattern("a/*/x"), last_event_id=first)
        world.publish("live", topics="a/3/x")
        world.publish("c", topics="a/3/4/x")
        world.reactor.run_soon()
        assert reader.texts == ["second", "live"]

    def test_private(self, world: World) -> None:
        """
        A grant of a topic pattern covers the private updates of the topics that it matches.
        """
        reader = world.join(lambda request: Access("*", private=TopicPattern("user/ada/**")))
        for topic in ["user/ada/mail", "user/bob/mail"]:
            world.publish(topic, topics=topic, private=True)
        world.reactor.run_soon()
        assert reader.texts == ["user/ada/mail"]

    def test_shared(self, world: World) -> None:
        """
        Equal topic patterns of several subscribers count once toward the hub's limit.
        """
        for _ in range(3):
            world.join(TopicPattern("a/*"))
        assert world.hub._membership.index.weight == TopicPattern("a/*").weight
