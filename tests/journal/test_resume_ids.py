"""
Tests of opaque ids for positions in a journal.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from txsse.journal.resume_ids import ResumeIds, new_secret

SECRET = b"0123456789abcdef"
KNOWN = ResumeIds(SECRET).resume_id(3)


@settings(derandomize=True, deadline=None)
@given(st.binary(min_size=16, max_size=16), st.integers(0, 2**128 - 1), st.integers(0, 2**128 - 1))
def test_found(secret: bytes, position: int, head: int) -> None:
    """
    A resume ID yields its position to any process with the secret, if the position is not after the head.
    """
    resume_id = ResumeIds(secret).resume_id(position)
    assert re.fullmatch("#[0-9a-f]{8}-[0-9a-f]{32}", resume_id)
    assert ResumeIds(secret).find(resume_id, head) == (position if position <= head else None)
    assert ResumeIds(new_secret()).find(resume_id, 2**128) is None


def test_opaque() -> None:
    """
    The resume IDs of consecutive positions have only their prefix in common.
    """
    resume_ids = ResumeIds(SECRET)
    names = [resume_ids.resume_id(position).removeprefix(resume_ids.prefix) for position in range(1000)]
    assert len(set(names)) == 1000
    for place in range(32):
        assert len({name[place] for name in names}) == 16
    assert len({name[:16] for name in names}) == len({name[16:] for name in names}) == 1000


@pytest.mark.parametrize(
    "id",
    [
        KNOWN.upper(),
        KNOWN[:-1],
        KNOWN + "0",
        KNOWN + "\n",
        KNOWN[1:],
        "#" + KNOWN,
        KNOWN[:10],
        KNOWN[:-1] + "٣",
        KNOWN[:-1] + ("0" if KNOWN[-1] != "0" else "1"),
        "",
        "#",
    ],
)
def test_invalid(id: str) -> None:
    """
    A malformed resume ID is not found; nor is an invented one, whose position is after the head.
    """
    assert ResumeIds(SECRET).find(KNOWN, 5) == 3
    assert ResumeIds(SECRET).find(id, 5) is None
