"""
A third-party HTTP face in one module: ``GET /events?topic=a&topic=b`` streams the topics that the query
names.
"""

from twisted.web.http import Request
from twisted.web.resource import Resource

from txsse import Access, Hub, UpgradeRefused
from txsse.hub.request_admission import RequestAdmission


class EventsFace(Resource):
    isLeaf = True

    def __init__(self, hub: Hub) -> None:
        super().__init__()
        self._requests = RequestAdmission(hub.admission, self._find_access, hub.upgrader)

    def render(self, request: Request) -> int:
        return self._requests.render(request)

    def _find_access(self, request: Request) -> Access:
        topics = [topic.decode() for topic in request.args.get(b"topic", [])]
        if not topics:
            raise UpgradeRefused("name a topic: ?topic=news", status=400)
        return Access(topics)
