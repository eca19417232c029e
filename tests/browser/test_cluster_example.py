"""
The web page of the cluster example, whose browser is connected to one of two nodes while nodes or Redis are
killed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.test_cluster_example import Cluster, running
from tests.waiting import wait_until

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytestmark = pytest.mark.proxy

Keys = pytest.importorskip("selenium.webdriver", reason="pip install selenium").Keys

# The browser's message for a connection that is lost during a stream.
LOST = "/events?lastEventId=earliest - Failed to load resource: net::ERR_INCOMPLETE_CHUNKED_ENCODING"

# The browser's messages for error responses: for a request in flight to a killed node, and without Redis.
FAILED = "/publish - Failed to load resource: the server responded with a status of "
GATEWAY, UNAVAILABLE = f"{FAILED}502 (Bad Gateway)", f"{FAILED}503 (Service Unavailable)"

# For each message its text and its id; for each note only its text.
READ = """
return Array.from(document.querySelectorAll("#log li"), (item) =>
  item.className === "note" ? item.textContent : Array.from(item.children, (part) => part.textContent));
"""


class Page:
    """
    The page in the browser.
    """

    def __init__(self, driver: Chrome, cluster: Cluster) -> None:
        self.driver = driver
        # Discard the logs of earlier pages.
        driver.get_log("browser")
        driver.get_log("performance")
        driver.get(cluster.url.geturl())
        self.wait_for("state", "node (one|two)")

    def text(self, id: str) -> str:
        """
        Return the text of an element.
        """
        text: str = self.driver.find_element("id", id).text
        return text

    def wait_for(self, id: str, pattern: str) -> None:
        """
        Wait until an element's text matches a pattern.
        """
        wait_until(lambda: self.text(id), lambda seen: re.fullmatch(pattern, seen), f"#{id} {pattern}")

    @property
    def log(self) -> list[str | list[str]]:
        """
        The messages and notes that the page shows.
        """
        log: list[str | list[str]] = self.driver.execute_script(READ)
        return log

    @property
    def messages(self) -> list[str]:
        """
        The texts of the messages that the page shows.
        """
        return [item[0] for item in self.log if isinstance(item, list)]

    @property
    def notes(self) -> list[str]:
        """
        The page's notes about its connection, without the time.
        """
        return [item.partition(": ")[2] for item in self.log if isinstance(item, str)]

    def wait_for_messages(self, *texts: str) -> None:
        """
        Wait until the page shows exactly these messages.
        """
        wait_until(lambda: self.messages, lambda seen: seen == list(texts), str(texts))

    def publish(self, text: str) -> None:
        """
        Publish with the form.
        """
        self.driver.find_element("id", "text").send_keys(text, Keys.ENTER)

    def publish_until_accepted(self) -> None:
        """
        Publish the text in the form, as often as the page asks for it.

        The proxy chooses the node, which may not have reconnected to Redis yet although the page's node has.
        """
        field, problem = (self.driver.find_element("id", id) for id in ("text", "problem"))

        def publish() -> str:
            # Otherwise, the problem of the attempt before would look like this one's.
            self.driver.execute_script("arguments[0].textContent = ''", problem)
            self.publish("")
            wait_until(lambda: problem.text or not field.get_property("value"), bool, "an answer")
            return problem.text

        wait_until(publish, lambda seen: seen == "", "the text is published")

    def count(self) -> None:
        """
        Start or stop the counter.
        """
        self.driver.find_element("id", "counting").click()

    def errors(self) -> set[str]:
        """
        Return the console's messages, without the origins of URLs.
        """
        return {re.sub(r"https?://[^/]*", "", entry["message"]) for entry in self.driver.get_log("browser")}

    def origins(self) -> set[str]:
        """
        Return the hosts to which the page has sent requests.
        """
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [each["params"] for each in messages if each["method"] == "Network.requestWillBeSent"]
        parts = [urlsplit(each["request"]["url"]) for each in sent]
        return {each.netloc for each in parts if each.scheme not in ("data", "about", "chrome")}


@pytest.fixture
def cluster(browser: Chrome) -> Iterator[Cluster]:
    """
    Run the example for one test.
    """
    with running() as cluster:
        yield cluster


@pytest.fixture
def page(cluster: Cluster, tab: Chrome) -> Iterator[Page]:
    """
    Return the example's page.
    """
    yield Page(tab, cluster)
    # Before the server stops, which the page would log as a lost connection.
    tab.get("about:blank")


class ClusterPageTests:
    def test_node_killed(self, cluster: Cluster, page: Page) -> None:
        """
        When the node of a counting page is killed, the page reconnects to the other node and shows every
        number once.
        """
        page.publish("first")
        page.wait_for_messages("first")
        page.count()
        wait_until(lambda: page.messages, lambda seen: len(seen) >= 5, "some numbers")
        first = page.text("state")
        other = "node two" if first == "node one" else "node one"
        cluster.kill(first.capitalize())
        page.wait_for("state", other)
        shown = len(page.messages)
        wait_until(lambda: page.messages, lambda seen: len(seen) >= shown + 5, "more numbers")
        page.count()
        page.publish("last")
        wait_until(lambda: page.messages, lambda seen: seen[-1] == "last", "the last one")
        seen = page.messages
        assert seen == ["first", *(str(number) for number in range(1, len(seen) - 1)), "last"]
        ids = [item[1] for item in page.log if isinstance(item, list)]
        assert len(set(ids)) == len(ids)
        lost, back = page.notes
        assert lost == f"the connection to {first} is lost."
        assert re.fullmatch(rf"reconnected to {other} after \d+\.\d s\.", back)
        page.wait_for("reconnected", "once at .*")
        assert not page.text("problem")
        assert {LOST} <= page.errors() <= {LOST, GATEWAY}
        assert page.origins() == {cluster.url.netloc}

    def test_both_killed(self, cluster: Cluster, page: Page) -> None:
        """
        When both nodes are killed, the page waits until one restarts, and then shows the messages from before
        and after.
        """
        page.publish("before")
        page.wait_for_messages("before")
        first = page.text("state")
        other = "node two" if first == "node one" else "node one"
        cluster.kill(other.capitalize())
        cluster.kill(first.capitalize())
        page.wait_for("state", "connecting")
        page.publish("meanwhile")
        page.wait_for("problem", "No node answers.*")
        cluster.revive(other.capitalize())
        page.wait_for("state", other)
        # The text is still in the form. nginx may consider the node dead a while longer.
        wait_until(lambda: page.publish("") or page.text("problem"), lambda seen: not seen, "the message")  # type: ignore[func-returns-value]
        page.wait_for_messages("before", "meanwhile")
        assert len(page.notes) == 2

    def test_redis_killed(self, cluster: Cluster, page: Page) -> None:
        """
        When Redis is killed, the page reports it, keeps the text in its form, and stays connected.
        """
        page.wait_for("subscribers", "1")
        cluster.kill("Redis")
        page.wait_for("subscribers", "unknown because Redis is unavailable")
        page.publish("again")
        page.wait_for("problem", "Not published: .*")
        cluster.revive("Redis")
        page.wait_for("subscribers", "1")
        page.publish_until_accepted()
        page.wait_for_messages("again")
        assert page.notes == []
        assert page.errors() == {UNAVAILABLE}
