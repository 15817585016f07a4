"""Where the command finds the exchange and the login, and that it says no secret while it looks."""

import os
from pathlib import Path

import pytest

from aioalphapoint import ApiKey, Password, SessionToken
from aioalphapoint.cli.access import Access, read_access
from aioalphapoint.cli.exits import Misuse

URL = {"ALPHAPOINT_URL": "wss://exchange.example/WSGateway/"}
API_KEY = {
    "ALPHAPOINT_API_KEY": "a-canary-key",
    "ALPHAPOINT_API_SECRET": "a-canary-secret",
    "ALPHAPOINT_USER_ID": "96",
}
PASSWORD = {"ALPHAPOINT_USER_NAME": "alice", "ALPHAPOINT_PASSWORD": "a-canary #1 'password' ${HOME}"}
TOKEN = {"ALPHAPOINT_SESSION_TOKEN": "a-canary-token"}


async def code() -> str:
    return "123456"


def read(environment: dict[str, str], file: Path | None = None) -> Access:
    return read_access(environment, file, two_factor=code)


def written(folder: Path, text: str | bytes, mode: int = 0o600) -> Path:
    path = folder / "login"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("variables", "credentials"),
    [
        ({}, None),
        (API_KEY, ApiKey("a-canary-key", "a-canary-secret", "96")),
        (PASSWORD, Password("alice", "a-canary #1 'password' ${HOME}", code, 60)),
        (TOKEN, SessionToken("a-canary-token")),
        ({"ALPHAPOINT_USER_ID": "96"}, None),
        ({**TOKEN, "ALPHAPOINT_USER_ID": "96", "ALPHAPOINT_PASSWORD": ""}, SessionToken("a-canary-token")),
    ],
    ids=["none", "API key", "password", "token", "a user's number alone", "others that are empty"],
)
def test_each_login_is_read_from_the_environment(
    variables: dict[str, str], credentials: ApiKey | Password | SessionToken | None
) -> None:
    assert read(URL | variables) == Access(URL["ALPHAPOINT_URL"], credentials)


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        (TOKEN, "ALPHAPOINT_URL is not set: the address of the exchange's gateway, such as wss://HOST/WSGateway/"),
        (URL | TOKEN | PASSWORD, "ALPHAPOINT_USER_NAME and ALPHAPOINT_SESSION_TOKEN are both set: keep one login"),
        (URL | TOKEN | API_KEY, "ALPHAPOINT_API_KEY and ALPHAPOINT_SESSION_TOKEN are both set: keep one login"),
        (
            URL | {"ALPHAPOINT_API_SECRET": "a-canary"},
            "ALPHAPOINT_API_KEY and ALPHAPOINT_USER_ID must be set beside ALPHAPOINT_API_SECRET",
        ),
        (
            URL | {"ALPHAPOINT_USER_NAME": "a-canary"},
            "ALPHAPOINT_PASSWORD must be set beside ALPHAPOINT_USER_NAME",
        ),
    ],
)
def test_what_is_missing_or_there_twice_is_named_and_no_value_is(variables: dict[str, str], sentence: str) -> None:
    with pytest.raises(Misuse) as caught:
        read(variables)
    assert str(caught.value) == sentence


def test_a_login_in_a_file_is_taken_whole_and_every_character_of_it(tmp_path: Path) -> None:
    lines = "ALPHAPOINT_USER_NAME=alice\nexport ALPHAPOINT_PASSWORD=\"a-canary #1 'password' ${HOME}\"\n# a note\n"
    assert read(URL | TOKEN, written(tmp_path, lines)) == read(URL | PASSWORD)
    assert read(TOKEN, written(tmp_path, "ALPHAPOINT_URL=wss://exchange.example/WSGateway/\n")) == read(URL | TOKEN)
    half = written(tmp_path, "ALPHAPOINT_USER_NAME=alice\n")  # is not filled up from the environment
    with pytest.raises(Misuse, match="ALPHAPOINT_PASSWORD must be set beside ALPHAPOINT_USER_NAME"):
        read(URL | PASSWORD, half)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620])
def test_a_file_that_others_can_open_is_refused(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path, "ALPHAPOINT_SESSION_TOKEN=a-canary\n", mode)
    with pytest.raises(Misuse) as caught:
        read(URL, path)
    assert str(caught.value) == f"{path} must be its user's own and readable by nobody else: chmod 600 {path}"


def test_another_users_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, "ALPHAPOINT_SESSION_TOKEN=a-canary\n")
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(Misuse, match="must be its user's own"):
        read(URL, path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("ALPHAPOINT_PASWORD=a-canary\n", "holds a line that sets none of ALPHAPOINT_API_KEY, "),
        ("a-canary\n", "holds a line that sets none of "),
        (b"ALPHAPOINT_PASSWORD=a-canary\xff\n", "it is not text in UTF-8"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_and_not_quoted(
    tmp_path: Path, text: str | bytes, sentence: str
) -> None:
    with pytest.raises(Misuse) as caught:
        read(URL | PASSWORD, written(tmp_path, text))
    assert sentence in str(caught.value)
    assert "a-canary" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misuse) as caught:
        read(URL, tmp_path / "none")
    assert str(caught.value) == f"cannot read {tmp_path / 'none'}: No such file or directory"


def test_an_access_shows_no_secret() -> None:
    for variables in (API_KEY, PASSWORD, TOKEN):
        told = repr(read(URL | variables)).replace("a-canary-key", "")  # a key's name is no secret
        assert "a-canary" not in told
