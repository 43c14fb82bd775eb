"""What a page of another site, in the browser of whoever runs `make ui`, can do with Prefect's server: nothing."""

import time
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Page
from prefect.client.orchestration import SyncPrefectClient

from tests.web import Web, respond

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

# A page never learns how a request without CORS ended, so the server is asked afterwards.
HOSTILE_PAGE = """<!doctype html>
<script>
const json = value => JSON.stringify(value);

async function attack(api, flow) {
  const post = (path, options) =>
    fetch(api + path, {method: "POST", ...options}).then(answer => answer.type, () => "refused");
  return {
    flow: await post("/flows/", {mode: "no-cors", body: new Blob([json({name: "blob"})])}),
    deployment: await post("/deployments/", {mode: "no-cors", body: new Blob([json({name: "blob", flow_id: flow})])}),
    text: await post("/flows/", {mode: "no-cors", body: json({name: "text"})}),
    form: await post("/flows/", {mode: "no-cors", body: new URLSearchParams({name: "form"})}),
    json: await post("/flows/", {headers: {"Content-Type": "application/json"}, body: json({name: "json"})}),
  };
}

function listen(api) {
  return new Promise(resolve => {
    const socket = new WebSocket(api.replace("http", "ws") + "/events/out");
    socket.onopen = () => socket.send(json({type: "filter", filter: {}}));
    socket.onmessage = message => resolve(JSON.parse(message.data));
    socket.onerror = () => resolve("refused");
  });
}
</script>
"""


@pytest.fixture
def hostile(web: Web) -> str:
    """Return the address of the page, at another port of the loopback."""
    web.answer("/", respond(HOSTILE_PAGE.encode(), extra="Content-Type: text/html\r\n"))
    return web.address


def test_it_creates_nothing_and_learns_nothing(page: Page, prefect_url: str, hostile: str) -> None:
    """What a browser sends without asking first changes nothing, and neither JSON nor a WebSocket gets through."""
    api = f"{prefect_url}/api"
    with SyncPrefectClient(api) as client:
        flow = client.create_flow_from_name("victim")
        while not httpx.post(f"{api}/events/filter", json={}).json()["events"]:  # which the WebSocket would send
            time.sleep(0.5)
        page.goto(hostile)
        sent = dict.fromkeys(("flow", "deployment", "text", "form"), "opaque")
        assert page.evaluate("([api, flow]) => attack(api, flow)", [api, str(flow)]) == {**sent, "json": "refused"}
        assert page.evaluate("api => listen(api)", api) == "refused"
        assert [each.name for each in client.read_flows()] == ["victim"]
        assert client.read_deployments() == []


def test_a_name_that_leads_here_is_refused(page: Page, prefect_url: str, rebound: str) -> None:
    """A page of another site whose name now leads to this machine gets no answer but that."""
    host = f"{rebound}:{urlsplit(prefect_url).port}"
    opened = page.goto(f"http://{host}")
    assert opened.status == 400
    assert opened.json()["detail"].startswith(f"This server is not '{host}'; ")
    ask = "fetch('/api/flows/filter', {method: 'POST', headers: {'Content-Type': 'application/json'}, body: '{}'})"
    assert page.evaluate(f"{ask}.then(answer => answer.status)") == 400


def test_it_cannot_frame_prefects_pages(page: Page, prefect_url: str, hostile: str) -> None:
    """A frame with Prefect's pages stays empty, so nobody can be made to click in it."""
    page.goto(hostile)
    with page.expect_console_message(lambda message: "frame-ancestors" in message.text):
        page.evaluate("url => document.body.appendChild(document.createElement('iframe')).src = url", prefect_url)
