"""
Keys of streams as texts that nodes send each other.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from txsse.journal.keys import MAX_KEY_BYTES, Anonymous, decode_key, decode_name, encode_key, encode_name

KEYS = st.recursive(
    st.text(max_size=20) | st.integers() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=5,
)


class NameTests:
    @pytest.mark.parametrize("name", [None, "null", "{", Anonymous("a", "1"), ("a", "1"), "x" * 3000, 7])
    def test_names(self, name: Hashable) -> None:
        """
        A name is a key of any length, ``None``, or that of a stream without a key, which equals no key.
        """
        assert decode_name(encode_name(name)) == name
        assert type(decode_name(encode_name(name))) is type(name)

    @pytest.mark.parametrize(
        "text", ["", "{", "{}", '{"anonymous":7}', '{"anonymous":["a"]}', "1.5", "[null]", "[" * 100_000]
    )
    def test_wrong_text(self, text: str) -> None:
        """
        Any other text is refused.
        """
        with pytest.raises(ValueError):
            decode_name(text)


class KeyTests:
    @settings(derandomize=True, deadline=None)
    @given(KEYS, KEYS)
    def test_any_key(self, key: Hashable, other: Hashable) -> None:
        """
        A key's text yields an equal key, and different keys have different texts.
        """
        try:
            text = encode_key(key)
        except TypeError:
            # Nested too deeply.
            return
        assert decode_key(text) == key
        assert hash(decode_key(text)) == hash(key)
        if key != other:
            assert decode_key(text) != other

    @pytest.mark.parametrize("key", ["ann", 7, ("ann", 7), ("a", ("b", ("c",))), "\ud800", "", ()])
    def test_keys(self, key: Hashable) -> None:
        """
        Strings, whole numbers and tuples of these can be sent to other nodes.
        """
        assert decode_key(encode_key(key)) == key

    @pytest.mark.parametrize("key", [1.5, None, UUID(int=7), b"ann", frozenset([1]), ("a", None)])
    def test_key_of_a_wrong_type(self, key: Hashable) -> None:
        """
        A key of another type is refused with an error that says which types other nodes recognise.
        """
        with pytest.raises(TypeError, match="key must be a str, an int, or a tuple of these"):
            encode_key(key)

    def test_nested_too_deeply(self) -> None:
        """
        A tuple that is nested too deeply is refused, however deep it is.
        """
        key: Hashable = "x"
        for _ in range(100_000):
            key = (key,)
        with pytest.raises(TypeError):
            encode_key(key)

    def test_too_long(self) -> None:
        """
        A key whose text is too long is refused with its length.
        """
        assert encode_key("x" * (MAX_KEY_BYTES - 2))
        with pytest.raises(ValueError, match="takes 4097 bytes as JSON, and 4096 is the limit"):
            encode_key("x" * (MAX_KEY_BYTES - 1))

    @pytest.mark.parametrize("text", ["null", "1.5", "{}", '[{"a": 1}]', "", "[", "[" * 100_000])
    def test_text_of_no_key(self, text: Any) -> None:
        """
        A text that no key has is refused.
        """
        with pytest.raises(ValueError):
            decode_key(text)
