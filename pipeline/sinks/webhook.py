"""Webhook: events as HTTP POSTs, one JSON object each, in order, tried again until taken or too old.

Every request has these headers:

    X-Frameloom-Delivery    the event's `id`: the same for every attempt, so that a receiver can tell repetitions
    X-Frameloom-Timestamp   seconds since 1970 of this attempt
    X-Frameloom-Signature   where there is a secret: sha256= and the HMAC-SHA256 of timestamp, dot, body, in hexadecimal

The timestamp is signed so that nobody can send an old request again later (the scheme is Stripe's, the header's form
GitHub's). A receiver checks it like this:

    def is_genuine(headers, body: bytes, secret: bytes) -> bool:
        timestamp = headers["X-Frameloom-Timestamp"]
        expected = hmac.new(secret, timestamp.encode() + b"." + body, "sha256").hexdigest()
        is_recent = abs(time.time() - int(timestamp)) < 300
        return is_recent and hmac.compare_digest(headers["X-Frameloom-Signature"], f"sha256={expected}")

An attempt may take `timeout_s` in all, however its server spreads its answer. An answer of 2xx is a confirmation. 5xx,
408, 425, 429, silence and a failing connection are tried again, with growing pauses or when `Retry-After` says; all
others are refusals, by which the event is given up: the same request would be refused again.
"""

from __future__ import annotations

import email.utils
import hmac
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import requests

from pipeline.capture.source import SourceInfo
from pipeline.config.sink_settings import WebhookSettings
from pipeline.errors import ConfigError
from pipeline.sinks.attempt import Attempt, watched
from pipeline.sinks.sender import SYNC_EVERY_S, Backoff, Sender, why

logger = logging.getLogger(__name__)

SECRET_VARIABLE = "FRAMELOOM_WEBHOOK_SECRET"
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 60.0
LONGEST_RETRY_AFTER_S = 3600.0
TRY_AGAIN = (408, 425, 429)
"""Request timeout, too early, too many requests: the statuses below 500 that say nothing about the request itself."""
SILENT = "it does not answer"
LARGEST_ANSWER = 1 << 16
"""An answer is read, up to so many bytes, only so that its connection can be used again."""


class Webhook(Sender):
    """The sink that posts events.

    Args:
        settings: of the webhook.
    """

    def __init__(self, settings: WebhookSettings) -> None:
        self._settings = settings
        address = urlsplit(settings.url)
        receiver = f"{address.scheme}://{address.netloc.rpartition('@')[2]}"  # a path may be a secret, too
        super().__init__("webhook", settings.url, receiver, settings.on, settings.spool, settings.spool_mb)
        self._has_own_login = address.username is None
        secret = settings.secret or os.environ.get(SECRET_VARIABLE)
        self._secret = secret.encode() if secret else None
        self._headers = {
            name.strip(): value.strip().encode() for name, _, value in (h.partition("=") for h in settings.headers)
        }
        self._backoff = Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S)
        self._told_refused = False
        self._opened_at = 0.0
        self._attempt: Attempt

    def check(self, sources: Sequence[SourceInfo]) -> None:
        """Refuse an address or headers that no request can be made of."""
        try:
            requests.Request("POST", self._settings.url, headers=self._headers).prepare()
        except (requests.RequestException, ValueError) as error:
            raise ConfigError(f"sinks.webhook: no request can be made for {self.receiver}: {_reason(error)}") from error
        super().check(sources)

    def open(self) -> None:
        """Begin to send."""
        self._opened_at = time.time()
        super().open()

    # ------------------------------------------------------------------ the thread

    def _send_until_closed(self) -> None:
        bell = self._bell
        assert bell is not None
        with requests.Session() as session:
            self._attempt = watched(session)
            if self._has_own_login:
                session.auth = lambda request: request  # or ~/.netrc would replace an Authorization header
            while not self._is_over():
                if (found := self.spool.next()) is not None:
                    self._deliver(session, *found)
                else:
                    bell.wait(SYNC_EVERY_S)
                self._sync()

    def _deliver(self, session: requests.Session, number: int, body: bytes) -> None:
        """Send one event, again and again, until it was taken or given up, or the sink is closed."""
        for pause_s in self._attempts(session, number, body):
            if self._halt.is_set():
                return
            self._pause(pause_s)
            if self._halt.is_set():
                return

    def _attempts(self, session: requests.Session, number: int, body: bytes) -> Iterator[float]:
        """Make attempts; between two of them yield seconds to wait."""
        event = json.loads(body)
        while not (self._trouble and self._is_too_old(event)):
            trouble, pause_s = self._post(session, body, event["id"])
            if trouble is None:
                self._backoff.reset()
                self._succeeded()
                break
            if pause_s is None:
                self._refused(number, trouble)
                break
            self._failed(f"{self.receiver} {trouble}")
            yield max(pause_s, self._backoff.next())
        else:
            self.spool.refuse(number)
        self.spool.confirm(number + 1)

    def _is_too_old(self, event: Mapping[str, Any]) -> bool:
        """Whether an event has waited for too long, in this run."""
        since: float = max(event["reported_at"], self._opened_at)
        return time.time() - since > self._settings.give_up_after_s

    def _post(self, session: requests.Session, body: bytes, delivery: str) -> tuple[str | None, float | None]:
        """Send a request.

        Returns:
            What went wrong, and how long to wait at least before the next attempt; None: nothing, and never.
        """
        timestamp = str(int(time.time()))
        headers: dict[str, str | bytes] = {
            "Content-Type": "application/json",
            "User-Agent": "frameloom",
            "X-Frameloom-Delivery": delivery,
            "X-Frameloom-Timestamp": timestamp,
            **self._headers,
        }
        if self._secret is not None:
            signature = hmac.new(self._secret, timestamp.encode() + b"." + body, "sha256").hexdigest()
            headers["X-Frameloom-Signature"] = f"sha256={signature}"
        url, timeout_s = self._settings.url, self._settings.timeout_s
        try:
            with (
                self._attempt.within(timeout_s),
                session.post(
                    url, body, headers=headers, timeout=timeout_s, allow_redirects=False, stream=True
                ) as answer,
            ):
                status, retry_after = answer.status_code, answer.headers.get("Retry-After")
                if 200 <= status < 300:
                    _finish(answer)
                    return None, None
        except Exception as error:  # also what urllib3 lets through: a run of months goes on
            is_late = self._attempt.is_over
            return f"could not be reached: {SILENT if is_late else _reason(error)}", 0.0
        if status >= 500 or status in TRY_AGAIN:
            return f"answered {status}", _seconds(retry_after)
        return f"answered {status}", None

    def _refused(self, number: int, trouble: str) -> None:
        self.spool.refuse(number)
        if not self._told_refused:
            self._told_refused = True
            logger.warning("webhook: %s %s: such events are given up", self.receiver, trouble)


def _finish(answer: requests.Response) -> None:
    """Read what is left of an answer, if that is little, for the connection's sake."""
    length = answer.headers.get("Content-Length", "")
    if length.isdigit() and int(length) <= LARGEST_ANSWER:
        try:
            _ = answer.content
        except (requests.RequestException, OSError):
            answer.close()  # it was confirmed all the same


def _seconds(retry_after: str | None) -> float:
    """Read a Retry-After header (RFC 9110, 10.2.3): seconds, or a date."""
    if not retry_after:
        return 0.0
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time()
        except ValueError:
            return 0.0
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_S) if seconds == seconds else 0.0


def _reason(error: BaseException) -> str:
    """Return what is at the bottom of an error of requests, without the address, in which there may be secrets."""
    if isinstance(error, requests.Timeout):
        return SILENT
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy does not let it through"
    if isinstance(error, requests.exceptions.InvalidHeader):
        return "a header has signs that are not allowed there"
    if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.MissingSchema):
        return "the address is none"
    own = (
        each for each in _causes(error) if isinstance(each, OSError) and not isinstance(each, requests.RequestException)
    )
    return next(map(why, own), type(error).__name__)


def _causes(error: Any) -> list[BaseException]:
    """Return an error's causes, the deepest first; urllib3 and requests put theirs into arguments, too."""
    chain: list[BaseException] = []
    waiting = [error]
    while waiting:
        each = waiting.pop()
        if not isinstance(each, BaseException) or each in chain:
            continue
        chain.append(each)
        waiting += [each.__context__, each.__cause__, getattr(each, "reason", None), *each.args]
    return chain[::-1]
