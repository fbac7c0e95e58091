"""How a connection to a broker is encrypted, and by which certificates it is trusted."""

from __future__ import annotations

import ssl

from pipeline.config.sink_settings import MqttSettings
from pipeline.errors import ConfigError


class ClosedOnFailure(ssl.SSLSocket):
    """A connection that is not left open where encrypting it fails; paho forgets it."""

    def do_handshake(self, block: bool = False) -> None:
        """Encrypt it."""
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


def encryption(settings: MqttSettings) -> ssl.SSLContext | None:
    """Return how to encrypt; None: not at all.

    Raises:
        ConfigError: a file is missing, or holds no certificate.
    """
    if not settings.tls:
        return None
    for key in ("ca_file", "cert_file", "key_file"):
        path = getattr(settings, key)
        try:
            if path is not None:
                path.open("rb").close()
        except OSError as error:
            raise ConfigError(f"sinks.mqtt.{key}: cannot read {path}: {error.strerror}") from error
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except ssl.SSLError as error:
        raise ConfigError(f"sinks.mqtt.ca_file: {settings.ca_file} holds no certificates (PEM)") from error
    context.sslsocket_class = ClosedOnFailure
    try:
        if settings.cert_file is not None:
            context.load_cert_chain(settings.cert_file, settings.key_file, password="")
    except (ssl.SSLError, ValueError) as error:
        files = " and ".join(str(path) for path in (settings.cert_file, settings.key_file) if path)
        raise ConfigError(f"sinks.mqtt.cert_file: no certificate with its key (PEM, no password) in {files}") from error
    return context
