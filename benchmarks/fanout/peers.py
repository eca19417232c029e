"""
The set-up: fetch the peers into ``benchmarks/.peers``, and compile what is written in C.

The package needs none of this. What cannot be had leaves out its own servers alone, and says what to install.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CACHE = HERE.parent / ".peers"
PYTHON = CACHE / "venv" / "bin" / "python"
NODE = CACHE / "node"
LOAD = CACHE / "load"
FLOOR = CACHE / "floor"
NCHAN = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
# httptools is uvicorn's faster parser. txsse itself is read from the checkout, so that what is measured is
# what stands there.
PACKAGES = ("Twisted", "sse-starlette", "uvicorn", "uvloop", "httptools", "aiohttp-sse")
DEBIAN = ("nginx", "libnginx-mod-nchan")


def set_up(*, again: bool) -> dict[str, str]:
    """
    Make what is missing.

    :param again: whether to fetch the newest versions of what is there.
    :returns: what could not be made, ``c``, ``python``, ``node`` or ``nchan``, with the reason.
    """
    CACHE.mkdir(exist_ok=True)
    missing = {}
    for name, there, make in (
        ("c", _is_compiled, _compile),
        ("python", PYTHON.with_name("complete").exists, _install_python),
        ("node", (NODE / "node_modules" / "better-sse").is_dir, _install_node),
        ("nchan", NCHAN.exists, _install_nchan),
    ):
        if again or not there():
            print(f"set-up: {name}", file=sys.stderr)
            try:
                make()
            except (OSError, subprocess.SubprocessError) as error:
                missing[name] = f"{_WANTED[name]}: {_reason(error)}"
    return missing


_WANTED = {
    "c": "needs gcc",
    "python": f"needs {', '.join(PACKAGES)} by pip",
    "node": "needs node 20, npm (Debian: nodejs, npm), and better-sse by npm",
    "nchan": f"needs Debian's {' and '.join(DEBIAN)}",
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
        "better-sse": (["node", "-p", "require('./node_modules/better-sse/package.json').version"], ""),
        "nchan": (["dpkg-query", "-Wf", "${Version}", "libnginx-mod-nchan"], ""),
        "nginx": (["dpkg-query", "-Wf", "${Version}", "nginx"], ""),
    }
    found = {}
    for name, (command, prefix) in asked.items():
        try:
            text = _run(command, folder=NODE if NODE.exists() else CACHE, timeout=20)
        except (OSError, subprocess.SubprocessError):
            continue
        found[name] = text.strip().removeprefix(prefix).strip()
    if "packages" in found:
        found.update(zip(PACKAGES, found.pop("packages").split(), strict=False))
    return found


def _is_compiled() -> bool:
    return all(
        binary.exists() and binary.stat().st_mtime > source.stat().st_mtime for binary, source in _COMPILED
    )


_COMPILED = ((LOAD, HERE / "load.c"), (FLOOR, HERE / "servers" / "floor.c"))


def _compile() -> None:
    for binary, source in _COMPILED:
        _run(["gcc", "-O2", "-Wall", "-o", str(binary), str(source)])


def _install_python() -> None:
    _run([sys.executable, "-m", "venv", str(CACHE / "venv")])
    pip = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--upgrade"]
    _run([*pip, *PACKAGES])
    PYTHON.with_name("complete").touch()


def _install_node() -> None:
    NODE.mkdir(exist_ok=True)
    # Without a file of its own, npm would look for one further up.
    (NODE / "package.json").write_text('{"private": true}\n', encoding="utf-8")
    _run(["npm", "install", "--silent", "--no-fund", "--no-audit", "better-sse@latest"], folder=NODE)


def _install_nchan() -> None:
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise OSError("apt-get, or the right to use it, is missing")
    # At this run level the package does not start the service.
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    _run(["apt-get", "update", "-qq"], environment=quiet)
    _run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *DEBIAN], environment=quiet)


def _run(
    command: Sequence[str],
    *,
    folder: Path = CACHE,
    environment: dict[str, str] | None = None,
    timeout: float = 600,
) -> str:
    return subprocess.run(
        command, cwd=folder, env=environment, timeout=timeout, check=True, capture_output=True, text=True
    ).stdout


def _reason(error: Exception) -> str:
    text = getattr(error, "stderr", None) or str(error)
    return str(text).strip().splitlines()[-1]
