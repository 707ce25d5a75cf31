"""The console in a real browser: what people do with it, by mouse and by keyboard."""

import os
from pathlib import Path

import pytest

pytest.importorskip("selenium", reason="no selenium: pip install selenium")

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from tests.console.browser import DESK, PHONE, Page, browser, missing
from tests.console.pictures import take_pictures

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

IMAGES = Path(__file__).parents[2] / "docs" / "images"
SCREENS = {
    "light": {"theme": "light", "size": DESK},
    "dark": {"theme": "dark", "size": DESK},
    "phone": {"theme": "light", "size": PHONE},
}


@pytest.fixture(scope="module")
def page(server, tmp_path_factory):
    reason = missing()
    if reason is not None:
        print(reason)
        pytest.skip(reason)
    with browser(tmp_path_factory.mktemp("profile")) as driver:
        yield Page(driver, server.urls["http"])


@pytest.fixture(autouse=True)
def quiet(page):
    """A desk, and a browser that has nothing to complain about in the end."""
    page.look()
    page.complaints()
    yield
    # What the service refuses on purpose shows there as a failed resource.
    left = [each for each in page.complaints() if "Failed to load resource" not in each]
    assert left == []


def open_subscription(page: Page, tenant, access) -> None:
    page.sign_in(tenant.token)
    page.go(f"#/subscriptions/variables/{access.id}", "Subscription on Variables")


# Signing in


def test_a_bad_token_is_refused_in_words_and_the_field_keeps_the_focus(page) -> None:
    page.fresh()
    page.one("#token").send_keys("not.a.token", Keys.ENTER)

    page.eventually(lambda: page.one("#token-fault").text)
    assert page.one("#token").get_attribute("aria-invalid") == "true"
    assert page.driver.switch_to.active_element == page.one("#token")
    assert page.one("#urgent").get_attribute("textContent")


def test_a_token_without_the_scope_is_told_what_it_lacks(page, server) -> None:
    page.fresh()
    page.one("#token").send_keys(server.token(scope="hotpath.publish"), Keys.ENTER)

    page.shows("lacks the scope hotpath.subscribe")


def test_the_token_is_in_no_address_and_in_no_log(page, tenant) -> None:
    token = tenant.token
    page.sign_in(token)
    page.go("#/subscriptions", "Subscriptions")

    urls = page.driver.execute_script(
        "return [location.href, ...performance.getEntriesByType('resource').map((e) => e.name)]"
    )
    assert [url for url in urls if token in url] == []
    assert all(url.startswith(page.url) for url in urls)
    assert token not in tenant.server.stderr.read_text()
    assert page.driver.execute_script("return localStorage.length") == 0


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "not kept"])
def test_a_tab_stays_signed_in_only_if_wanted(page, tenant, keep: bool) -> None:
    page.sign_in(tenant.token, keep=keep)

    page.driver.refresh()

    page.heading("Topics" if keep else "Sign in")


def test_signing_out_forgets_the_token(page, tenant) -> None:
    page.sign_in(tenant.token)
    page.press("Sign out")
    page.shows("You are signed out.")

    page.driver.refresh()

    page.heading("Sign in")


def test_an_ended_token_leads_back_to_signing_in(page, tenant) -> None:
    page.sign_in(tenant.token)
    # As if it had ended: from now on the service refuses it.
    ended = tenant.server.token(tenant=tenant.name, minutes=-5)
    page.driver.execute_script(
        "const real = fetch; window.fetch = (url, options) => real(url, {...options,"
        " headers: {...options.headers, Authorization: 'Bearer ' + arguments[0]}});".replace(
            "arguments[0]", f"'{ended}'"
        )
    )

    page.heading("Sign in")
    page.shows("not valid any more")


# Topics


def test_topics_say_what_to_do_while_there_is_nothing(page, tenant) -> None:
    page.sign_in(tenant.token)
    page.shows("Nothing has been published yet.")

    tenant.publish(*range(20))

    page.eventually(lambda: "Nothing has been published" not in page.text())
    page.shows("Latest messages")
    page.eventually(lambda: len(page.all("ol.messages > li")) == 15)
    assert page.all(".tile .spark")[1].get_attribute("aria-label").startswith("Variables: messages")


def test_what_publishers_write_is_shown_as_text(page, tenant) -> None:
    evil = "<img src=x onerror=window.pwned=1><script>window.pwned=1</script>"
    tenant.publish(1, objectId=evil)
    tenant.subscribe("objectId != '<b>bold</b>'")

    page.sign_in(tenant.token)
    page.shows(evil)
    page.go("#/subscriptions", "Subscriptions")
    page.shows("<b>bold</b>")

    assert page.driver.execute_script("return window.pwned") is None


def test_the_policy_lets_no_other_script_run(page, tenant) -> None:
    page.sign_in(tenant.token)

    ran = page.driver.execute_script(
        "const s = document.createElement('script');"
        "try { s.textContent = 'window.pwned = 1'; document.body.append(s); } catch { }"
        "const b = document.createElement('b');"
        "try { b.setAttribute('onclick', 'window.pwned = 1'); } catch { }"
        "document.body.append(b); b.click(); b.remove();"
        "try { document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=pwned=1>'); }"
        "catch { } return window.pwned"
    )

    assert ran is None
    assert any("TrustedScript" in each for each in page.complaints())


# Subscriptions


def test_a_subscription_is_made_found_and_deleted(page, tenant) -> None:
    page.sign_in(tenant.token)
    page.go("#/subscriptions", "Subscriptions")
    page.shows("There are no subscriptions yet.")
    page.press("Create the first one")
    page.one("#new-filter").send_keys("value > ")
    page.one("#new-sasTokenTTL").clear()
    page.one("#new-sasTokenTTL").send_keys("1")
    page.press("Create")
    page.eventually(lambda: page.one("#new-filter-fault").text)
    assert "at least 5" in page.one("#new-sasTokenTTL-fault").text
    assert page.driver.switch_to.active_element == page.one("#new-filter")

    page.one("#new-filter").send_keys("3")
    page.one("#new-sasTokenTTL").clear()
    page.one("#new-sasTokenTTL").send_keys("6")
    page.press("Create")

    page.shows("Subscription created")
    url = page.one("[aria-label='Connection URL']").get_attribute("value")
    assert url.startswith("amqp://")
    token = page.one("[aria-label='SAS token']").get_attribute("value")
    assert token.startswith("SharedAccessSignature ")
    assert token not in tenant.server.stderr.read_text()
    page.press("Done")
    page.eventually(lambda: page.one("tbody a.filter").text == "value > 3")
    page.click("tbody a.filter")
    page.heading("Subscription on Variables")

    page.press("Renew token")
    page.shows("Token renewed")
    page.press("Done")
    page.press("Delete")
    page.press("Keep it")
    assert len(tenant.call("GET", "/subscriptions").body["data"]) == 1
    page.press("Delete")
    page.press("Delete it")
    page.heading("Subscriptions")

    assert tenant.call("GET", "/subscriptions").body["data"] == []
    page.shows("There are no subscriptions yet.")


def test_a_tail_is_live_and_takes_nothing(page, tenant) -> None:
    access = tenant.subscribe("value > 10")
    open_subscription(page, tenant, access)
    page.shows("Nothing in the log matches yet.")

    tenant.publish(5, 11, 12)
    page.eventually(lambda: len(page.all("ol.messages > li")) == 2)
    assert "value=12" in page.all("ol.messages > li")[0].text
    page.press("Pause")
    tenant.publish(13)
    page.eventually(lambda: page.one("dl.facts dd").text == "3")
    assert len(page.all("ol.messages > li")) == 2
    page.press("Go on")
    page.eventually(lambda: len(page.all("ol.messages > li")) == 3)

    figures = tenant.server.shown(access, token=tenant.token)
    assert (figures["backlog"], figures["locked"], figures["delivered"]) == (3, 0, 0)


def test_an_open_message_stays_open_while_others_come(page, tenant) -> None:
    access = tenant.subscribe("true")
    tenant.publish(1)
    open_subscription(page, tenant, access)
    page.eventually(lambda: page.all("ol.messages summary"))
    page.click("ol.messages summary")
    page.shows('"objectId": "pump-1"')

    tenant.publish(2, 3)

    page.eventually(lambda: len(page.all("ol.messages > li")) == 3)
    assert len(page.all("ol.messages details[open]")) == 1


def test_why_is_answered_with_the_tree(page, tenant) -> None:
    access = tenant.subscribe("value > 10 AND NOT objectId = 'pump-2'")
    tenant.publish(5, 20)
    open_subscription(page, tenant, access)

    page.one("#why-seq").send_keys("1", Keys.ENTER)
    page.shows("value is 5")
    assert "no match" in page.one(".reason").find_element("xpath", "..").text
    page.click("ol.messages summary")
    page.press("Why, and what became of it")
    page.shows("It matched and waits for a receiver.")
    page.one("#why-seq").clear()
    page.one("#why-seq").send_keys("77", Keys.ENTER)
    page.shows("There is no message 77 yet")

    assert "77" in page.one("#polite").get_attribute("textContent")


# Playground


def test_faults_stand_under_a_caret_as_one_types(page, tenant) -> None:
    page.sign_in(tenant.token)
    page.go("#/playground", "Playground")
    field = page.one("#play-filter")
    field.clear()
    field.send_keys("value > 3 AND\nobjctId = 'a'")

    page.shows("did you mean objectId?")
    shown = page.one(".caret span").get_attribute("textContent").split("\n")
    assert shown == ["objctId = 'a'", "^"]
    assert field.get_attribute("aria-invalid") == "true"
    assert "play-problem" in field.get_attribute("aria-describedby")
    assert not page.button("Subscribe with this filter").is_enabled()
    page.eventually(lambda: "Not valid" in page.one("#polite").get_attribute("textContent"))

    field.clear()
    field.send_keys("value > 3")
    page.eventually(lambda: field.get_attribute("aria-invalid") is None)
    page.shows("Canonical: value > 3")


def test_the_last_messages_show_which_match_and_why(page, tenant) -> None:
    tenant.publish(1, 5, 9)
    page.sign_in(tenant.token)
    page.go("#/playground", "Playground")
    field = page.one("#play-filter")
    field.clear()
    field.send_keys("value > 3 AND model != 'x'")

    page.shows("0 of 3 match")
    field.clear()
    field.send_keys("value > 3")
    page.shows("2 of 3 match")
    verdicts = [each.text for each in page.all("ol.messages .mark")]
    assert verdicts == ["matches", "matches", "no match"]
    page.click("ol.messages summary", 2)
    page.shows("value > 3 is false, value is 1")

    page.press("Subscribe with this filter")
    assert page.one("#new-filter").get_attribute("value") == "value > 3"
    page.one("#new-filter").send_keys(Keys.ESCAPE)
    page.eventually(lambda: not page.all("dialog"))


def test_properties_are_put_into_the_filter(page, tenant) -> None:
    page.sign_in(tenant.token)
    page.go("#/playground/alarms", "Playground")
    page.one("#play-filter").clear()

    page.eventually(lambda: [each for each in page.all(".chips button") if "alarmKey" in each.text])
    [chip] = [each for each in page.all(".chips button") if "alarmKey" in each.text]
    chip.click()

    assert page.one("#play-filter").get_attribute("value") == "alarmKey"
    assert page.driver.switch_to.active_element == page.one("#play-filter")


# Webhooks


def make_stream(tenant, endpoint) -> str:
    answer = tenant.call(
        "POST",
        f"/streaming/v1/partitions/{tenant.name}/streams?type=point-stream",
        {"webhookUrl": endpoint.url, "pointIds": ["p1", "p2"]},
    )
    assert answer.status == 201, answer
    return (answer.body.get("data") or answer.body)["id"]


def send_value(tenant, value: float) -> None:
    answer = tenant.call(
        "POST",
        f"/streaming/v1/partitions/{tenant.name}/points/values",
        {"id": "p1", "value": value},
    )
    assert answer.status == 202, answer


def test_streams_show_attempts_and_dead_letters_which_can_be_sent_again(
    page, tenant, endpoint
) -> None:
    page.sign_in(tenant.token)
    page.go("#/webhooks", "Webhook streams")
    page.shows("There are no webhook streams yet.")
    make_stream(tenant, endpoint)
    page.eventually(lambda: page.all("tbody a.filter"))
    page.click("tbody a.filter")
    page.heading("Webhook stream")
    page.shows("Nothing has been sent yet.")

    send_value(tenant, 22)
    page.shows("HTTP 500")
    page.shows("p1 = 22")
    endpoint.status = 200
    page.press("Send again")

    page.shows("HTTP 200")
    page.shows("There are no dead letters")
    page.press("Send a test event")
    page.shows("Delivered, HTTP 200")


# For everybody


def test_views_can_be_reached_by_keyboard_alone(page, tenant) -> None:
    page.sign_in(tenant.token)
    page.go("#/subscriptions", "Subscriptions")
    page.driver.refresh()
    page.heading("Subscriptions")
    ActionChains(page.driver).send_keys(Keys.TAB).perform()
    skip = page.driver.switch_to.active_element
    assert skip.text == "Skip to the content"
    skip.send_keys(Keys.ENTER)
    page.heading("Subscriptions")
    assert page.driver.switch_to.active_element.get_attribute("id") == "main"

    link = page.one("nav a[href='#/playground']")
    page.driver.execute_script("arguments[0].focus()", link)
    link.send_keys(Keys.ENTER)
    page.heading("Playground")

    # The heading has the focus, so that a screen reader begins there.
    assert page.driver.switch_to.active_element.tag_name == "h1"
    assert page.driver.title == "Playground · hotpath"
    assert page.one("nav [aria-current='page']").text == "Playground"


def test_the_theme_can_be_chosen_and_stays(page, tenant) -> None:
    page.sign_in(tenant.token)
    ground = "return getComputedStyle(document.body).backgroundColor"
    light = page.driver.execute_script(ground)
    button = page.one(".bar button")
    button.click()
    assert button.get_attribute("aria-label") == "Theme: Light"
    button.click()
    dark = page.driver.execute_script(ground)
    assert dark != light

    page.driver.refresh()
    page.heading("Topics")

    assert page.driver.execute_script(ground) == dark
    page.driver.execute_script("localStorage.clear()")


def test_nothing_moves_for_who_wants_it_so(page, tenant) -> None:
    page.sign_in(tenant.token)

    moving = page.driver.execute_script(
        "return [...document.querySelectorAll('*')].filter((e) => {"
        " const s = getComputedStyle(e);"
        " return s.animationName !== 'none' || s.transitionDuration !== '0s'; }).length"
    )

    assert moving == 0


def test_a_service_that_is_away_is_said_and_comes_back(page, tenant) -> None:
    page.sign_in(tenant.token)
    page.shows("live")
    page.driver.execute_cdp_cmd("Network.enable", {})
    page.driver.execute_cdp_cmd(
        "Network.emulateNetworkConditions",
        {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1},
    )

    page.shows("no answer")
    page.driver.execute_cdp_cmd(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1},
    )

    page.eventually(lambda: "no answer" not in page.text())


@pytest.mark.parametrize("screen", list(SCREENS))
def test_no_view_has_a_fault_that_axe_finds(page, tenant, endpoint, screen: str) -> None:
    access = tenant.subscribe("value > 3", startFrom="earliest")
    tenant.publish(1, 5)
    stream = make_stream(tenant, endpoint)
    send_value(tenant, 22)
    page.look(**SCREENS[screen])
    page.fresh()
    found = {"sign in": judge(page)}

    page.sign_in(tenant.token)
    page.shows("Latest messages")
    found["topics"] = judge(page)
    page.go("#/subscriptions", "Subscriptions")
    page.eventually(lambda: page.all("tbody a.filter"))
    found["subscriptions"] = judge(page)
    page.press("New subscription")
    found["new subscription"] = judge(page)
    page.press("Cancel")
    page.go(f"#/subscriptions/variables/{access.id}", "Subscription on Variables")
    page.eventually(lambda: page.all("ol.messages summary"))
    page.click("ol.messages summary")
    page.one("#why-seq").send_keys("1", Keys.ENTER)
    page.shows("The filter did not let it through.")
    found["subscription"] = judge(page)
    page.press("Renew token")
    page.shows("Token renewed")
    found["token"] = judge(page)
    page.press("Done")
    page.go("#/playground", "Playground")
    page.eventually(lambda: page.all("ol.messages summary"))
    found["playground"] = judge(page)
    page.one("#play-filter").send_keys(" AND")
    page.eventually(lambda: page.all(".caret"))
    found["playground with a fault"] = judge(page)
    page.go("#/webhooks", "Webhook streams")
    page.eventually(lambda: page.all("tbody a.filter"))
    found["streams"] = judge(page)
    page.go(f"#/webhooks/{tenant.name}/{stream}", "Webhook stream")
    page.shows("p1 = 22")
    found["stream"] = judge(page)
    page.open("/docs")
    page.heading("hotpath REST API")
    found["docs"] = judge(page)

    assert {view: faults for view, faults in found.items() if faults} == {}


def judge(page: Page) -> list[str]:
    wide = ["the page is wider than the screen"] if page.overflows() else []
    return wide + page.violations()


# The API's pages


def test_every_operation_is_on_the_api_page(page, tenant) -> None:
    document = tenant.call("GET", "/openapi.json").body
    wanted = {
        operation["operationId"]
        for methods in document["paths"].values()
        for operation in methods.values()
    }

    page.open("/docs")
    page.heading("hotpath REST API")

    assert {each.get_attribute("id") for each in page.all("article")} == wanted
    article = page.one("#createSubscription")
    assert "subscriptionTTL" in article.text
    assert "number, 5 to 43200" in article.text
    assert 'curl -s -X POST "' in article.text
    page.one("#find").send_keys("delete /subscriptions")
    shown = [each.text for each in page.all(".contents a") if each.is_displayed()]
    assert shown == ["Delete a subscription"]


# Pictures for the documentation


@pytest.mark.timeout(400)
def test_pictures_can_be_taken(page, server, tmp_path) -> None:
    """With HOTPATH_SCREENSHOTS they are those of the documentation; else they are thrown away."""
    wanted = bool(os.environ.get("HOTPATH_SCREENSHOTS"))
    place = IMAGES if wanted else tmp_path
    place.mkdir(exist_ok=True)
    taken = take_pictures(page, server, place, patient=wanted)

    assert len(taken) == 6
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in taken)
