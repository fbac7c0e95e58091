"""What is shown while an engine is built: lines in a log, a bar on a terminal."""

from __future__ import annotations

import io
import re
import threading

import pytest
from rich.console import Console

from tools.engines.progress import build_progress


def lines(*steps: tuple[str, float]) -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    with build_progress("yolox-nano", console) as progress:
        for doing, share in steps:
            progress(doing, share)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_log_gets_a_line_for_each_tenth_at_most() -> None:
    shown = lines(*(("timing kernels", number / 200) for number in range(201)))
    assert shown[0] == "yolox-nano:   0% timing kernels"
    assert shown[-1] == "yolox-nano: 100% timing kernels"
    assert len(shown) == 11


def test_a_log_never_goes_back() -> None:
    assert lines(("a", 0.5), ("b", 0.2), ("c", 0.55), ("d", 0.6)) == ["yolox-nano:  50% a", "yolox-nano:  60% d"]


def test_words_of_tensorrt_are_printed_as_they_are() -> None:
    assert lines(("[red]Building [0]", 0.0)) == ["yolox-nano:   0% [red]Building [0]"]


def test_nothing_is_shown_where_nothing_is_built() -> None:
    assert lines() == []


def test_threads_may_tell_at_once() -> None:
    console = Console(file=io.StringIO(), width=80)
    with build_progress("yolox-nano", console) as progress:
        threads = [threading.Thread(target=progress, args=("x", 0.3)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == "yolox-nano:  30% x\n"


@pytest.mark.parametrize("columns", [40, 80])
def test_a_terminal_has_a_bar_with_the_model_the_share_and_what_is_done(columns: int) -> None:
    console = Console(file=io.StringIO(), width=columns, force_terminal=True, color_system=None)
    with build_progress("yolox-nano", console) as progress:
        progress("Building [a] from TensorRT's many long words for what it is doing", 0.25)
        progress("Building [b]", 0.1)
    assert isinstance(console.file, io.StringIO)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())
    assert "yolox-nano" in plain
    assert "25%" in plain
    assert "Building [b]" in plain or columns < 80
    assert "10%" not in plain
    assert all(len(line) <= columns for line in re.split(r"[\r\n]+", plain))
