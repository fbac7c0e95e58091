"""A real MQTT broker, Eclipse Mosquitto, in a process of its own: users, certificates, and faults on demand.

`Mosquitto` is the broker, `Reader` a client that collects what is published. Both keep their session on disk, so that a
broker that was killed still delivers to a reader that comes back later than the sender.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.servers.mute import HOST, free_port

PLACES = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/sbin"
"""Debian keeps the broker where a user's PATH does not look."""
START_S = 20.0


def missing() -> str | None:
    """Why no broker can run here; None: one can."""
    for program in ("mosquitto", "mosquitto_passwd", "openssl"):
        if shutil.which(program, path=PLACES) is None:
            return f"no {program} on this machine (apt install mosquitto openssl)"
    return None


class Certificates:
    """A certificate authority of our own, and what it signed: a broker's certificate for localhost, and a client's."""

    def __init__(self, folder: Path) -> None:
        self.authority = folder / "ca.pem"
        self._folder, self._key = folder, folder / "ca.key"
        self._openssl(
            "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=tests -keyout", self._key, "-out", self.authority
        )
        self.broker = self._signed("broker", "subjectAltName=DNS:localhost,IP:127.0.0.1")
        self.client = self._signed("client", "extendedKeyUsage=clientAuth")

    def _signed(self, name: str, extension: str) -> tuple[Path, Path]:
        key, request, certificate, more = (self._folder / f"{name}.{end}" for end in ("key", "csr", "pem", "ext"))
        more.write_text(extension)
        self._openssl(f"req -newkey rsa:2048 -nodes -subj /CN={name} -keyout", key, "-out", request)
        by = ("-CA", self.authority, "-CAkey", self._key, "-CAcreateserial", "-extfile", more)
        self._openssl("x509 -req -days 2 -in", request, *by, "-out", certificate)
        return certificate, key

    def _openssl(self, arguments: str, *more: str | Path) -> None:
        subprocess.run(["openssl", *arguments.split(), *map(str, more)], check=True, capture_output=True)


class Mosquitto:
    """A broker; a context manager. Its port is the same after every stop.

    Args:
        folder: for its files, empty.
        users: passwords by name; None lets everybody in.
        certificates: it encrypts with them; None: it does not.
        ask_clients: for a certificate of theirs, too.
        acl: lines of an access control file.
        largest_packet: bytes; None: any.
    """

    def __init__(
        self,
        folder: Path,
        users: dict[str, str] | None = None,
        certificates: Certificates | None = None,
        ask_clients: bool = False,
        acl: str | None = None,
        largest_packet: int | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.certificates = certificates
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        lines = [
            f"listener {self.port} {HOST}",
            f"allow_anonymous {'true' if users is None else 'false'}",
            "persistence true",
            f"persistence_location {folder}/",
            "autosave_on_changes true",
            "autosave_interval 1",
            "max_queued_messages 0",
            "log_type all",
            "set_tcp_nodelay true",
        ]
        if folder.owner() == "root":
            lines.append("user root")
        if users is not None:
            passwords = folder / "passwords"
            passwords.write_text("".join(f"{name}:{password}\n" for name, password in users.items()))
            subprocess.run([shutil.which("mosquitto_passwd", path=PLACES) or "", "-U", str(passwords)], check=True)
            lines.append(f"password_file {passwords}")
        if largest_packet is not None:
            lines.append(f"max_packet_size {largest_packet}")
        if acl is not None:
            (folder / "acl").write_text(acl)
            lines.append(f"acl_file {folder / 'acl'}")
        if certificates is not None:
            certificate, key = certificates.broker
            lines += [f"cafile {certificates.authority}", f"certfile {certificate}", f"keyfile {key}"]
            lines.append(f"require_certificate {'true' if ask_clients else 'false'}")
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")

    def start(self) -> None:
        """Start it; return when it takes connections."""
        with (self._folder / "log").open("ab") as log:
            command = [shutil.which("mosquitto", path=PLACES) or "", "-c", str(self._folder / "mosquitto.conf")]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + START_S
        while True:
            try:
                socket.create_connection((HOST, self.port), timeout=1).close()
                return
            except OSError:
                assert self._process.poll() is None, self.log
                assert time.monotonic() < deadline, self.log
                time.sleep(0.02)

    @property
    def log(self) -> str:
        """What it has said."""
        return (self._folder / "log").read_text(errors="replace")

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        self._signal(signal.SIGKILL)
        self._wait()

    def stop(self) -> None:
        """End it in order."""
        if self._process is not None:
            self.resume()
            self._signal(signal.SIGTERM)
            self._wait()

    def pause(self) -> None:
        """Let it hang: its connections stay, and it answers nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _wait(self) -> None:
        assert self._process is not None
        self._process.wait(10)
        self._process = None

    def __enter__(self) -> Mosquitto:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class Reader:
    """A client that collects what is published, and comes back to a broker that was away; a context manager."""

    def __init__(self, broker: Mosquitto, user: str | None = None, password: str | None = None) -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self.messages: list[tuple[str, bytes, bool]] = []
        """Topic, payload, and whether it had been retained, in the order of arrival."""
        self._changed = threading.Condition()
        self._subscribed = threading.Event()
        self._broker = broker
        self.client = Client(CallbackAPIVersion.VERSION2, "reader", clean_session=False)
        self.client.reconnect_delay_set(0.05, 0.2)  # type: ignore[arg-type]  # fractions are fine
        if user is not None:
            self.client.username_pw_set(user, password)
        if broker.certificates is not None:
            context = ssl.create_default_context(cafile=broker.certificates.authority)
            context.load_cert_chain(*broker.certificates.client)
            self.client.tls_set_context(context)
        self.client.on_connect = lambda client, *rest: client.subscribe("#", qos=1)
        self.client.on_subscribe = lambda *rest: self._subscribed.set()
        self.client.on_message = self._on_message

    def _on_message(self, client: Any, data: Any, message: Any) -> None:
        with self._changed:
            self.messages.append((message.topic, message.payload, message.retain))
            self._changed.notify_all()

    def __enter__(self) -> Reader:
        self.client.connect("localhost", self._broker.port)
        self.client.loop_start()
        assert self._subscribed.wait(10), self._broker.log
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self.client.disconnect()
        self.client.loop_stop()

    def until(self, condition: Callable[[], bool], within_s: float = 20.0) -> None:
        """Wait until what has arrived fulfils a condition."""
        with self._changed:
            assert self._changed.wait_for(condition, within_s), self.messages[-20:]

    def on(self, topic: str) -> list[Any]:
        """What has arrived there, read as JSON."""
        return [json.loads(payload) for there, payload, _ in list(self.messages) if there == topic]

    def last(self, topic: str) -> Any:
        """The last that has arrived there, read as JSON; None: nothing."""
        return next(iter(self.on(topic)[::-1]), None)

    def word(self, topic: str) -> str | None:
        """The last text that has arrived there."""
        return next((payload.decode() for there, payload, _ in self.messages[::-1] if there == topic), None)
