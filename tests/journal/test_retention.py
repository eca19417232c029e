"""
Tests of how an update is retained: the key, the time and the owner.
"""

from __future__ import annotations

from typing import Any

import pytest

from txsse import InvalidField
from txsse.journal.retention import MAX_KEY_BYTES, Retention, to_retention


class Key(str):
    """
    A string whose ``str()`` differs from its text, like that of an ``Enum``.
    """

    def __str__(self) -> str:
        return "another"


class RetentionTests:
    @pytest.mark.parametrize("key", ["x", " ", "ü *\t", "*", "x" * MAX_KEY_BYTES, "ü" * (MAX_KEY_BYTES // 2)])
    def test_key(self, key: str) -> None:
        """
        A key is any text of at most MAX_KEY_BYTES bytes that fits into a line.
        """
        assert Retention(key).key == key

    def test_defaults(self) -> None:
        """
        By default an update is retained without a limit of time, and has no owner.
        """
        assert (Retention("x").seconds, Retention("x").owner) == (None, None)

    @pytest.mark.parametrize(
        ("key", "message"),
        [
            ("", "a key that is not empty"),
            ("x" * (MAX_KEY_BYTES + 1), f"more than {MAX_KEY_BYTES} bytes"),
            ("ü" * (MAX_KEY_BYTES // 2) + "x", f"more than {MAX_KEY_BYTES} bytes"),
            ("x" * 2**20, f"more than {MAX_KEY_BYTES} bytes"),
            ("a\nb", "line feed"),
            ("a\rb", "carriage return"),
            ("a\0b", "null"),
            ("a\ud800b", "lone surrogate"),
        ],
    )
    def test_invalid_key(self, key: str, message: str) -> None:
        """
        A key that is empty, too long, or not a line raises InvalidField, which does not repeat a long key.
        """
        with pytest.raises(InvalidField, match=message) as caught:
            Retention(key)
        assert caught.value.field == "retain"
        assert len(str(caught.value)) < 200

    @pytest.mark.parametrize("key", [None, 7, b"x", True, ["x"]])
    def test_key_of_wrong_type(self, key: Any) -> None:
        """
        A key that is not a string raises TypeError with the name of the parameter.
        """
        with pytest.raises(TypeError, match="retain must be str, not "):
            Retention(key)

    def test_subclass_of_str(self) -> None:
        """
        Of a key or an owner whose class is a subclass of ``str``, the plain text is kept.
        """
        retention = Retention(Key("x"), None, Key("me"))
        assert (type(retention.key), retention.key) == (str, "x")
        assert (type(retention.owner), retention.owner) == (str, "me")

    @pytest.mark.parametrize("seconds", [5e-324, 0.5, 60, 1.7e308, 10**300])
    def test_time(self, seconds: float) -> None:
        """
        The time is any positive number of seconds, and is kept as a float.
        """
        kept = Retention("x", seconds).seconds
        assert (type(kept), kept) == (float, float(seconds))

    @pytest.mark.parametrize(
        "seconds", [0, -1, -0.0, float("nan"), float("inf"), -float("inf"), 10**400, 10**4000, -(10**400)]
    )
    def test_invalid_time(self, seconds: float) -> None:
        """
        A time that is not positive and finite raises ValueError, also an int that is no float.
        """
        with pytest.raises(
            ValueError, match="retain_for must be a positive number of seconds, not "
        ) as caught:
            Retention("x", seconds)
        assert len(str(caught.value)) < 100

    @pytest.mark.parametrize("seconds", ["60", True, b"1", [60]])
    def test_time_of_wrong_type(self, seconds: Any) -> None:
        """
        A time that is not a number raises TypeError with the name of the parameter.
        """
        with pytest.raises(TypeError, match="retain_for must be a number of seconds, not "):
            Retention("x", seconds)

    def test_owner(self) -> None:
        """
        An owner is any text that has a UTF-8 form: a journal has to write it.
        """
        assert Retention("x", None, "me \n\0 ü").owner == "me \n\0 ü"
        with pytest.raises(InvalidField, match="lone surrogate") as caught:
            Retention("x", None, "\ud800")
        assert caught.value.field == "owner"
        with pytest.raises(TypeError, match="owner must be str, not int"):
            Retention("x", None, 7)  # type: ignore[arg-type]

    def test_equality(self) -> None:
        """
        Two retentions are equal if key, time and owner are equal; they are hashable and immutable.
        """
        one = Retention("x", 60, "me")
        assert one == Retention("x", 60.0, "me")
        assert hash(one) == hash(Retention("x", 60.0, "me"))
        assert one not in (Retention("y", 60, "me"), Retention("x", 61, "me"), Retention("x", 60), "x")
        with pytest.raises(AttributeError):
            one.key = "y"  # type: ignore[misc]


class ParametersTests:
    def test_retained(self) -> None:
        """
        The parameters of a publication give its key and its time, and no owner.
        """
        assert to_retention("x", None) == Retention("x")
        assert to_retention("x", 60) == Retention("x", 60.0)

    def test_not_retained(self) -> None:
        """
        Without a key, an update is not retained.
        """
        assert to_retention(None, None) is None

    @pytest.mark.parametrize("seconds", [60, 0, "60"])
    def test_time_without_a_key(self, seconds: Any) -> None:
        """
        A time without a key raises ValueError with an example of a call.
        """
        with pytest.raises(ValueError, match="retain_for needs a key: publish"):
            to_retention(None, seconds)

    def test_empty_key(self) -> None:
        """
        An empty key is an error, and not the same as no key.
        """
        with pytest.raises(InvalidField, match="not empty"):
            to_retention("", 60)
