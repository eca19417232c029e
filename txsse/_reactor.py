"""
Access to the global reactor, imported at the time of use.

Importing Twisted's global reactor installs it, so an import at the top of a module would keep the program
from installing another one. The other modules of txsse call :func:`global_reactor` instead.
"""

from __future__ import annotations

from typing import cast

from twisted.internet.interfaces import IReactorTime

from txsse._clock import make_steady

__all__ = ["IReactorTime", "global_reactor"]


def global_reactor() -> IReactorTime:
    """
    Return the global reactor; install the default one if the program has installed none.

    Its timers no longer depend on the system's time: see :func:`~txsse._clock.make_steady`.
    """
    from twisted.internet import reactor

    return make_steady(cast(IReactorTime, reactor))
