"""Numbers with their nouns, for sentences."""

from __future__ import annotations


def counted(number: int, one: str, several: str | None = None) -> str:
    """Return a number with its noun: 1 pair, 2,000 pairs."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def people(number: int) -> str:
    """Return 1 person, 2 people."""
    return counted(number, "person", "people")
