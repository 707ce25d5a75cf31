"""Signatures are those that the published verifier and a standard library accept."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from hotpath.webhooks import signing
from hotpath.webhooks.signing import BadSecret, Refused, Signer, SigningSecret

BODY = '{"changed":1,"id":"6360e1ef","value":"22 °C"}'.encode()
STANDARD = "whsec_" + base64.b64encode(bytes(range(24))).decode()


def verify_webhook_signature(payload, signature, secret):
    """The receiver's side, as it is published."""
    expected_signature = hmac.new(
        secret.encode("utf-8"), payload.encode("utf-8"), hashlib.sha256
    ).hexdigest()

    return hmac.compare_digest(f"sha256={expected_signature}", signature)


def now_s():
    return int(datetime.now(tz=UTC).timestamp())


def headers(*secrets, at_s=None, body=BODY):
    return dict(Signer.of(secrets).headers("id-1", at_s=at_s or now_s(), body=body))


@pytest.mark.parametrize("secret", ["webhook-secret-key", "ключ", STANDARD, " "], ids=repr)
def test_the_published_verifier_accepts_the_body_signature(secret):
    signed = headers(secret)

    assert verify_webhook_signature(BODY.decode(), signed["X-Webhook-Signature"], secret)
    assert not verify_webhook_signature(BODY.decode() + " ", signed["X-Webhook-Signature"], secret)


def test_a_standard_webhooks_library_accepts_the_headers():
    signed = headers(STANDARD)

    assert Webhook(STANDARD).verify(BODY, signed) == {
        "changed": 1,
        "id": "6360e1ef",
        "value": "22 °C",
    }


def test_a_secret_without_prefix_is_its_own_key():
    signed = headers("webhook-secret-key")

    Webhook(b"webhook-secret-key").verify(BODY, signed)


def test_a_changed_body_or_an_old_time_is_refused_by_the_library():
    webhook = Webhook(STANDARD)

    with pytest.raises(WebhookVerificationError):
        webhook.verify(BODY + b" ", headers(STANDARD))
    with pytest.raises(WebhookVerificationError):
        webhook.verify(BODY, headers(STANDARD, at_s=now_s() - 600))


def test_during_a_rotation_both_secrets_sign():
    signed = headers("new", STANDARD)

    assert len(signed["webhook-signature"].split(" ")) == 2
    Webhook(b"new").verify(BODY, signed)
    Webhook(STANDARD).verify(BODY, signed)
    assert verify_webhook_signature(BODY.decode(), signed["X-Webhook-Signature"], "new")
    previous = signed["X-Webhook-Signature-Previous"]
    assert verify_webhook_signature(BODY.decode(), previous, STANDARD)


def test_without_a_secret_nothing_is_signed():
    assert list(headers()) == ["webhook-id", "webhook-timestamp"]


@pytest.mark.parametrize("text", ["", "whsec_", "whsec_=", "whsec_a", "whsec_hunter 2!", "whsec_é"])
def test_a_secret_that_cannot_sign_is_refused_without_being_shown(text):
    with pytest.raises(BadSecret) as refused:
        SigningSecret.of(text)

    assert "hunter" not in str(refused.value)


@pytest.mark.parametrize("padding", ["", "=", "=="])
def test_padding_of_a_base64_secret_does_not_matter(padding):
    key = SigningSecret.of("whsec_" + base64.b64encode(b"0123").decode().rstrip("=") + padding)

    assert key.standard_key == b"0123"


def test_a_secret_is_never_shown():
    assert "hunter2" not in repr(SigningSecret.of("hunter2"))


# What the sink checks with


def check(signed, *, secret="s3cret", body=BODY, now=None):
    key = SigningSecret.of(secret)
    signing.verify_body(key, body, signature=signed.get("X-Webhook-Signature"))
    signing.verify_standard(
        key,
        body,
        webhook_id=signed.get("webhook-id"),
        timestamp=signed.get("webhook-timestamp"),
        signatures=signed.get("webhook-signature"),
        now_s=now or now_s(),
    )


def test_our_own_check_accepts_our_own_signature():
    signed = headers("s3cret")

    check(signed)

    assert signed["webhook-signature"].startswith("v1,")


@pytest.mark.parametrize(
    "change",
    [
        {"X-Webhook-Signature": None},
        {"X-Webhook-Signature": "sha256=00"},
        {"X-Webhook-Signature": "sha256=é"},
        {"webhook-id": None},
        {"webhook-id": "id-2"},
        {"webhook-timestamp": None},
        {"webhook-timestamp": "now"},
        {"webhook-timestamp": "9" * 40},
        {"webhook-timestamp": "١٧"},
        {"webhook-signature": None},
        {"webhook-signature": "v2,AAAA"},
        {"webhook-signature": "é " * 20},
    ],
    ids=str,
)
def test_our_own_check_refuses_what_was_changed(change):
    signed = {name: value for name, value in {**headers("s3cret"), **change}.items() if value}

    with pytest.raises(Refused):
        check(signed)


@pytest.mark.parametrize("seconds", [-301, 301])
def test_our_own_check_refuses_a_replay(seconds):
    signed = headers("s3cret", at_s=1_700_000_000)

    check(signed, now=1_700_000_000 + 299)
    with pytest.raises(Refused, match="300 s from now"):
        check(signed, now=1_700_000_000 + seconds)
