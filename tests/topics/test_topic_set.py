"""
The topics of a subscription: exact names, selectors and the wildcard.
"""

from __future__ import annotations

from typing import cast

import pytest
from twisted.logger import LogEvent

from tests.hub.fakes import Broken, Prefix
from txsse.topics.topic_set import ALL, TopicSet, selects


class TopicSetTests:
    def test_one_topic(self) -> None:
        """
        A single string is one topic, not a sequence of letters.
        """
        wanted = TopicSet("news")
        assert wanted.exact == ("news",)
        assert wanted.selectors == ()
        assert not wanted.all
        assert len(wanted) == 1
        assert list(wanted) == ["news"]

    def test_one_selector(self) -> None:
        """
        A topic set accepts a single selector without a list.
        """
        selector = Prefix("a/")
        wanted = TopicSet(selector)
        assert wanted.exact == ()
        assert wanted.selectors == (selector,)
        assert len(wanted) == 1
        assert list(wanted) == [selector]

    def test_empty(self) -> None:
        """
        An empty topic set matches no topic.
        """
        wanted = TopicSet()
        assert len(wanted) == 0
        assert list(wanted) == []
        assert not wanted.has(("news",))

    def test_all(self) -> None:
        """
        The asterisk matches all topics, counts as one, and is listed last.
        """
        wanted = TopicSet([ALL, "news", Prefix("a")])
        assert wanted.all
        assert wanted.exact == ("news",)
        assert len(wanted) == 3
        assert list(wanted) == ["news", Prefix("a"), "*"]
        assert wanted.has(("whatever",))

    def test_duplicates(self) -> None:
        """
        Duplicate topics and selectors count once, in the order of their first occurrence.
        """
        wanted = TopicSet(iter(cast("list[str]", ["b", "a", "b", Prefix("x"), Prefix("x"), "*", "*"])))
        assert wanted.exact == ("b", "a")
        assert wanted.selectors == (Prefix("x"),)
        assert len(wanted) == 4

    @pytest.mark.parametrize(
        ("topics", "message"),
        [
            (7, "topics must be strings or selectors, not int"),
            (None, "topics must be strings or selectors, not NoneType"),
            (["news", 7], "a topic must be a string or a selector, not int"),
            ([b"news"], "a topic must be a string or a selector, not bytes"),
        ],
    )
    def test_wrong_type(self, topics: object, message: str) -> None:
        """
        Topics of a wrong type raise ``TypeError`` with the type's name.
        """
        with pytest.raises(TypeError, match=message):
            TopicSet(topics)  # type: ignore[arg-type]

    def test_has(self) -> None:
        """
        A topic set matches an update if one of the update's topics matches by name or by selector.
        """
        wanted = TopicSet(["news", Prefix("a/")])
        assert wanted.has(("other", "news"))
        assert wanted.has(("other", "a/1"))
        assert not wanted.has(("other", "new", "b/a/"))
        assert not wanted.has(())

    def test_repr(self) -> None:
        """
        The ``repr`` of a topic set lists its topics, for the log.
        """
        assert repr(TopicSet(["news", Prefix("a/"), "*"])) == "TopicSet(['news', a/…, '*'])"
        assert repr(TopicSet("news")) == "TopicSet(['news'])"


class SelectorTests:
    def test_matches(self) -> None:
        """
        ``selects`` returns whether a selector matches a topic.
        """
        assert selects(Prefix("a/"), "a/1") is True
        assert selects(Prefix("a/"), "b/1") is False

    def test_failing_selector(self, failures: list[LogEvent]) -> None:
        """
        A selector that raises matches no topic, and is logged with the topic.
        """
        selector = Broken()
        assert selects(selector, "a/1") is False
        (event,) = failures
        assert event["log_failure"].type is ZeroDivisionError
        assert event["selector"] is selector
        assert event["topic"] == "a/1"
