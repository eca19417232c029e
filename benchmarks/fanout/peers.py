"""
The other servers, and how to install them.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from shared import peers
from shared.peers import CACHE, Compiled, NodePackage, Part, PythonPackages, run

_HERE = Path(__file__).parent
LOAD = Compiled(CACHE / "load", _HERE / "load.c")
FLOOR = Compiled(CACHE / "floor", _HERE / "servers" / "floor.c")
NCHAN = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
_DEBIAN = ("nginx", "libnginx-mod-nchan")
WITHOUT_NCHAN = f"needs Debian's {' and '.join(_DEBIAN)}"

# httptools is uvicorn's faster parser. txsse itself is imported from the checkout, so that the benchmark
# measures the code of the checkout.
PYTHON = PythonPackages(
    CACHE / "venv", ("Twisted", "sse-starlette", "uvicorn", "uvloop", "httptools", "aiohttp-sse")
)
NODE = NodePackage(CACHE / "node", "better-sse")


class _Programs(Part):
    name, wanted = "c", "needs gcc"

    def is_there(self) -> bool:
        return LOAD.is_compiled() and FLOOR.is_compiled()

    def make(self) -> None:
        LOAD.compile()
        FLOOR.compile()


class _Nchan(Part):
    name, wanted = "nchan", WITHOUT_NCHAN

    def is_there(self) -> bool:
        return NCHAN.exists()

    def make(self) -> None:
        if shutil.which("apt-get") is None or os.geteuid() != 0:
            raise OSError("apt-get is not installed, or the user is not root")
        # At this run level the package does not start the service.
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        run(["apt-get", "update", "-qq"], environment=quiet)
        run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *_DEBIAN], environment=quiet)


PARTS = (_Programs(), PYTHON, NODE, _Nchan())


def versions() -> dict[str, str]:
    """
    Return the versions of everything that is compared.
    """
    return peers.versions(PYTHON, NODE, {"nchan": "libnginx-mod-nchan", "nginx": "nginx"})
