"""Which package index is asked: pip's and uv's settings, in pip's order."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engines.package_member import IndexSettings


@pytest.fixture(autouse=True)
def nothing_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_CERT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


def test_with_nothing_configured_it_is_the_public_index() -> None:
    assert IndexSettings.configured() == IndexSettings()
    assert IndexSettings().url.startswith("https://")


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("PIP_INDEX_URL", "https://pip.example/simple", "https://pip.example/simple"),
        ("UV_DEFAULT_INDEX", "https://uv.example/simple", "https://uv.example/simple"),
        ("UV_DEFAULT_INDEX", "corporate=https://uv.example/simple", "https://uv.example/simple"),
        ("UV_INDEX_URL", "https://uv.example/simple", "https://uv.example/simple"),
        ("PIP_INDEX_URL", "", IndexSettings().url),
    ],
)
def test_an_index_may_be_named_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert IndexSettings.configured().url == expected


@pytest.mark.parametrize(
    ("text", "url", "certificates"),
    [
        ("[global]\nindex-url = https://a.example/50%25/\ncert = /c.pem\n", "https://a.example/50%25/", "/c.pem"),
        (
            "[global]\nindex_url = https://a.example/\n[install]\nindex-url = https://b.example/\n",
            "https://b.example/",
            None,
        ),
        ("[global\nthis is not a configuration", IndexSettings().url, None),
        ("[global]\nextra-index-url = https://a.example/\n", IndexSettings().url, None),
    ],
)
def test_an_index_may_be_named_in_a_pip_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, url: str, certificates: str | None
) -> None:
    (tmp_path / "pip.conf").write_text(text)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setattr("engines.package_member.SYSTEM_PIP_FILES", ())
    assert IndexSettings.configured() == IndexSettings(url, certificates)


def test_the_environment_wins_over_the_users_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_CONFIG_FILE")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    (tmp_path / ".config" / "pip").mkdir(parents=True)
    (tmp_path / ".config" / "pip" / "pip.conf").write_text("[global]\nindex-url = https://mine.example/\n")
    assert IndexSettings.configured().url == "https://mine.example/"
    monkeypatch.setenv("PIP_INDEX_URL", "https://other.example/")
    assert IndexSettings.configured().url == "https://other.example/"
