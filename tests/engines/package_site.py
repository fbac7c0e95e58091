"""A real package index and file server on a local port, with real archives, for the tests of the model zoo."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from engines.zoo import Zoo

MODEL = b"the weights " * 5000
OTHER_MODEL = b"other weights " * 5000


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def wheel(members: dict[str, bytes]) -> bytes:
    """A wheel of `weights` 1.0."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("weights-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: weights\nVersion: 1.0\n")
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def sdist(members: dict[str, bytes]) -> bytes:
    """A `.tar.gz` with everything below `weights-1.0/`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(f"weights-1.0/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@dataclass
class Site:
    """What the server serves, and what it was asked for."""

    address: str
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    cut_after: int | None = None
    """Close the connection after this many bytes of a file (never of a page)."""
    hold: threading.Event | None = None
    """Stop in the middle of a file until this is set."""
    password: str | None = None
    """Ask for user `me` with this password."""

    @property
    def index(self) -> str:
        return f"{self.address}/simple/"

    def publish(self, filename: str, data: bytes, *, digest: str | None = None, link: str = "/files/") -> None:
        """Put an archive of the package `weights` on the index; `digest` "" publishes it without one."""
        self.files[f"/files/{filename}"] = data
        fragment = f"#sha256={sha256(data)}" if digest is None else digest and f"#sha256={digest}"
        page = self.files.setdefault("/simple/weights/", b"<!DOCTYPE html><html><body>\n")
        self.files["/simple/weights/"] = page + f'<a href="{link}{filename}{fragment}">{filename}</a>\n'.encode()

    def downloads(self) -> list[str]:
        return [path for path in self.asked if path.startswith("/files/")]

    def allows(self, authorization: str | None) -> bool:
        if self.password is None:
            return True
        return authorization == "Basic " + base64.b64encode(f"me:{self.password}".encode()).decode()


class _Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        self.site.asked.append(self.path)
        data = self.site.files.get(self.path)
        if not self.site.allows(self.headers.get("Authorization")):
            self.send_error(401)
        elif data is None:
            self.send_error(404)
        else:
            self._send(data, page=self.path.startswith("/simple/"))

    def _send(self, data: bytes, *, page: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if page else "application/octet-stream")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.site.hold is not None and not page:
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            self.site.hold.wait(20)
            data = data[len(data) // 2 :]
        with suppress(ConnectionError):  # the client was killed
            self.wfile.write(data if page else data[: self.site.cut_after])

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def running_site() -> Iterator[Site]:
    """Serve on a free local port until the end of the block."""

    class Handler(_Handler):
        pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Handler.site = site = Site(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield site
    finally:
        if site.hold is not None:
            site.hold.set()
        server.shutdown()
        server.server_close()
        thread.join()


def entry(name: str = "tiny", data: bytes = MODEL, **fields: Any) -> dict[str, Any]:
    """An entry of a zoo file that accepts `data`."""
    return {
        "name": name,
        "task": "detect",
        "file": f"{name}.onnx",
        "accepts": [{"sha256": sha256(data), "bytes": len(data)}],
        "licence": "MIT",
        "commercial_use": True,
        **fields,
    }


def companion(file: str, data: bytes) -> dict[str, Any]:
    """A companion of such an entry."""
    return {"file": file, "sha256": sha256(data), "bytes": len(data), "member": f"weights/{file}"}


def in_wheel(member: str = "weights/tiny.onnx") -> dict[str, str]:
    return {"package": "weights", "version": "1.0", "archive": "wheel", "member": member}


def in_sdist(member: str = "weights/tiny.onnx") -> dict[str, str]:
    return {"package": "weights", "version": "1.0", "archive": "sdist", "member": member}


def zoo_file(folder: Path, *entries: dict[str, Any]) -> Path:
    """Write a zoo file."""
    path = folder / "zoo.yaml"
    path.write_text(yaml.safe_dump({"models": list(entries)}))
    return path


def zoo_of(folder: Path, *entries: dict[str, Any]) -> Zoo:
    return Zoo.load(zoo_file(folder, *entries))
