"""The files behind `/console` and `/docs`: what is served, under which policy, and what is not."""

import re
from importlib.resources import files

import aiohttp
import pytest
from aiohttp import web

from hotpath.console.pages import SECURITY_HEADERS, console_mount, read_assets
from tests.support.process import running_server

ASSETS = read_assets()
PAGES = [name for name in ASSETS if name.endswith(".html")]


@pytest.fixture
async def client(aiohttp_client):
    application = web.Application()
    console_mount()(application)
    return await aiohttp_client(application)


@pytest.mark.parametrize(
    "path", ["/console", "/docs", *(f"/console/{n}" for n in ASSETS if n not in PAGES)]
)
async def test_everything_is_served_under_a_strict_policy(client, path: str) -> None:
    async with client.get(path) as response:
        assert response.status == 200
        assert {name: response.headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS
        assert response.headers["Cache-Control"] == "no-cache"
        policy = response.headers["Content-Security-Policy"]

    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"https?:|\*|data:", policy)


async def test_what_the_browser_has_is_not_sent_again(client) -> None:
    async with client.get("/console") as first:
        tag = first.headers["ETag"]
    async with client.get("/console", headers={"If-None-Match": f'"other", {tag}'}) as again:
        assert (again.status, await again.read()) == (304, b"")
        assert again.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "path",
    [
        "/console/nothing.js",
        "/console/console.html",
        "/console/..%2fpages.py",
        "/console/__init__.py",
        "/console/a/b.js",
    ],
)
async def test_nothing_else_is_served(client, path: str) -> None:
    async with client.get(path) as response:
        assert response.status == 404


@pytest.mark.parametrize("name", ["console", "docs"])
async def test_a_slash_too_many_leads_to_the_page(client, name: str) -> None:
    async with client.get(f"/{name}/", allow_redirects=True) as response:
        assert (response.status, response.url.path) == (200, f"/{name}")


@pytest.mark.parametrize("name", PAGES)
def test_pages_hold_no_script_and_no_style_of_their_own(name: str) -> None:
    text = ASSETS[name].body.decode()

    assert re.findall(r"<script(?![^>]*\bsrc=)", text) == []
    assert "<style" not in text
    assert re.findall(r"\son\w+=|\sstyle=|javascript:", text) == []


@pytest.mark.parametrize("name", sorted(ASSETS))
def test_nothing_comes_from_elsewhere(name: str) -> None:
    text = ASSETS[name].body.decode()

    # Names of XML namespaces and examples are no places that anything is fetched from.
    found = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+", text))
    assert found <= {"http://www.w3.org", "https://hooks.example.com"}
    assert not name.endswith(".css") or re.findall(r"@import|url\(", text) == []


@pytest.mark.parametrize("name", [each for each in sorted(ASSETS) if each.endswith(".js")])
def test_modules_write_no_markup_and_run_no_text(name: str) -> None:
    text = ASSETS[name].body.decode()

    assert (
        re.findall(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text
        )
        == []
    )
    assert "console.log" not in text


def test_every_file_of_the_package_is_known_and_small() -> None:
    there = {entry.name for entry in files("hotpath.console").joinpath("static").iterdir()}

    assert there == set(ASSETS)
    assert sum(len(asset.body) for asset in ASSETS.values()) < 160_000


def test_every_import_leads_to_a_file() -> None:
    for name, asset in ASSETS.items():
        text = asset.body.decode()
        wanted = re.findall(r'from "\./([\w.]+)"', text) + re.findall(r'"console/([\w.]+)"', text)
        assert set(wanted) <= set(ASSETS), name


@pytest.mark.slow
async def test_the_console_can_be_turned_off(tmp_path) -> None:
    with running_server(tmp_path / "data", "--no-console") as server:
        async with aiohttp.ClientSession() as session:
            for path in ("/console", "/docs", "/console/main.js"):
                async with session.get(server.urls["http"] + path) as response:
                    assert response.status == 404
                    assert (await response.json())["errors"]
