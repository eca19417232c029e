"""
A user's program is type-checked by mypy and pyright, without the plugin for zope.interface.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processes import finish

pytestmark = pytest.mark.process

ROOT = Path(__file__).parent.parent
PYRIGHT = ROOT / "tests" / "peers" / "node_modules" / ".bin" / "pyright"

# Twisted's own functions are only partly typed.
MYPY = "[mypy]\nstrict = true\nuntyped_calls_exclude = twisted\n[mypy-txsse.*]\nfollow_imports = silent\n"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """
    Copy the program and settings for the checkers out of this project, whose own settings would apply
    otherwise.
    """
    (tmp_path / "mypy.ini").write_text(MYPY)
    settings = {"typeCheckingMode": "standard", "include": ["program.py"], "extraPaths": [str(ROOT)]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    return Path(shutil.copy(ROOT / "tests" / "typed_program.py", tmp_path / "program.py"))


def mypy(program: Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("mypy", reason="pip install 'txsse[dev]'")
    return run(program, sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "program.py")


def pyright(program: Path) -> subprocess.CompletedProcess[str]:
    if not PYRIGHT.exists() or shutil.which("node") is None:
        pytest.skip("npm install --prefix tests/peers")
    return run(program, str(PYRIGHT), "--pythonpath", sys.executable)


def run(program: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return finish(command, cwd=program.parent, env=os.environ | {"MYPYPATH": str(ROOT)})


@pytest.mark.parametrize("check", [mypy, pyright])
class TypingTests:
    def test_errors(self, program: Path, check: Callable[[Path], subprocess.CompletedProcess[str]]) -> None:
        """
        Type checkers accept a program that passes Twisted's requests, and its own journal, cluster and
        policy, to the public API, and report one error for each argument of a wrong type.
        """
        wrong = [
            "Hub(journal=object())",
            "Hub(reactor=object())",
            'EventSource("http://localhost/", agent=object())',
            "Hub().resource(7)",
            "Hub(cluster=Prefix('a'))",
            "Hub(presence=user)",
            "Upgrader(slow_policy=Prefix('a'))",
            "RequestAdmission(hub.admission, user, hub.upgrader)",
            "SSEResource(7)",
            "broadcast(7, 'x')",
            "broadcast([], 7)",
            "TopicPattern('a').pattern = 'b'",
            "ServerSentEvent.parse(7)",
            "put_hub(Resource(), hub, settings, keepalive='5')",
            "MemoryAgent(object(), clock)",
            "MemoryPair(resource, retry='soon')",
            "EventTooLarge(1, ['x'])",
        ]
        first = len(program.read_text(encoding="utf-8").splitlines()) + 1
        with program.open("a") as file:
            file.write("\n".join(wrong))
        done = check(program)
        assert done.returncode == 1
        lines = re.findall(r"program\.py:(\d+)\S* (?:- )?error", done.stdout)
        assert [int(line) for line in lines] == [*range(first, first + len(wrong))], done.stdout
        assert f"{len(wrong)} errors" in done.stdout
