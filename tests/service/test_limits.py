"""
Tests of docs/limits.rst: each limit has an option or a number, and a test.
"""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from txsse.service.bounds import connections_by_files
from txsse.service.config import Config, options

ROOT = Path(__file__).parent.parent.parent
TABLE = (ROOT / "docs" / "limits.rst").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(set(re.findall(r"``([\w/]+::\w+)``", TABLE))))
def test_every_row_has_a_test(name: str) -> None:
    """
    Each test named in the tables of docs/limits.rst exists.
    """
    file, _, test = name.partition("::")
    text = (ROOT / "tests" / f"{file}.py").read_text(encoding="utf-8")
    assert re.search(rf"^(?:class|def) {test}\b", text, re.MULTILINE)


def test_rows() -> None:
    """
    Each row of the tables of docs/limits.rst names a test.
    """
    rows = re.findall(r"^[a-z].{30,}  \S.*$", TABLE, re.MULTILINE)
    assert len(rows) > 30
    assert [row for row in rows if "::" not in row and not row.startswith("limit ")] == []


DEFAULTS = sorted(set(re.findall(r"``--([a-z-]+)``, ([^;|]*?)(?:  |;|$)", TABLE, re.MULTILINE)))


@pytest.mark.parametrize(("option", "default"), DEFAULTS)
def test_defaults(option: str, default: str) -> None:
    """
    Each default in docs/limits.rst is that of the service.
    """
    known = {each.name: each for each in options()}
    (field,) = [each for each in fields(Config) if each.name == option.replace("-", "_")]
    if default.startswith("open files"):
        assert field.default == connections_by_files()
        return
    written = default.removesuffix(" units").replace(",", "").replace(" MiB", "MiB")
    assert known[option].kind.read(re.sub(r"^(\d+) (s|h|d)$", r"\1\2", written)) == field.default
