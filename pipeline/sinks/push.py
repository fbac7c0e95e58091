"""Push: a connection to a media server, in a process of its own.

A process, because PyAV connects to a server while it holds the interpreter's lock: a server that does not answer would
stop every thread of a run (measured: for as long as it was silent). A process can be ended whatever it waits for.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from typing import IO

import av

from engines.masking import mask_passwords
from pipeline.capture.live.failure import Failure, failure_of
from pipeline.sinks.live_video import Form, LiveOptions, Packet
from pipeline.sinks.push_process import CONNECT_S, HEAD, PACKET, SEND_S

BEGIN = "import sys; sys.path[:] = {path!r}; from pipeline.sinks.push_process import main; main()"


class Push:
    """The parent's side: one connection."""

    def __init__(self, url: str, form: Form, options: LiveOptions) -> None:
        """Begin to connect; returns at once.

        Raises:
            OSError: no process can be started.
        """
        self.passed = 0
        """Pictures."""
        self.sent: int | None = None
        """Of these; None: not known."""
        self._url = url
        self._said = b""
        self._process = subprocess.Popen(
            [sys.executable, "-c", BEGIN.format(path=[os.path.abspath(each) for each in sys.path])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the parent, which says goodbye to the server
        )
        order = {"url": url, "form": asdict(form), "options": asdict(options), "parent": os.getpid()}
        text = json.dumps(order).encode()
        self._write(HEAD.pack(len(text)) + text)

    def wait_for_connection(self) -> bool:
        """Wait until the server takes pictures, or the process has ended."""
        self._said = self._output.readline()
        return self._said.strip() == b'"connected"'

    def send(self, packet: Packet) -> bool:
        """Pass a picture on; waits where the server is slow. False: the process has ended."""
        self.passed += 1
        return self._write(PACKET.pack(packet.ticks, packet.is_keyframe, len(packet.data)) + packet.data)

    def finish(self) -> None:
        """Say goodbye to the server; returns at once."""
        try:
            self._input.close()
        except OSError:  # what was not passed on has nobody to go to
            return

    def failure(self) -> Failure | None:
        """Wait for its end; return why it ended, or None where it was asked to."""
        self.finish()
        said = (self._said + self._output.read()).splitlines()
        self._output.close()
        code = self._process.wait()
        if code == -signal.SIGALRM:
            return Failure("timeout", f"it did not answer for {SEND_S:g} s")
        if code in (0, -signal.SIGKILL):
            return None
        try:
            number, text, self.sent = json.loads(said[-1])
        except (IndexError, TypeError, ValueError):
            return Failure("refused", f"the sending process ended with code {code}")
        return _failure(number, text, self._url)

    def kill(self) -> None:
        """End it now, whatever it waits for; from any thread."""
        self._process.kill()

    @property
    def lost(self) -> int:
        """Pictures that were passed on and did not leave the process, as far as it could say so."""
        return 0 if self.sent is None else self.passed - self.sent

    @property
    def _input(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def _output(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    def _write(self, data: bytes) -> bool:
        try:
            self._input.write(data)
            self._input.flush()
        except OSError:
            return False
        return True


def _failure(number: int, text: str, url: str) -> Failure:
    """Return why a connection ended, from FFmpeg's number."""
    try:
        av.error.err_check(-number)
    except av.FFmpegError as error:
        failure = failure_of(error, url, opened=True, silent_s=0.0, timeout_s=CONNECT_S)
        return replace(failure, text=mask_passwords(f"{failure.text}; {text}" if text else failure.text))
    return Failure("refused", text)
