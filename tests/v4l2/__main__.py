"""`python -m tests.v4l2`: checks capture from a real /dev/video0, in a small machine.

`python -m tests.v4l2 -- COMMAND` runs another command there. Ends with the exit code of what ran inside.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

from tests.v4l2.kernel import Missing, debian_kernel
from tests.v4l2.machine import Broken, check_programs, run_inside

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "v4l2"
CHECKS = [sys.executable, "-m", "pytest", "tests/v4l2/checks.py", "--verbose", "--color=no", "-p", "no:cacheprovider"]
LIMIT_S = 900


def main() -> int:
    """Run the checks, or the command that was given."""
    parser = argparse.ArgumentParser(prog="python -m tests.v4l2", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--limit", type=float, default=LIMIT_S, metavar="SECONDS", help=f"for the command ({LIMIT_S})")
    parser.add_argument("command", nargs="*", default=CHECKS, help="instead of the checks")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("test-v4l2: terminated"))  # which ends the machine too
    began = time.monotonic()
    try:
        check_programs()
        code = run_inside(debian_kernel(CACHE), given.command, ROOT, given.limit)
    except (Missing, Broken) as what:
        sys.stderr.write(f"test-v4l2: {what}\n")
        return 1
    verdict = "passed" if code == 0 else f"failed with {code}"
    sys.stdout.write(f"test-v4l2: {verdict} after {time.monotonic() - began:.0f} s\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
