"""
The one place that fetches the global reactor, at the time of use: importing it installs it, and whoever
wants another one must be able to install that first.
"""

from __future__ import annotations

from typing import cast

from twisted.internet.interfaces import IReactorTime

__all__ = ["IReactorTime", "global_reactor"]


def global_reactor() -> IReactorTime:
    """
    Return the process's reactor, installing the default one where none is yet.
    """
    from twisted.internet import reactor

    return cast(IReactorTime, reactor)
