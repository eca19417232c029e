"""
Arguments of the commands that may contain a secret: URLs and header fields.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from txsse.cli.arguments import path_below, read_headers, read_url


class UrlTests:
    def test_plain(self) -> None:
        """
        A URL without a secret is accepted on the command line.
        """
        assert read_url("http://h/?topic=a") == "http://h/?topic=a"

    @pytest.mark.parametrize(
        "url", ["http://h/?token=hunter2", "http://u:hunter2@h/", "http://h/?a=b&api_key=hunter2"]
    )
    def test_secret(self, url: str) -> None:
        """
        A URL with a secret on the command line is refused, and the error does not show it.
        """
        with pytest.raises(ValueError) as raised:
            read_url(url)
        assert "hunter2" not in str(raised.value)

    def test_file(self, tmp_path: Path) -> None:
        """
        A URL with a secret is accepted from a file, which must contain an HTTP URL.
        """
        path = tmp_path / "url"
        path.write_text("http://h/?token=hunter2\n")
        assert read_url(f"@{path}") == "http://h/?token=hunter2"
        path.write_text("hunter2")
        with pytest.raises(ValueError, match="is not an HTTP URL"):
            read_url(f"@{path}")


class HeaderTests:
    def test_plain(self) -> None:
        """
        Header fields without a secret are accepted on the command line.
        """
        assert read_headers(["X-A: 1:2", "X-B:"]) == {"X-A": "1:2", "X-B": ""}

    @pytest.mark.parametrize(
        "name", ["Authorization", "proxy-authorization", "COOKIE", "X-Api-Key", "X-Auth-Token", "X-Secret"]
    )
    def test_secret_fields(self, name: str, tmp_path: Path) -> None:
        """
        A header field with a secret is refused on the command line, and accepted from a file.
        """
        with pytest.raises(
            ValueError, match=f"the value of --header {name}; put the line into a file"
        ) as raised:
            read_headers([f"{name}: hunter2"])
        assert "hunter2" not in str(raised.value)
        path = tmp_path / "headers"
        path.write_text(f"{name}: hunter2\n\nX-A: 1\r\n")
        assert read_headers([f"@{path}", "X-B: 2"]) == {name: "hunter2", "X-A": "1", "X-B": "2"}

    def test_too_large(self, tmp_path: Path) -> None:
        """
        A file that is larger than any header field is refused.
        """
        path = tmp_path / "headers"
        path.write_text("X-Name: " + "a" * 65536)
        with pytest.raises(ValueError, match="has more than 65536 bytes"):
            read_headers([f"@{path}"])

    def test_invalid_fields(self, tmp_path: Path) -> None:
        """
        For a malformed header field or an unreadable file, the error does not show the content.
        """
        path = tmp_path / "headers"
        path.write_bytes(b"hunter2")
        for argument in ("hunter2", ": hunter2", f"@{path}"):
            with pytest.raises(ValueError, match="--header needs NAME:VALUE"):
                read_headers([argument])
        path.write_bytes(b"a: \xff")
        with pytest.raises(ValueError, match="headers: it is not UTF-8 text"):
            read_headers([f"@{path}"])
        with pytest.raises(ValueError, match="No such file"):
            read_headers([f"@{tmp_path / 'nothing'}"])


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://hub.example/hub", "https://hub.example/hub/x"),
        ("https://hub.example/hub/", "https://hub.example/hub/x"),
        ("http://localhost:8080/hub?a=1", "http://localhost:8080/hub/x?a=1"),
    ],
)
def test_path_below(url: str, expected: str) -> None:
    """
    A slash at the end of the hub's URL, and a query, do not change the path below it.
    """
    assert path_below(url, "x") == expected
