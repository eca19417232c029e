"""
The page of the example with two nodes, in a browser that is at one of them when it is killed.
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

Keys = pytest.importorskip("selenium.webdriver", reason="pip install selenium").Keys

# What a browser says of a connection that is lost in the midst of a stream.
LOST = "/events?lastEventId=earliest - Failed to load resource: net::ERR_INCOMPLETE_CHUNKED_ENCODING"

# And of answers that are errors: to what was on its way to a node, and to what finds that Redis is out.
FAILED = "/publish - Failed to load resource: the server responded with a status of "
GATEWAY, UNAVAILABLE = f"{FAILED}502 (Bad Gateway)", f"{FAILED}503 (Service Unavailable)"

# Of each message its text and its id; of each note its text alone.
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
        # What the pages before it have left.
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
        Wait until an element has such a text.
        """
        wait_until(lambda: self.text(id), lambda seen: re.fullmatch(pattern, seen), f"#{id} {pattern}")

    @property
    def log(self) -> list[str | list[str]]:
        """
        What it shows, messages and notes.
        """
        log: list[str | list[str]] = self.driver.execute_script(READ)
        return log

    @property
    def messages(self) -> list[str]:
        """
        The texts of the messages that it shows.
        """
        return [item[0] for item in self.log if isinstance(item, list)]

    @property
    def notes(self) -> list[str]:
        """
        What it says about its connection, without the time.
        """
        return [item.partition(": ")[2] for item in self.log if isinstance(item, str)]

    def wait_for_messages(self, *texts: str) -> None:
        """
        Wait until it shows these messages and no others.
        """
        wait_until(lambda: self.messages, lambda seen: seen == list(texts), str(texts))

    def publish(self, text: str) -> None:
        """
        Publish by the form.
        """
        self.driver.find_element("id", "text").send_keys(text, Keys.ENTER)

    def count(self) -> None:
        """
        Have it begin to count, or stop.
        """
        self.driver.find_element("id", "counting").click()

    def errors(self) -> set[str]:
        """
        Return what has come into the console, without the addresses.
        """
        return {re.sub(r"https?://[^/]*", "", entry["message"]) for entry in self.driver.get_log("browser")}

    def origins(self) -> set[str]:
        """
        Return where the requests went.
        """
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [each["params"] for each in messages if each["method"] == "Network.requestWillBeSent"]
        parts = [urlsplit(each["request"]["url"]) for each in sent]
        return {each.netloc for each in parts if each.scheme not in ("data", "about", "chrome")}


@pytest.fixture
def cluster(browser: Chrome) -> Iterator[Cluster]:
    """
    The example, for one test alone.
    """
    with running() as cluster:
        yield cluster


@pytest.fixture
def page(cluster: Cluster, tab: Chrome) -> Iterator[Page]:
    """
    Its page.
    """
    yield Page(tab, cluster)
    # Before the server ends, which would be a lost connection to it.
    tab.get("about:blank")


class ClusterPageTests:
    def test_node_killed(self, cluster: Cluster, page: Page) -> None:
        """
        While it counts, its node is killed. It goes on at the other one, and shows every number once.
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
        It waits for a node to come back, and shows then what was published before and behind.
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
        # It was left in the form. nginx may take the node for dead a while longer.
        wait_until(lambda: page.publish("") or page.text("problem"), lambda seen: not seen, "the message")  # type: ignore[func-returns-value]
        page.wait_for_messages("before", "meanwhile")
        assert len(page.notes) == 2

    def test_redis_killed(self, cluster: Cluster, page: Page) -> None:
        """
        It says that Redis is out, keeps what was written, and stays where it is.
        """
        page.wait_for("subscribers", "1")
        cluster.kill("Redis")
        page.wait_for("subscribers", "unknown because Redis is unavailable")
        page.publish("again")
        page.wait_for("problem", "Nothing can be published at the moment .*")
        cluster.revive("Redis")
        page.wait_for("subscribers", "1")
        page.publish("")
        page.wait_for_messages("again")
        page.wait_for("problem", "")
        assert page.notes == []
        assert page.errors() == {UNAVAILABLE}
