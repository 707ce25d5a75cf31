"""The REST side of the service, as its command line calls it."""

import json
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self, cast
from urllib.parse import quote

import aiohttp

from hotpath.client.errors import Problem, Refused, Unreachable
from hotpath.model.names import Topic

#: Time for one call.
CALL_SECONDS: Final = 30.0

#: Gives the bearer token for the next call.
TokenSource = Callable[[], str]


@dataclass(frozen=True, slots=True)
class Access:
    """Where to attach over AMQP, and with which token."""

    identity: str
    url: str
    token: str


class RestClient:
    """Calls of one service; use it as an asynchronous context."""

    def __init__(
        self, base_url: str, token: TokenSource, *, tls: ssl.SSLContext | None = None
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._token = token
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=CALL_SECONDS)
        connector = aiohttp.TCPConnector(ssl=self._tls if self._tls is not None else True)
        self._session = aiohttp.ClientSession(timeout=timeout, connector=connector)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    # Subscriptions

    async def create(
        self,
        topic: Topic,
        filter_text: str,
        *,
        ttl: float,
        sas_ttl: float,
        start_from: str | None = None,
    ) -> Access:
        """Create a subscription; times in API minutes. Raises Refused, Unreachable."""
        body: dict[str, object] = {
            "subscriptionTTL": ttl,
            "sasTokenTTL": sas_ttl,
            "filter": filter_text,
        }
        if start_from is not None:
            body["startFrom"] = start_from
        answer = await self.call("POST", f"/subscriptions/{topic.value}", body)
        return _access(answer, "subscriptionId")

    async def renew(self, topic: Topic, identity: str) -> Access:
        """A fresh token for a subscription. Raises Refused, Unreachable."""
        return _access(await self.call("PUT", _path(topic.value, identity)), "subscriptionId")

    async def delete(self, topic: str, identity: str) -> None:
        """End a subscription. Raises Refused, Unreachable."""
        await self.call("DELETE", _path(topic, identity))

    async def list_all(self) -> list[dict[str, object]]:
        """All own subscriptions, page by page. Raises Refused, Unreachable."""
        found: list[dict[str, object]] = []
        cursor = ""
        while True:
            page = await self.call("GET", f"/subscriptions?limit=1000{cursor}")
            found += cast("list[dict[str, object]]", page.get("data") or [])
            following = page.get("next")
            if not isinstance(following, str) or not following:
                return found
            cursor = f"&cursor={quote(following, safe='')}"

    async def revoke(self, topic: str, identity: str) -> None:
        """Make a subscription's tokens worthless. Raises Refused, Unreachable."""
        await self.call("POST", f"{_path(topic, identity)}/revoke")

    # Keys

    async def keys(self) -> list[dict[str, object]]:
        """All signing keys, without their secrets. Raises Refused, Unreachable."""
        answer = await self.call("GET", "/admin/keys")
        return cast("list[dict[str, object]]", answer.get("data") or [])

    async def add_key(self, name: str | None, tenant: str | None) -> dict[str, object]:
        """Make a signing key; a tenant's comes with its secret. Raises Refused, Unreachable."""
        return await self.call("POST", "/admin/keys", {"name": name, "tenant": tenant})

    async def retire_key(self, name: str) -> None:
        """Let a key count no longer. Raises Refused, Unreachable."""
        await self.call("POST", f"/admin/keys/{quote(name, safe='')}/retire")

    async def remove_key(self, name: str) -> None:
        """Forget a retired key. Raises Refused, Unreachable."""
        await self.call("DELETE", f"/admin/keys/{quote(name, safe='')}")

    # Publishing and operations

    async def delete_publisher(self, topic: str, identity: str) -> None:
        """End a publisher and its token. Raises Refused, Unreachable."""
        await self.call("DELETE", f"/publishers/{quote(topic, safe='')}/{quote(identity, safe='')}")

    async def open_publisher(self, topic: Topic, *, sas_ttl: float | None = None) -> Access:
        """A right to publish over AMQP. Raises Refused, Unreachable."""
        body: dict[str, object] | None = None if sas_ttl is None else {"sasTokenTTL": sas_ttl}
        answer = await self.call("POST", f"/publishers/{topic.value}", body)
        return _access(answer, "publisherId")

    async def reap(self) -> dict[str, object]:
        """End what has been idle for its time. Raises Refused, Unreachable."""
        return await self.call("POST", "/admin/reap")

    async def call(
        self, method: str, path: str, body: dict[str, object] | None = None
    ) -> dict[str, object]:
        """One call; the JSON object of the answer, empty when it has none.

        Raises Refused for an error status, Unreachable when there is no answer.
        """
        if self._session is None:
            raise RuntimeError("the client is used outside of its context")
        headers = {"Authorization": f"Bearer {self._token()}"}
        try:
            async with self._session.request(
                method, self.base_url + path, json=body, headers=headers
            ) as response:
                raw = await response.read()
                if response.status >= 400:
                    request_id = response.headers.get("X-Request-Id", "")
                    raise read_refusal(response.status, raw, request_id)
                return _object(raw)
        except TimeoutError:
            raise Unreachable(self.base_url, "no answer in time") from None
        except (aiohttp.ClientError, ValueError) as error:
            raise Unreachable(self.base_url, _reason(error)) from error


def read_refusal(status: int, raw: bytes, request_id: str = "") -> Refused:
    """An error answer: its `ServiceErrors`, or the status if the body is something else."""
    try:
        errors = _object(raw).get("errors")
    except ValueError:
        errors = None
    problems = [
        _problem(cast("dict[str, object]", each))
        for each in (errors if isinstance(errors, list) else [])
        if isinstance(each, dict)
    ]
    return Refused(status, problems, request_id=request_id)


def _problem(entry: dict[str, object]) -> Problem:
    meta = entry.get("meta")
    return Problem(
        title=str(entry.get("title") or ""),
        detail=str(entry.get("detail") or entry.get("title") or ""),
        meta=cast("dict[str, object]", meta) if isinstance(meta, dict) else {},
    )


def _object(raw: bytes) -> dict[str, object]:
    if not raw:
        return {}
    value = json.loads(raw)
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _access(answer: dict[str, object], identity: str) -> Access:
    return Access(
        identity=str(answer.get(identity, "")),
        url=str(answer.get("connectionURL", "")),
        token=str(answer.get("sasToken", "")),
    )


def _path(topic: str, identity: str) -> str:
    return f"/subscriptions/{quote(topic, safe='')}/{quote(identity, safe='')}"


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is not trusted: {error.certificate_error}"
    cause = getattr(error, "os_error", None)
    if isinstance(cause, OSError) and cause.errno:
        return os.strerror(cause.errno)
    return str(error) or type(error).__name__
