"""
Tests of updates and ephemeral updates.
"""

from __future__ import annotations

import pytest

from txsse import InvalidField, ServerSentEvent, Update, encode_event
from txsse.journal import update as update_module
from txsse.journal.retention import Retention
from txsse.journal.update import EphemeralUpdate


def event(id: str | None = "1", data: str = "x") -> ServerSentEvent:
    return ServerSentEvent(data, id=id)


class UpdateTests:
    def test_attributes(self) -> None:
        """
        An update has its topics, each once and in order, its event, the event's id, and whether it is
        private.
        """
        update = Update(iter(["b", "a", "b"]), event("7"), private=True)
        assert update.topics == ("b", "a")
        assert update.event == event("7")
        assert update.id == "7"
        assert update.private
        assert not Update("a", event()).private
        assert Update("news", event()).topics == ("news",)

    @pytest.mark.parametrize("topics", [[], (), iter([])])
    def test_no_topic(self, topics: list[str]) -> None:
        """
        An update without a topic raises InvalidField.
        """
        with pytest.raises(InvalidField, match="an update needs a topic") as caught:
            Update(topics, event())
        assert caught.value.field == "topics"

    @pytest.mark.parametrize("topics", ["*", ["news", "*"]])
    def test_reserved_topic(self, topics: str | list[str]) -> None:
        """
        An update to the topic * raises InvalidField, as * stands for all topics.
        """
        with pytest.raises(InvalidField, match="stands for all topics") as caught:
            Update(topics, event())
        assert caught.value.field == "topics"

    def test_lone_surrogate(self) -> None:
        """
        A lone surrogate in a topic raises InvalidField with its position.
        """
        with pytest.raises(InvalidField) as caught:
            Update(["a", "b\ud800"], event())
        assert caught.value.field == "topics"
        assert caught.value.position == 1

    def test_topic_of_wrong_type(self) -> None:
        """
        A topic that is not a string raises TypeError.
        """
        with pytest.raises(TypeError):
            Update([7], event())  # type: ignore[list-item]

    @pytest.mark.parametrize(
        ("id", "message"),
        [
            (None, "needs an id"),
            ("", "needs an id"),
            ("earliest", "'earliest' is reserved"),
            ("#1-0", "begins with '#', which is reserved for resume IDs"),
            (" 1", "begins or ends with white space"),
            ("1 ", "begins or ends with white space"),
            ("\t1", "begins or ends with white space"),
            ("1\x0b", "begins or ends with white space"),
            ("\u00a01", "begins or ends with white space"),
            ("1\t", "begins or ends with white space"),
            ("x" * 1025, "more than 1024 bytes"),
            ("é" * 512 + "x", "more than 1024 bytes"),
        ],
    )
    def test_invalid_id(self, id: str | None, message: str) -> None:
        """
        An id that a client could not send back, or that has another meaning, raises InvalidField.
        """
        with pytest.raises(InvalidField, match=message) as caught:
            Update("news", event(id))
        assert caught.value.field == "id"

    @pytest.mark.parametrize("id", ["x", "x" * 1024, "é" * 512, "a b", "Earliest", "*"])
    def test_valid_id(self, id: str) -> None:
        """
        An update keeps a valid id unchanged.
        """
        assert Update("news", event(id)).id == id

    def test_frame(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        An update encodes its event once, however often its frame is read.
        """
        encoded: list[ServerSentEvent] = []
        encode = update_module.encode_event  # type: ignore[attr-defined]

        def counting(event: ServerSentEvent) -> bytes:
            encoded.append(event)
            return encode(event)

        monkeypatch.setattr(update_module, "encode_event", counting)
        update = Update("news", event("1", "a\nb"))
        assert update.frame == b"id: 1\ndata: a\ndata: b\n\n"
        assert update.frame is update.frame
        assert encoded == [event("1", "a\nb")]

    def test_equality(self) -> None:
        """
        Two updates are equal if their topics, events and privacy are equal.
        """
        one, other = Update(["a", "b"], event()), Update(("a", "b"), event())
        assert one == other
        assert hash(one) == hash(other)
        assert one != Update(["b", "a"], event())
        assert one != Update(["a", "b"], event("2"))
        assert one != Update(["a", "b"], event(), private=True)
        assert hash(one) != hash(Update(["a", "b"], event(), private=True))
        assert one != "update"

    def test_repr(self) -> None:
        """
        The repr of an update has the id and the topics, and not the text.
        """
        assert repr(Update(["a", "b"], event("7", "secret"))) == "<Update 7 to a, b>"
        assert repr(Update("a", event("7"), private=True)) == "<Update 7 to a private>"
        retained = Update("a", event("7", "secret"), retention=Retention("secret", 60, "secret"))
        assert repr(retained) == "<Update 7 to a>"


class RetentionTests:
    def test_retained(self) -> None:
        """
        An update has its retention; without one, it is not retained.
        """
        retention = Retention("x", 60.0)
        update = Update("a", event(), retention=retention)
        assert update.retention is retention
        assert not update.unretains
        assert Update("a", event()).retention is None

    def test_wrong_type(self) -> None:
        """
        A retention of another type raises TypeError with an example.
        """
        with pytest.raises(
            TypeError, match=r"retention must be a Retention, such as Retention\('device-7'\)"
        ):
            Update("a", event(), retention="x")  # type: ignore[arg-type]

    def test_unretains(self) -> None:
        """
        An update of the type unretain whose data is the key removes it; without a retention, it is an update
        like any other.
        """
        removal = ServerSentEvent("x", "unretain", "1")
        assert Update("a", removal, retention=Retention("x", None, "me")).unretains
        assert not Update("a", removal).unretains
        assert not Update("a", removal._replace(event="Unretain"), retention=Retention("x")).unretains

    @pytest.mark.parametrize(
        ("data", "retention"), [("y", Retention("x")), ("", Retention("x")), ("x", Retention("x", 60))]
    )
    def test_ambiguous_removal(self, data: str, retention: Retention) -> None:
        """
        An update of the type unretain raises InvalidField if its data is not the key, or if it has a time.
        """
        with pytest.raises(InvalidField, match="must be its data, and has no time") as caught:
            Update("a", ServerSentEvent(data, "unretain", "1"), retention=retention)
        assert caught.value.field == "retain"

    def test_subject(self) -> None:
        """
        The subject of a retained update, and of its removal, is its first topic and its key; that of other
        updates is their first topic, and differs from all keys.
        """
        retained = Update(["a", "b"], event("1"), retention=Retention("x", 60, "me"))
        removal = Update("a", ServerSentEvent("x", "unretain", "2"), retention=Retention("x"))
        assert retained.subject == removal.subject == ("key", "a", "x")
        subjects = [
            Update(topics, event(), retention=retention).subject
            for topics, retention in (
                (["a", "b"], None),
                ("b", None),
                ("a", Retention("a")),
                ("a", Retention("x")),
                ("b", Retention("x")),
            )
        ]
        assert len(set(subjects)) == len(subjects)
        assert Update(["a", "b"], event()).subject == EphemeralUpdate("a", ServerSentEvent("x")).subject

    @pytest.mark.parametrize("id", ["1", "ü", "data", "a: b", "id: 1", "x" * 1024])
    @pytest.mark.parametrize("retry", [None, 0, 1.5])
    @pytest.mark.parametrize("kind", [None, "kind", "id: 1"])
    @pytest.mark.parametrize("data", ["", "x", "id: 1\nid: 1", "\n\nid: 1\n"])
    def test_frame_without_id(self, id: str, retry: float | None, kind: str | None, data: str) -> None:
        """
        The frame without the ID is that of the same event without an ID, also if a field looks like the ID.
        """
        made = ServerSentEvent(data, kind, id, retry)
        frame = Update("a", made).frame_without_id
        assert frame == encode_event(made._replace(id=None))

    def test_equality(self) -> None:
        """
        Two updates with different retentions are not equal: the journal records both.
        """
        retentions = [None, Retention("x"), Retention("y"), Retention("x", 60), Retention("x", None, "me")]
        updates = [Update("a", event(), retention=each) for each in retentions]
        for index, one in enumerate(updates):
            assert [one == other for other in updates] == [index == other for other in range(len(updates))]
        assert hash(updates[3]) == hash(Update("a", event(), retention=Retention("x", 60.0)))
        assert updates[3] == Update("a", event(), retention=Retention("x", 60.0))


class EphemeralUpdateTests:
    def test_attributes(self) -> None:
        """
        An ephemeral update has its topics, its privacy, and a frame without an id.
        """
        update = EphemeralUpdate(["b", "a", "b"], ServerSentEvent("x", "kind"), private=True)
        assert update.topics == ("b", "a")
        assert update.private
        assert update.frame == b"event: kind\ndata: x\n\n"
        assert not EphemeralUpdate("news", ServerSentEvent("x")).private

    def test_id(self) -> None:
        """
        An ephemeral update with an id raises InvalidField, as no client can resume from it.
        """
        with pytest.raises(InvalidField, match="no client can resume from it") as caught:
            EphemeralUpdate("news", ServerSentEvent("x", id="1"))
        assert caught.value.field == "id"

    @pytest.mark.parametrize("topics", ["*", [], ["a", "*"]])
    def test_topics(self, topics: str | list[str]) -> None:
        """
        The topics of an ephemeral update have the same restrictions as those of an update.
        """
        with pytest.raises(InvalidField):
            EphemeralUpdate(topics, ServerSentEvent("x"))
