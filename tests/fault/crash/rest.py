"""The calls of an application; an answer that never came is None."""

import io
import json
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import aiohttp


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call was answered."""

    status: int
    body: dict


class RestCalls:
    """Calls with one bearer token."""

    def __init__(self, base_url: str, token: str) -> None:
        self._base_url = base_url
        self._token = token

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20))
        return self

    async def __aexit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def call(self, method: str, path: str, body: object = None) -> Answer | None:
        """One call; None when the service died under it."""
        headers = {"Authorization": f"Bearer {self._token}"}
        sent: io.BytesIO | None = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            # A stream: bytes over 1 MiB given at once make aiohttp warn.
            sent = io.BytesIO(json.dumps(body).encode())
        try:
            async with self._session.request(
                method, self._base_url + path, data=sent, headers=headers
            ) as answer:
                text = await answer.read()
                return Answer(answer.status, await answer.json() if text else {})
        except (aiohttp.ClientError, ConnectionError, TimeoutError):
            return None

    async def listed(self) -> dict[str, dict] | None:
        """All subscriptions by id."""
        found: dict[str, dict] = {}
        cursor = ""
        while True:
            answer = await self.call("GET", f"/subscriptions?limit=100{cursor}")
            if answer is None:
                return None
            assert answer.status == 200, answer
            found.update({entry["subscriptionId"]: entry for entry in answer.body["data"]})
            if not answer.body["next"]:
                return found
            cursor = f"&cursor={answer.body['next']}"
