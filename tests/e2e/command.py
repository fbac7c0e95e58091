"""The real `frameloom` program, run as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("frameloom")
NO_MODEL = ("--set", "detect.enabled=false")


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    error: str

    @property
    def complaint(self) -> str:
        """The one line on standard error, without the program's name; fails where there is more or less."""
        lines = self.error.splitlines()
        assert len(lines) == 1, self.error
        assert lines[0].startswith("frameloom: ")
        return lines[0].removeprefix("frameloom: ")


def frameloom(*arguments: str | Path, cwd: Path, env: dict[str, str] | None = None, timeout_s: float = 90) -> Done:
    """Run a command to its end. No test may touch the user's own cache, display or models."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("FRAMELOOM_", "DISPLAY"))}
    environment = kept | {"FRAMELOOM_CACHE": str(cwd / ".cache")} | (env or {})
    done = subprocess.run(
        [PROGRAM, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout_s
    )
    return Done(done.returncode, done.stdout, done.stderr)
