"""
The set-up: fetch the other clients into ``benchmarks/.peers``.

What cannot be had leaves out its own clients alone, and says what to install.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CACHE = HERE.parent / ".peers"
PYTHON = CACHE / "clients" / "bin" / "python"
NODE = CACHE / "node-clients"
# txsse itself is read from the checkout, so that what is measured is what stands there.
PACKAGES = (
    "Twisted",
    "httpx",
    "httpx-sse",
    "launchdarkly-eventsource",
    "aiohttp",
    "aiohttp-sse-client2",
    "requests",
    "sseclient-py",
)


def set_up(*, again: bool) -> dict[str, str]:
    """
    Make what is missing.

    :param again: whether to fetch the newest versions of what is there.
    :returns: what could not be made, ``python`` or ``node``, with the reason.
    """
    CACHE.mkdir(exist_ok=True)
    missing = {}
    for name, is_there, make in (
        ("python", PYTHON.with_name("complete").exists, _install_python),
        ("node", _has_node, _install_node),
    ):
        if again or not is_there():
            sys.stderr.write(f"set-up: {name}\n")
            try:
                make()
            except (OSError, subprocess.SubprocessError) as error:
                missing[name] = f"{_WANTED[name]}: {_reason(error)}"
    return missing


_WANTED = {
    "python": f"needs {', '.join(PACKAGES)} by pip",
    "node": "needs node 20, npm (Debian: nodejs, npm), and eventsource by npm",
}


def versions() -> dict[str, str]:
    """
    Tell what is compared.
    """
    code = f"from importlib.metadata import version as v; print(*map(v, {PACKAGES!r}))"
    asked = {
        "python": ([str(PYTHON), "--version"], "Python"),
        "packages": ([str(PYTHON), "-c", code], ""),
        "node": (["node", "--version"], "v"),
        "eventsource": (["node", "-p", "require('./node_modules/eventsource/package.json').version"], ""),
    }
    found = {}
    for name, (command, prefix) in asked.items():
        try:
            text = _run(command, folder=NODE if NODE.exists() else CACHE)
        except (OSError, subprocess.SubprocessError):
            continue
        found[name] = text.strip().removeprefix(prefix).strip()
    if "packages" in found:
        found.update(zip(PACKAGES, found.pop("packages").split(), strict=True))
    return found


def _install_python() -> None:
    _run([sys.executable, "-m", "venv", str(CACHE / "clients")])
    pip = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--upgrade"]
    _run([*pip, *PACKAGES])
    PYTHON.with_name("complete").touch()


def _has_node() -> bool:
    try:
        _run(["node", "--version"])
    except (OSError, subprocess.SubprocessError):
        return False
    return (NODE / "node_modules" / "eventsource").is_dir()


def _install_node() -> None:
    _run(["node", "--version"])
    NODE.mkdir(exist_ok=True)
    # Without a file of its own, npm would look for one further up.
    (NODE / "package.json").write_text('{"private": true}\n', encoding="utf-8")
    _run(["npm", "install", "--silent", "--no-fund", "--no-audit", "eventsource@latest"], folder=NODE)


def _run(command: Sequence[str], *, folder: Path = CACHE) -> str:
    return subprocess.run(command, cwd=folder, timeout=600, check=True, capture_output=True, text=True).stdout


def _reason(error: Exception) -> str:
    text = str(getattr(error, "stderr", None) or error)
    return text.strip().splitlines()[-1]


def environment() -> dict[str, str]:
    """
    What the clients find in their environment: txsse, and no proxy on the way to this machine.
    """
    return {"PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
