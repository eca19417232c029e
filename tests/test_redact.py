"""
Passwords and tokens in URLs are removed from messages.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from txsse._redact import holds_secret, without_secrets
from txsse.errors import StreamEnded, StreamRefused

# Characters that users do not encode by hand, and that every URL may contain.
PASSWORDS = st.text("abcXYZ019-._~%!$()*+;=", min_size=4, max_size=30).map("S3cret".__add__)


class ShownTests:
    @pytest.mark.slow
    def test_long_word(self) -> None:
        """
        A word of a megabyte, which a server may send as a Location, is searched in time linear in its length.
        """
        word = "x" * 10**6
        assert without_secrets(word) == word
        assert not holds_secret(word)
        assert without_secrets(f"{word}://u:S3cret@h") == f"{word}://u:***@h"

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("https://h/?token=S3cret", "https://h/?token=***"),
            ("https://h/a?x=S3cret&y=S3cret#z=S3cret", "https://h/a?x=***&y=***#z=***"),
            ("https://h/?S3cret", "https://h/?***"),
            ("https://h/?a=S3cret?b=S3cret", "https://h/?a=***?b=***"),
            ("(see 'https://h/?t=S3cret'.)", "(see 'https://h/?t=***'.)"),
            ("https://h/?t=S3cret: the stream has ended", "https://h/?t=***: the stream has ended"),
            ("redis://u:S3cret@h and https://h/?t=S3cret", "redis://u:***@h and https://h/?t=***"),
            ("unix:///run/redis.sock?db=0", "unix:///run/redis.sock?db=0"),
            ("https://h/?a=&b", "https://h/?a=&***"),
            ("https://h/a#b=? Is a=b?", "https://h/a#b=? Is a=b?"),
            ("see twist txsse --help", "see twist txsse --help"),
        ],
    )
    def test_texts(self, text: str, shown: str) -> None:
        """
        ``without_secrets`` removes the passwords of URLs and the values of their queries, and nothing else.
        """
        assert without_secrets(text) == shown

    @given(secret=PASSWORDS, other=st.sampled_from(["", " and more", "'", "; x", "&a=b", "#c"]))
    @settings(derandomize=True, deadline=None, max_examples=200)
    def test_any_secret(self, secret: str, other: str) -> None:
        """
        ``without_secrets`` removes a secret, whatever characters it contains.
        """
        for url in (
            f"https://u:{secret}@h/",
            f"redis://:{secret}@h/0{other}",
            f"https://h/?token={secret}{other}",
        ):
            assert "S3cret" not in without_secrets(f"it is {url!r}")
            assert "S3cret" not in without_secrets(f"it is {url}")
            assert holds_secret(url)

    def test_errors(self) -> None:
        """
        The client's errors show URLs without the values of their queries; the attribute ``url`` has the whole
        URL.
        """
        for error in (
            StreamRefused("the server answered 401", url="https://h/?token=S3cret", status=401),
            StreamEnded("https://h/?token=S3cret"),
        ):
            assert str(error).startswith("https://h/?token=***: ")
            assert error.url == "https://h/?token=S3cret"


class HoldingTests:
    @pytest.mark.parametrize("name", ["token", "access_token", "Authorization", "api-key", "key", "sig"])
    def test_secret_names(self, name: str) -> None:
        """
        A URL holds a secret if its query has a field with a name such as ``token`` or ``key``.
        """
        assert holds_secret(f"https://h/?{name}=x") and holds_secret(f"https://h/?a=b&{name}=x")
        assert holds_secret(f"https://h/#{name}=x") and not holds_secret(f"https://h/?{name}=")
        assert not holds_secret(f"https://h/{name}=x")

    @pytest.mark.parametrize(
        "url", ["https://h/", "https://h/?topic=a", "https://h/?monkey=x", "redis://u@h/0"]
    )
    def test_others(self, url: str) -> None:
        """
        A URL without such a field or a password holds no secret.
        """
        assert not holds_secret(url)


@pytest.mark.slow
class LongTests:
    def test_long_url(self) -> None:
        """
        A URL of a megabyte, which a server may redirect to, is searched once, and not again from each letter,
        which would take hours.
        """
        url = "https://example.org/" + "x" * 2**20
        assert without_secrets(f"{url}?token=secret") == f"{url}?token=***"
        assert without_secrets("1http://user:pass@a/") == "1http://user:***@a/"
