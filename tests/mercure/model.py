"""
The model of who wants what, which is plain: equal strings, ``*``, and such patterns and templates as can be
written as regular expressions.
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

# The model.

ORIGIN = "https://hub.example"


def resolved(topic: str) -> str | None:
    """
    Tell what URL a topic of the family here is; ``None`` for one that is none below ``https``.
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
    A matcher of the family here.
    """

    type: str
    value: str

    def selects(self, topic: str) -> bool:
        """
        Tell what the model says.
        """
        if self.value in ("*", topic):
            # A pattern that is a topic, too, selects what it matches alone.
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
        What a request asks for it by.
        """
        names = {"exact": "match", "urlpattern": "match_urlpattern", "template": "topic"}
        return names[self.type], self.value

    @property
    def granted(self) -> dict[str, str]:
        """
        What a token grants it by.
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
    # A name may be there once.
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
class Told:
    """
    An update of the model's.
    """

    topics: list[str]
    private: bool
    text: str = ""
    id: str = ""

    def is_for(self, wanted: Sequence[Match], granted: Sequence[Match]) -> bool:
        """
        Tell whether somebody gets it.
        """
        asked = any(match.selects(topic) for match in wanted for topic in self.topics)
        allowed = any(match.selects(topic) for match in granted for topic in self.topics)
        return asked and (allowed or not self.private)


updates = st.builds(Told, st.lists(topics, min_size=1, max_size=3), st.booleans())


class Record:
    """
    What was published, in order.
    """

    def __init__(self, world: MercureWorld) -> None:
        self.world = world
        self.told: list[Told] = []

    def publish(self, update: Told) -> None:
        """
        Publish another one.
        """
        number = len(self.told)
        update = Told(
            update.topics, update.private, f"{number} {MARK if update.private else 'open'}", f"u{number}"
        )
        form = [*(("topic", topic) for topic in update.topics), ("data", update.text), ("id", update.id)]
        if update.private:
            form.append(("private", "on"))
        assert self.world.ask("POST", form=form, token=PUBLISHER).status == 200
        self.told.append(update)

    def begin(self, last_id: str | None) -> int:
        """
        Return from where on a client gets what there is, whether it may have the update with the id or not.
        """
        if last_id is None:
            return len(self.told)
        return next((number for number, update in enumerate(self.told, 1) if update.id == last_id), 0)

    def due(
        self, wanted: Sequence[Match], granted: Sequence[Match], start: int, end: int | None = None
    ) -> list[str]:
        """
        Tell what somebody gets.
        """
        return [update.text for update in self.told[start:end] if update.is_for(wanted, granted)]


def told_to(reader: Reader) -> list[str]:
    """
    Return what came, but for what tells of subscriptions.
    """
    return [text for text in reader.texts if text[:1].isdigit()]
