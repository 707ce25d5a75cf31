"""Where the keys come from that check JSON Web Tokens: fixed ones, a PEM file, a key set's URL.

A source answers with the few keys that may have signed a token, judged by its algorithm and key
id. A source that cannot be reached goes on with what it last knew.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

import aiohttp
import jwt

from hotpath.auth.keys import VerificationKey, bind, read_public_keys
from hotpath.telemetry import get_logger

#: A token without a key id is tried against at most so many keys.
CANDIDATES_MAX: Final = 16
#: A key set is fetched at most this often, however many unknown key ids come in.
FETCH_INTERVAL_MS: Final = 10_000
#: A key set is fetched again when it is this old, so that a withdrawn key stops to count.
FETCH_AGE_MS: Final = 300_000
#: A PEM file is looked at for changes at most this often.
FILE_INTERVAL_MS: Final = 5_000
_FETCH_SECONDS_MAX: Final = 5.0
_KEY_SET_BYTES_MAX: Final = 1_048_576
_KEYS_MAX: Final = 256

Ticks = Callable[[], int]

_log = get_logger("hotpath.auth")


class KeySource(Protocol):
    """Finds keys for a token."""

    async def find(self, algorithm: str, kid: str | None) -> Sequence[VerificationKey]:
        """Keys that may have signed a token with this algorithm and key id; never raises."""
        ...

    def problem(self) -> str | None:
        """Why this source has no keys, or None when it has."""
        ...

    async def close(self) -> None:
        """End what is under way."""
        ...


def matching(
    keys: Sequence[VerificationKey], algorithm: str, kid: str | None
) -> list[VerificationKey]:
    """The keys of an algorithm that a key id can mean."""
    found = [
        key
        for key in keys
        if key.algorithm == algorithm and (kid is None or key.kid is None or key.kid == kid)
    ]
    return found[:CANDIDATES_MAX]


class FixedKeys:
    """Keys that stay the same while the service runs."""

    def __init__(self, keys: Sequence[VerificationKey]) -> None:
        self._keys = tuple(keys)

    async def find(self, algorithm: str, kid: str | None) -> Sequence[VerificationKey]:
        """The matching ones."""
        return matching(self._keys, algorithm, kid)

    def problem(self) -> str | None:
        """None: the keys are here."""
        return None

    async def close(self) -> None:
        """Do nothing: there is nothing under way."""


class KeyFile:
    """Public keys in a PEM file, read again when the file changes.

    Raises:
        OSError: The file cannot be read at the start.
        ValueError: It holds no public key of an accepted kind.
    """

    def __init__(self, path: Path, ticks_ms: Ticks) -> None:
        self._path = path
        self._ticks_ms = ticks_ms
        self._looked_ms = ticks_ms()
        self._version, self._keys = _read_file(path)

    async def find(self, algorithm: str, kid: str | None) -> Sequence[VerificationKey]:
        """The matching ones of the file as it is now, or was a few seconds ago."""
        now_ms = self._ticks_ms()
        if now_ms - self._looked_ms >= FILE_INTERVAL_MS:
            self._looked_ms = now_ms
            await self._look()
        return matching(self._keys, algorithm, kid)

    async def _look(self) -> None:
        try:
            version = await asyncio.to_thread(_version, self._path)
            if version != self._version:
                self._version, self._keys = await asyncio.to_thread(_read_file, self._path)
                _log.info("token keys read again", extra={"file": str(self._path)})
        except (OSError, ValueError) as error:
            _log.warning(
                "token keys not readable, the old ones stay",
                extra={"file": str(self._path), "reason": str(error)},
            )

    def problem(self) -> str | None:
        """None: there is always a last readable version."""
        return None

    async def close(self) -> None:
        """Do nothing: there is nothing under way."""


def _read_file(path: Path) -> tuple[tuple[int, int], list[VerificationKey]]:
    version = _version(path)
    return version, read_public_keys(path.read_bytes())


def _version(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


class KeySetUrl:
    """A JSON Web Key Set (RFC 7517) behind a URL, kept in memory.

    It is fetched at the first need, when a token names an unknown key, and when it has become
    old; but never more often than every FETCH_INTERVAL_MS, and once however many ask. While its
    server is down, the keys last seen stay.

    Raises:
        ValueError: The URL is neither http nor https.
    """

    def __init__(self, url: str, ticks_ms: Ticks) -> None:
        if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
            raise ValueError(f"{url!r} is not a URL of a key set")
        self._url = url
        self._ticks_ms = ticks_ms
        self._keys: list[VerificationKey] = []
        self._fetched_ms: int | None = None
        self._tried_ms: int | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._failure = "the key set of the identity provider has not been fetched yet"

    async def find(self, algorithm: str, kid: str | None) -> Sequence[VerificationKey]:
        """The matching ones, after a fetch if that may help."""
        found = matching(self._keys, algorithm, kid)
        if not found:
            await self._fetch_once()
            return matching(self._keys, algorithm, kid)
        if self._fetched_ms is None or self._ticks_ms() - self._fetched_ms >= FETCH_AGE_MS:
            self._begin_fetch()
        return found

    async def _fetch_once(self) -> None:
        """Wait for a fetch that is under way, or for a new one if it is time."""
        fetching = self._begin_fetch()
        if fetching is not None:
            # Shielded: one caller that hangs up must not take the answer from the others.
            await asyncio.shield(fetching)

    def _begin_fetch(self) -> asyncio.Task[None] | None:
        if self._fetching is not None:
            return self._fetching
        now_ms = self._ticks_ms()
        if self._tried_ms is not None and now_ms - self._tried_ms < FETCH_INTERVAL_MS:
            return None
        self._tried_ms = now_ms
        self._fetching = asyncio.ensure_future(self._fetch())
        return self._fetching

    async def _fetch(self) -> None:
        try:
            self._keys = read_key_set(await _download(self._url))
            self._fetched_ms = self._ticks_ms()
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, RecursionError) as error:
            self._failure = f"the key set of the identity provider cannot be fetched: {error}"
            _log.warning(
                "key set not fetched, the old keys stay",
                extra={"url": self._url, "reason": str(error) or type(error).__name__},
            )
        finally:
            self._fetching = None

    def problem(self) -> str | None:
        """Why there are no keys, or None when there are."""
        return None if self._keys else self._failure

    async def close(self) -> None:
        """Cancel a fetch that is under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)


async def _download(url: str) -> object:
    """The JSON document behind a URL. Raises aiohttp.ClientError, TimeoutError, ValueError."""
    timeout = aiohttp.ClientTimeout(total=_FETCH_SECONDS_MAX)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.get(url, allow_redirects=False) as response,
    ):
        if response.status != 200:
            raise ValueError(f"its server answers {response.status}")
        text = bytearray()
        async for part in response.content.iter_chunked(65_536):
            text += part
            if len(text) > _KEY_SET_BYTES_MAX:
                raise ValueError("it is longer than 1 MiB")
    return _parse(bytes(text))


def _parse(text: bytes) -> object:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def read_key_set(document: object) -> list[VerificationKey]:
    """The usable keys of a key set. Raises ValueError when there are none."""
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError("it is no JSON Web Key Set")  # noqa: TRY004 -- bad content, not a bug
    keys = [key for entry in entries[:_KEYS_MAX] if (key := _read_entry(entry)) is not None]
    if not keys:
        raise ValueError("it has no key that can check tokens")
    return keys


def _read_entry(entry: object) -> VerificationKey | None:
    """One entry as a key, or None when it is for something else."""
    if not isinstance(entry, dict) or entry.get("kty") not in {"RSA", "EC", "OKP"}:
        return None
    if entry.get("use", "sig") != "sig":
        return None
    kid = entry.get("kid")
    try:
        key = bind(jwt.PyJWK.from_dict(entry).key, kid if isinstance(kid, str) else None)
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    return key if entry.get("alg", key.algorithm) == key.algorithm else None
