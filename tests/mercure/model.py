"""
A simple model of which subscriber receives which update. Topics, URL patterns and URI templates are drawn
from a family small enough to be matched by equal strings, ``*`` and regular expressions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from hypothesis import strategies as st

from tests.mercure.fuzzing import MARK
from tests.mercure.world import (
    PUBLISHER,
    MercureWorld,
    Reader,
)

ORIGIN = "https://hub.example"


def resolved(topic: str) -> str | None:
    """
    Return the URL that a topic of this family resolves to; ``None`` for a topic with another scheme than
    ``https``.
    """
    if topic.startswith("urn:"):
        return None
    if topic.startswith("https://"):
        return topic
    return f"{ORIGIN}{topic}" if topic.startswith("/") else f"{ORIGIN}/.well-known/{quote(topic)}"


def _expression(piece: str) -> str:
    if piece.startswith(":") or piece == "(\\d+)":
        return "[^/]+" if piece.startswith(":") else "[0-9]+"
    return re.escape(piece).replace(r"\*", ".*")


@dataclass(frozen=True)
class Match:
    """
    A matcher of this family.
    """

    type: str
    value: str

    def selects(self, topic: str) -> bool:
        """
        Return whether the matcher selects a topic, according to the model.
        """
        if self.value in ("*", topic):
            # A pattern that equals the topic still selects only what it matches.
            return self.type != "urlpattern" or self.value == "*" or self._matches(topic)
        if self.type == "template" and "{" in self.value:
            literals = re.split(r"\{\w+\}", self.value)
            return bool(re.fullmatch(r"[\w.~%,=-]*".join(map(re.escape, literals)), topic))
        return self.type == "urlpattern" and self._matches(topic)

    def _matches(self, topic: str) -> bool:
        url = resolved(topic)
        pattern = self.value if self.value.startswith("https://") else f"{ORIGIN}{self.value}"
        parts = map(_expression, pattern.split("/"))
        return url is not None and bool(re.fullmatch("/".join(parts), url))

    @property
    def parameter(self) -> tuple[str, str]:
        """
        The request parameter that subscribes to the matcher.
        """
        names = {"exact": "match", "urlpattern": "match_urlpattern", "template": "topic"}
        return names[self.type], self.value

    @property
    def granted(self) -> dict[str, str]:
        """
        The entry of a token that grants the matcher.
        """
        return {"match": self.value, "match_type": self.type}


words = st.sampled_from(["a", "A", "b", "1", "22"])
hosts = st.sampled_from(["", "", ORIGIN, "https://a.example", "https://b.example"])
plain_topics = st.builds(
    lambda host, path: f"{host}/{'/'.join(path)}", hosts, st.lists(words, min_size=1, max_size=3)
)
odd_topics = st.sampled_from(
    ["a", "A", "ab", "urn:x:a", "{a}", "/a/{x}", "*a", "/p/:x0", "/%61", "/a/", "a b"]
)
topics = st.one_of(plain_topics, plain_topics, odd_topics)
pieces = st.one_of(words, words, st.just(":x"), st.just("(\\d+)"))


def _pattern(host: str, path: Sequence[str], rest: str) -> Match:
    # A pattern may use each group name once.
    numbered = [f"{piece}{number}" if piece == ":x" else piece for number, piece in enumerate(path)]
    return Match("urlpattern", f"{host}/{'/'.join(numbered)}{rest}")


patterns = st.builds(
    _pattern,
    hosts | st.just("https://*.example"),
    st.lists(pieces, min_size=1, max_size=3),
    st.sampled_from(["", "", "/*"]),
)
templates = st.sampled_from(
    ["{a}", "/a/{x}", "/{x}/{y}", "https://a.example/{x}", "{a}b", "/a{x}", "*a", "a", "*"]
)
modern = st.one_of(
    topics.map(lambda topic: Match("exact", topic)),
    patterns,
    patterns,
    st.sampled_from([Match("exact", "*"), Match("urlpattern", "*")]),
)
olden = st.one_of(modern, templates.map(lambda value: Match("template", value)))


@dataclass
class Published:
    """
    An update of the model.
    """

    topics: list[str]
    private: bool
    text: str = ""
    id: str = ""

    def is_for(self, wanted: Sequence[Match], granted: Sequence[Match]) -> bool:
        """
        Return whether a subscriber with these matchers and grants receives the update.
        """
        asked = any(match.selects(topic) for match in wanted for topic in self.topics)
        allowed = any(match.selects(topic) for match in granted for topic in self.topics)
        return asked and (allowed or not self.private)


updates = st.builds(Published, st.lists(topics, min_size=1, max_size=3), st.booleans())


class Record:
    """
    The updates published so far, in order.
    """

    def __init__(self, world: MercureWorld) -> None:
        self.world = world
        self.published: list[Published] = []

    def publish(self, update: Published) -> None:
        """
        Publish an update, with an id and a text that number it.
        """
        number = len(self.published)
        update = Published(
            update.topics, update.private, f"{number} {MARK if update.private else 'open'}", f"u{number}"
        )
        form = [*(("topic", topic) for topic in update.topics), ("data", update.text), ("id", update.id)]
        if update.private:
            form.append(("private", "on"))
        assert self.world.ask("POST", form=form, token=PUBLISHER).status == 200
        self.published.append(update)

    def begin(self, last_id: str | None) -> int:
        """
        Return the index of the first update that a client with this last event id receives, whether or not
        the client may read the update with that id. An unknown id replays everything.
        """
        if last_id is None:
            return len(self.published)
        return next((number for number, update in enumerate(self.published, 1) if update.id == last_id), 0)

    def due(
        self, wanted: Sequence[Match], granted: Sequence[Match], start: int, end: int | None = None
    ) -> list[str]:
        """
        Return the texts that a subscriber with these matchers and grants receives.
        """
        return [update.text for update in self.published[start:end] if update.is_for(wanted, granted)]


def texts_of(reader: Reader) -> list[str]:
    """
    Return the texts of the updates that a reader received, without subscription events.
    """
    return [text for text in reader.texts if text[:1].isdigit()]
