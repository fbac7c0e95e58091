"""What the documents show: configurations that are valid, a webhook's receiver that runs, links that lead somewhere."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.config.sink_settings import WebhookSettings
from pipeline.sinks.webhook import Webhook
from tests.pipeline.fakes import make_frame
from tests.servers.hook import HookServer
from tools.config import app

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.yaml"))
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_a_valid_configuration(example: Path) -> None:
    result = CliRunner().invoke(app, ["check", str(example)])
    assert result.exception is None
    assert result.stdout.replace("\n", "").endswith(": ok")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_shown_in_a_document(example: Path) -> None:
    assert any(f"docs/examples/{example.name}" in document.read_text() for document in DOCUMENTS)


def test_every_example_that_a_document_names_is_there() -> None:
    named = {
        name for document in DOCUMENTS for name in re.findall(r"docs/examples/([\w-]+\.yaml)", document.read_text())
    }
    assert named == {example.name for example in EXAMPLES}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_links_to_files_and_headings_lead_somewhere(document: Path) -> None:
    for link in LINK.findall(CODE.sub("", document.read_text())):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def anchors(document: Path) -> set[str]:
    """Return what the headings of a document are called in links, as GitHub makes it of them."""
    headings = HEADING.findall(CODE.sub("", document.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def test_the_receiver_of_webhooks_takes_what_the_sink_sends_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "senders.md").read_text(), re.DOTALL)
    (tmp_path / "receiver.py").write_text(code)
    monkeypatch.setenv("FRAMELOOM_WEBHOOK_SECRET", "swordfish")
    is_genuine = runpy.run_path(str(tmp_path / "receiver.py"))["is_genuine"]

    with HookServer() as server:
        sink = Webhook(WebhookSettings(url=server.url(), spool=tmp_path / "spool"))
        sink.check([])
        sink.open()
        frame = make_frame("door", 0)
        frame.events.append({"event": "zone.enter", "zone": "Tür"})
        sink.consume(frame)
        server.until(lambda: len(server.taken) == 1)
        sink.close()
        (post,) = server.taken

    at = int(post.headers["X-Frameloom-Timestamp"])
    assert is_genuine(post.headers, post.body, b"swordfish")
    assert not is_genuine(post.headers, post.body + b" ", b"swordfish")
    assert not is_genuine(post.headers, post.body, b"guess")
    assert not is_genuine(post.headers | {"X-Frameloom-Timestamp": str(at + 1)}, post.body, b"swordfish")
    monkeypatch.setattr("time.time", lambda: at + 3600.0)
    assert not is_genuine(post.headers, post.body, b"swordfish")
