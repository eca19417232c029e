"""
The access of a request: the values that it accepts, and what its repr discloses.
"""

from __future__ import annotations

from typing import Any

import pytest

from txsse import Access


class AccessTests:
    def test_repr_discloses_neither_key_nor_context(self) -> None:
        """
        The repr of an ``Access``, which may end up in a log, shows neither its key nor its context.
        """
        access = Access("news", key="session-4711", context={"password": "hunter2"})
        assert "news" in repr(access)
        assert "4711" not in repr(access)
        assert "hunter2" not in repr(access)

    @pytest.mark.parametrize("key", [[], {}, ("a", [])])
    def test_key_that_is_not_hashable(self, key: Any) -> None:
        """
        An ``Access`` refuses a key that is not hashable, and its error does not show the key.
        """
        with pytest.raises(TypeError, match="key must be hashable, such as a user's ID"):
            Access("news", key=key)

    @pytest.mark.parametrize("expires", ["60", True, b"1"])
    def test_expires_of_a_wrong_type(self, expires: Any) -> None:
        """
        An ``Access`` refuses an ``expires`` that is not a number.
        """
        with pytest.raises(TypeError, match="expires must be a number of seconds from now"):
            Access("news", expires=expires)

    @pytest.mark.parametrize("expires", [float("nan"), float("inf"), -float("inf")])
    def test_expires_that_is_not_finite(self, expires: float) -> None:
        """
        An ``Access`` refuses an ``expires`` that is not finite.
        """
        with pytest.raises(ValueError, match="finite number of seconds"):
            Access("news", expires=expires)
