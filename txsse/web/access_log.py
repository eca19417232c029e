"""
The access log: the date of each line, and what happens where a line cannot be written.

Twisted takes the date from ``reactor.seconds()``, which is a steady clock here: after the system's time was
set, it is not the time of day.

Twisted writes the line before it ends a request. Where the log raises, on a full disk or in a formatter, the
request never ends for whoever waits for that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.http import combinedLogFormatter, datetimeToLogString

from txsse._clock import wall
from txsse._rate_limited_log import RateLimitedLog

__all__ = ["dated_by_wall", "guard_log", "log_access"]

_failures = RateLimitedLog(Logger())


def dated_by_wall(reactor: IReactorTime) -> Callable[[str, object], str | None]:
    """
    Make a formatter of access-log lines in the combined format, for ``Site(logFormatter=...)``, which dates
    each request by the time of day.

    :param reactor: the site's reactor.
    """

    def format_line(timestamp: str, request: object) -> str | None:
        line: str | None = combinedLogFormatter(datetimeToLogString(wall(reactor)), request)
        return line

    return format_line


class _GuardedLog:
    """
    A site's method ``log``, which raises nothing.
    """

    def __init__(self, log: Callable[[Any], object]) -> None:
        self._log = log

    def __call__(self, request: object) -> None:
        try:
            self._log(request)
        except Exception:
            _failures.failure("the access log has no line for {request}", request=request)


def guard_log(site: Any) -> None:
    """
    Have the access log of a site raise nothing: failures are logged, a few a minute.

    :param site: the factory of the connection. Twisted's ``Request.finish`` calls its ``log``.
    """
    log = getattr(site, "log", None)
    if log is not None and not isinstance(log, _GuardedLog):
        site.log = _GuardedLog(log)


def log_access(site: Any, request: object) -> None:
    """
    Write the line of a request that Twisted writes none for. Nothing is raised.
    """
    _GuardedLog(site.log)(request)
