"""`hotpath token`, and the tokens that client commands mint for themselves."""

import json
import os
import stat

import jwt
import pytest
from click.testing import CliRunner

from hotpath.cli import cli
from hotpath.cli.options import DEFAULT_URL, find_url, minting
from hotpath.cli.serve import leave_address


def run(*arguments, env=None):
    return CliRunner().invoke(cli, ["token", *arguments], env=env)


def claims(text):
    return jwt.decode(text.strip(), options={"verify_signature": False})


def test_token_says_what_was_asked(tmp_path):
    result = run(
        *("--data-dir", str(tmp_path), "--tenant", "acme", "--sub", "me", "--minutes", "5"),
        *("--scope", "hotpath.admin hotpath.publish:alarms", "--partitions", "a, b"),
        *("--condition", "objectId = 'x'"),
    )

    said = claims(result.stdout)
    assert said.pop("exp") - said.pop("iat") == pytest.approx(300, abs=1)
    assert said == {
        "sub": "me",
        "tenantId": "acme",
        "scope": "hotpath.admin hotpath.publish:alarms",
        "partitions": ["a", "b"],
        "condition": "objectId = 'x'",
    }


def test_key_is_made_once_and_for_its_owner_only(tmp_path):
    kids = set()
    for _ in range(2):
        kids.add(jwt.get_unverified_header(run("--data-dir", str(tmp_path)).stdout.strip())["kid"])

    (key,) = tmp_path.iterdir()
    assert len(kids) == 1
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_negative_minutes_give_a_token_that_has_ended(tmp_path):
    said = claims(run("--data-dir", str(tmp_path), "--minutes", "-5").stdout)

    assert said["exp"] < said["iat"]


def test_claims_follow_the_settings_of_the_service(tmp_path):
    env = {
        "HOTPATH_JWT_AUDIENCE": "hot",
        "HOTPATH_JWT_ISSUER": "me",
        "HOTPATH_CLAIM_TENANT": "org",
        "HOTPATH_DATA_DIR": str(tmp_path),
    }

    said = claims(run("--tenant", "acme", env=env).stdout)

    assert (said["aud"], said["iss"], said["org"]) == ("hot", "me", "acme")


def test_json_tells_the_end(tmp_path):
    shown = json.loads(run("--data-dir", str(tmp_path), "--json").stdout)

    assert claims(shown["token"])
    assert shown["expiresAt"].endswith("+00:00")


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["--condition", "objectId = "], 2, "^"),
        (["--minutes", "soon"], 2, "not a valid float"),
        (["--minutes", "nan"], 2, "at most"),
        (["--tenant", " "], 2, "a tenant has a name"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else None,
)
def test_wrong_usage(tmp_path, arguments, code, complaint):
    result = run("--data-dir", str(tmp_path), *arguments)

    assert result.exit_code == code
    assert complaint in result.output


def test_key_file_that_holds_none_fails_with_1(tmp_path):
    (tmp_path / "dev-jwt.pem").write_text("hello")

    result = run("--data-dir", str(tmp_path))

    assert result.exit_code == 1
    assert "no development key in" in result.output


def test_minted_token_is_used_again(tmp_path):
    run("--data-dir", str(tmp_path))
    fetch = minting(tmp_path, "acme")

    assert fetch() == fetch()
    assert claims(fetch())["tenantId"] == "acme"
    assert "hotpath.admin" in claims(fetch())["scope"]


def test_address_left_by_a_service_is_found(tmp_path):
    leave_address(tmp_path, '{"event":"ready","http":"http://127.0.0.1:77"}')

    assert find_url(tmp_path) == "http://127.0.0.1:77"
    assert os.listdir(tmp_path) == ["service.json"]
    assert stat.S_IMODE((tmp_path / "service.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"amqp": "x"}'])
def test_without_a_left_address_the_default_counts(tmp_path, content):
    (tmp_path / "service.json").write_text(content)

    assert find_url(tmp_path) == DEFAULT_URL
    assert find_url(tmp_path / "none") == DEFAULT_URL
