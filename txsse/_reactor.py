"""
Access to the global reactor, imported at the time of use.

Importing Twisted's global reactor installs it, so an import at the top of a module would keep the program
from installing another one. No other module of txsse imports it.
"""

from __future__ import annotations

from typing import cast

from twisted.internet.interfaces import IReactorTime

from txsse._clock import make_steady

__all__ = ["IReactorTime", "global_reactor"]


def global_reactor() -> IReactorTime:
    """
    Return the process's reactor, with steady timers; install the default one if no reactor is installed.

    :func:`~txsse._clock.make_steady` says what that does to the timers.
    """
    from twisted.internet import reactor

    return make_steady(cast(IReactorTime, reactor))
