"""
The plugin that adds the command ``twist txsse``; the service is made in :mod:`txsse.tap`.
"""

from twisted.application.service import ServiceMaker

txsse = ServiceMaker("txsse", "txsse.tap", "Server-sent events over HTTP.", "txsse")
