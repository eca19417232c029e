# HUB_KEY=... HUB_URL=http://localhost:8080/.well-known/mercure python publish_requests.py news 'Hello'
# Needs pip install requests PyJWT. HUB_KEY is the hub's secret. Prints the id of the update.

import os
import sys
import time
import uuid

import jwt
import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

URL, KEY = os.environ["HUB_URL"], os.environ["HUB_KEY"]


def make_token(topic: str) -> str:
    detail = {
        "type": "https://mercure.rocks/authorization-detail",
        "actions": ["publish"],
        "topics": [{"match": topic}],
    }
    claims = {"aud": URL, "exp": int(time.time()) + 300, "authorization_details": [detail]}
    return jwt.encode(claims, KEY, "HS256", headers={"typ": "at+jwt"})


def publish(session: requests.Session, topic: str, text: str) -> str:
    # With its own id, an update can be published again if the response was lost: it appears once.
    form = {"topic": topic, "data": text, "id": f"urn:uuid:{uuid.uuid4()}"}
    headers = {"Authorization": f"Bearer {make_token(topic)}"}
    answer = session.post(URL, data=form, headers=headers, timeout=30)
    if not answer.ok:
        sys.exit(f"{answer.status_code}: {answer.text.strip()}")
    return answer.text


# One session for all updates: it reuses its connections.
again = Retry(total=5, backoff_factor=0.5, status_forcelist=[502, 503, 504], allowed_methods=None)
session = requests.Session()
for scheme in ("http://", "https://"):
    session.mount(scheme, HTTPAdapter(max_retries=again))
print(publish(session, *sys.argv[1:3]))
