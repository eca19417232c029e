"""
The access log of a site: the date of each line, and a guard against failures to write one.

Twisted takes the date from ``reactor.seconds()``, which txsse makes a steady clock: once the system's time
has been set, that is not the time of day.

Twisted writes the line before it ends a request. If the log raises an exception, for a full disk or in a
formatter, ``notifyFinish`` of the request never fires.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.http import combinedLogFormatter, datetimeToLogString

from txsse._clock import wall
from txsse._rate_limited_log import RateLimitedLog

__all__ = ["dated_by_wall", "guard_log", "log_access"]

_failures = RateLimitedLog(Logger())


def dated_by_wall(reactor: IReactorTime) -> Callable[[str, object], str | None]:
    """
    Make a formatter of access-log lines in the combined format, for ``Site(logFormatter=...)``.

    It dates each request by the time of day, whatever the clock of the reactor.

    :param reactor: the site's reactor.
    """

    def format_line(timestamp: str, request: object) -> str | None:
        line: str | None = combinedLogFormatter(datetimeToLogString(wall(reactor)), request)
        return line

    return format_line


class _Site(Protocol):
    log: Callable[[object], object]


class _GuardedLog:
    """
    The method ``log`` of a site, with exceptions caught and logged.
    """

    def __init__(self, log: Callable[[object], object]) -> None:
        self._log = log

    def __call__(self, request: object) -> None:
        try:
            self._log(request)
        except Exception:
            _failures.failure("cannot write the access-log line of {request}", request=request)


def guard_log(site: _Site | None) -> None:
    """
    Make the access log of a site raise nothing: its failures are logged, a few per minute.

    :param site: the factory of the connection. Twisted's ``Request.finish`` calls its ``log``.
    """
    log = getattr(site, "log", None)
    if site is not None and log is not None and not isinstance(log, _GuardedLog):
        site.log = _GuardedLog(log)


def log_access(site: _Site, request: object) -> None:
    """
    Write the access-log line of a request that Twisted does not log. Nothing is raised.
    """
    _GuardedLog(site.log)(request)
