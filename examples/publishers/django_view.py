# HUB_KEY=... HUB_URL=http://localhost:8080/.well-known/mercure python django_view.py runserver localhost:8000
# Needs pip install django requests PyJWT. A page that shows updates, and a form that publishes them.
# HUB_KEY is the hub's secret.
#
# Best run the hub under the same host name as Django, with one proxy for both: the browser then sends the
# cookie to the hub, and the page has the hub's origin. Browsers keep such a cookie only over https, and some
# for localhost. If the hub has another port, as here, start it with --origin http://localhost:8000.

import os
import time
import uuid

import jwt
import requests
from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.shortcuts import redirect
from django.urls import path
from django.utils.html import format_html

URL, KEY = os.environ["HUB_URL"], os.environ["HUB_KEY"]
COOKIE = "__Secure-mercure_access_token"

# The token's lifetime in seconds. Then the hub ends the stream, and the user has to reload the page.
LIFETIME = 3600

settings.configure(
    DEBUG=os.environ.get("DEBUG") == "1",
    SECRET_KEY=os.environ.get("SECRET_KEY") or uuid.uuid4().hex,
    ALLOWED_HOSTS=["localhost", "127.0.0.1"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["django.middleware.common.CommonMiddleware", "django.middleware.csrf.CsrfViewMiddleware"],
)

PAGE = """<!DOCTYPE html><title>News</title>
<form method="post"><input type="hidden" name="csrfmiddlewaretoken" value="{}">
<input name="text" required> <button>Publish</button></form>
<ul id="news" data-hub="{}" data-topic="{}"></ul>
<script>
const news = document.getElementById("news");
const url = new URL(news.dataset.hub);
url.searchParams.append("match", news.dataset.topic);
new EventSource(url, {{ withCredentials: true }}).onmessage = (event) => {{
  news.append(Object.assign(document.createElement("li"), {{ textContent: event.data }}));
}};
</script>"""


def make_token(action: str, topic: str, seconds: int) -> str:
    detail = {
        "type": "https://mercure.rocks/authorization-detail",
        "actions": [action],
        "topics": [{"match": topic}],
    }
    claims = {"aud": URL, "exp": int(time.time()) + seconds, "authorization_details": [detail]}
    return jwt.encode(claims, KEY, "HS256", headers={"typ": "at+jwt"})


def news(request: HttpRequest) -> HttpResponse:
    # A topic for one user would be f"https://example.org/users/{request.user.pk}/news".
    topic = request.build_absolute_uri("/news")
    if request.method == "POST":
        # Private: the hub sends the update only to subscribers with a token for its topic.
        form = {
            "topic": topic,
            "data": request.POST["text"],
            "private": "on",
            "id": f"urn:uuid:{uuid.uuid4()}",
        }
        headers = {"Authorization": f"Bearer {make_token('publish', topic, 60)}"}
        answer = requests.post(URL, data=form, headers=headers, timeout=10)
        if not answer.ok:
            return HttpResponse(f"The hub responded with {answer.status_code}.", status=502)
        return redirect("/")
    response = HttpResponse(format_html(PAGE, get_token(request), URL, topic))
    # The hub's URL, and the topic of this page, for programs.
    response["Link"] = f'<{URL}>; rel="mercure", <{topic}>; rel="self"'
    # Sent only to the hub, and hidden from scripts. For a hub at hub.example.org, add domain="example.org".
    response.set_cookie(
        COOKIE,
        make_token("subscribe", topic, LIFETIME),
        max_age=LIFETIME,
        path="/.well-known/mercure",
        secure=True,
        httponly=True,
        samesite="Strict",
    )
    return response


urlpatterns = [path("", news)]

if __name__ == "__main__":
    execute_from_command_line()
