import pytest

from engines.masking import mask_passwords


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rtsp://ann:p@ss/w@cam:554/x", "rtsp://ann:***@cam:554/x"),
        ("rtsp://:pw@cam", "rtsp://:***@cam"),
        ("rtsp://cam:554/x", "rtsp://cam:554/x"),
        ("http://cam/x?user=a&password=b&c=d", "http://cam/x?user=a&password=***&c=d"),
        ("https://token@host/simple and http://x:y@other", "https://***@host/simple and http://x:***@other"),
        ("https://host/f?access_token=abc&x=1", "https://host/f?access_token=***&x=1"),
        ("https://host/a@b/c", "https://host/a@b/c"),
    ],
)
def test_passwords_and_tokens_in_addresses_are_masked(text: str, expected: str) -> None:
    assert mask_passwords(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mqtt: {user: ann, password: s3cret}", "mqtt: {user: ann, password: ***}"),
        ("  secret: 's3cret'", "  secret: '***'"),
        ('"password": "s3cret",', '"password": "***",'),
        ("--set sinks.mqtt.password=s3cret", "--set sinks.mqtt.password=***"),
        ("sinks.webhook.secret: 123 is not text", "sinks.webhook.secret: *** is not text"),
        ("headers: ['Authorization=Bearer s3cret', 'x=y']", "headers: ['Authorization=***', 'x=y']"),
        ("headers: ['X-Api-Key=abcKEYdef', 'x=y']", "headers: ['X-Api-Key=***', 'x=y']"),
        ("- Api-Key: abc", "- Api-Key: ***"),
        ("unexpected token: abc, yolox-s: 3 ms", "unexpected token: abc, yolox-s: 3 ms"),
        ("sinks.mqtt has a password, but no user", "sinks.mqtt has a password, but no user"),
        ("password: null # the secret", "password: *** # the secret"),
    ],
)
def test_passwords_of_settings_are_masked(text: str, expected: str) -> None:
    assert mask_passwords(text) == expected


def test_masking_can_keep_every_column_in_place() -> None:
    assert mask_passwords("rtsp://ann:secret@cam", same_length=True) == "rtsp://ann:******@cam"
