"""Sealed texts, and the key that seals them."""

import base64
import os
import stat

import pytest

from hotpath.auth.sealing import SEALING_KEY_FILE, CannotOpen, SealingKey, load_sealing_key
from hotpath.service.secrets import SecretValue, StreamSecrets, open_secrets

KEY = SealingKey(b"k" * 32)


def test_what_was_sealed_opens_again():
    sealed = KEY.seal("wéb", bound_to="s1")

    assert KEY.open(sealed, bound_to="s1") == "wéb"
    assert "wéb".encode() not in sealed
    assert KEY.seal("wéb", bound_to="s1") != sealed


@pytest.mark.parametrize(
    ("key", "change", "bound_to"),
    [
        pytest.param(SealingKey(b"x" * 32), lambda s: s, "s1", id="another-key"),
        pytest.param(KEY, lambda s: s, "s2", id="another-stream"),
        pytest.param(KEY, lambda s: s[:-1] + bytes((s[-1] ^ 1,)), "s1", id="damaged"),
        pytest.param(KEY, lambda s: s[:9], "s1", id="cut"),
        pytest.param(KEY, lambda s: b"\x02" + s[1:], "s1", id="another-version"),
        pytest.param(KEY, lambda s: b"", "s1", id="empty"),
    ],
)
def test_nothing_else_opens(key, change, bound_to):
    sealed = KEY.seal("secret", bound_to="s1")

    with pytest.raises(CannotOpen):
        key.open(change(sealed), bound_to=bound_to)


def test_the_key_is_made_once_for_its_owner_alone(tmp_path):
    sealed = load_sealing_key(tmp_path, None).seal("a", bound_to="s")

    path = tmp_path / SEALING_KEY_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_sealing_key(tmp_path, None).open(sealed, bound_to="s") == "a"


def test_a_configured_key_is_used_and_none_is_made(tmp_path):
    path = tmp_path / "mine"
    path.write_bytes(base64.b64encode(os.urandom(32)))

    sealed = load_sealing_key(tmp_path / "data", path).seal("a", bound_to="s")

    assert load_sealing_key(tmp_path / "data", path).open(sealed, bound_to="s") == "a"
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("content", [b"", b"short", base64.b64encode(b"x" * 31), b"\xff" * 44])
def test_a_file_without_a_key_is_refused(tmp_path, content):
    path = tmp_path / "mine"
    path.write_bytes(content)

    with pytest.raises(ValueError, match="holds no 32 bytes in base64"):
        load_sealing_key(tmp_path, path)


def test_a_key_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_sealing_key(tmp_path, tmp_path / "none")


def test_secrets_never_show():
    secrets = StreamSecrets(SecretValue("hush"), SecretValue("older"))

    assert "hush" not in f"{secrets!r} {secrets} {secrets.current} {[secrets.current]}"
    assert b"hush" not in bytes(secrets.sealed(KEY, "s")["secret"])


def test_an_old_secret_signs_until_its_time():
    secrets = StreamSecrets(SecretValue("a")).rotated(SecretValue("b"), until_ms=10)

    assert [each.reveal() for each in secrets.signing(9)] == ["b", "a"]
    assert [each.reveal() for each in secrets.signing(10)] == ["b"]
    assert StreamSecrets().signing(0) == []


def test_secrets_come_back_from_their_record():
    secrets = StreamSecrets(SecretValue("a")).rotated(SecretValue("b"), until_ms=10)

    assert open_secrets(KEY, "s", secrets.sealed(KEY, "s")) == secrets
    assert open_secrets(KEY, "s", {}) == StreamSecrets()
    assert SecretValue("a") != SecretValue("b")
    assert SecretValue("a") != "a"
    assert hash(SecretValue("a")) == hash(SecretValue("a"))


def test_a_current_secret_cannot_be_put_in_the_place_of_an_old_one():
    sealed = StreamSecrets(SecretValue("a")).sealed(KEY, "s")

    with pytest.raises(CannotOpen):
        open_secrets(KEY, "s", {"old_secret": sealed["secret"]})
