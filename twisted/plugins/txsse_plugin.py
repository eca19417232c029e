"""
``twist txsse``: the service is in :mod:`txsse.tap`.
"""

from twisted.application.service import ServiceMaker

txsse = ServiceMaker("txsse", "txsse.tap", "Server-sent events over HTTP.", "txsse")
