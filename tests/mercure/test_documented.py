"""
The table of the protocol's requirements in ``docs/mercure-conformance.rst``, and the tests that it names.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
TABLE = (ROOT / "docs" / "mercure-conformance.rst").read_text(encoding="utf-8")

NAMED = sorted(set(re.findall(r"``((?:tests/[\w/]+/)?test_\w+\.\w[\w.]*|tests/[\w/]+\.\w+[\w.]*)``", TABLE)))


@cache
def names_in(path: Path) -> set[str]:
    """
    Return the names of the test functions, classes and methods in a file.
    """
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            found.add(node.name)
            found |= {
                f"{node.name}.{each.name}"
                for each in node.body
                if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
            }
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
    return found


def test_table_names_tests() -> None:
    """
    The conformance table names more than 60 tests.
    """
    assert len(NAMED) > 60


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMED)
def test_named_test_exists(name: str) -> None:
    """
    Each test that the conformance table names exists.
    """
    folder, _, rest = name.rpartition("/")
    module, _, test = rest.partition(".")
    # A name without a folder may be anywhere below tests/mercure.
    paths = [ROOT / folder / f"{module}.py"] if folder else (ROOT / "tests/mercure").rglob(f"{module}.py")
    (path,) = paths
    assert test == "py" or test in names_in(path)
