"""
Checks the endpoints of the service's configuration.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.interfaces import IReactorTime

from txsse.service.config import DEFAULT_ENDPOINT, BadConfig
from txsse.web.listening import make_endpoint

__all__ = ["check_endpoints", "check_listens"]


def check_listens(endpoints: Sequence[str]) -> None:
    """
    Check that a service has an endpoint.

    :raises BadConfig: without one.
    """
    if not endpoints:
        raise BadConfig(f"--listen: no endpoint is given; give one, such as {DEFAULT_ENDPOINT}")


def check_endpoints(reactor: IReactorTime, endpoints: Sequence[str]) -> None:
    """
    Check endpoint strings.

    :raises BadConfig: for an invalid one.
    """
    try:
        for each in endpoints:
            make_endpoint(reactor, each)
    except ValueError as error:
        raise BadConfig(str(error)) from None
