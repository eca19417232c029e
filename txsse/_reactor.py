"""
The one place that fetches the global reactor, at the time of use: importing it installs it, and whoever
wants another one must be able to install that first.
"""

from __future__ import annotations

from typing import cast

from twisted.internet.interfaces import IReactorTime

from txsse._clock import make_steady

__all__ = ["IReactorTime", "global_reactor"]


def global_reactor() -> IReactorTime:
    """
    Return the process's reactor, installing the default one where none is yet. Its timers are made steady, as
    :func:`~txsse._clock.make_steady` does it.
    """
    from twisted.internet import reactor

    return make_steady(cast(IReactorTime, reactor))
