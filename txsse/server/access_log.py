"""
The date of each line in the access log.

Twisted takes it from ``reactor.seconds()``, which is a steady clock here: after the system's time was set,
it is not the time of day.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.web.http import combinedLogFormatter, datetimeToLogString

from txsse._clock import wall

__all__ = ["dated_by_wall"]


def dated_by_wall(reactor: IReactorTime) -> Callable[[str, Any], str | None]:
    """
    Make a formatter of access-log lines in the combined format, for ``Site(logFormatter=...)``, which dates
    each request by the time of day.

    :param reactor: the site's reactor.
    """

    def format_line(timestamp: str, request: Any) -> str | None:
        line: str | None = combinedLogFormatter(datetimeToLogString(wall(reactor)), request)
        return line

    return format_line
