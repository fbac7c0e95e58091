"""`frameloom doctor`: what this machine has, what it lacks, and the exact thing to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tools.check import Check
from tools.checks import run_checks

STYLES = {"ok": "green", "missing": "yellow", "problem": "bold red"}


def doctor(json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False) -> None:
    """Check this machine; exit 1 if something is broken without which nothing runs."""
    checks = list(run_checks())
    console = Console(highlight=False)
    if json:
        console.print_json(data=[asdict(check) for check in checks])
    else:
        console.print(_table(checks))
        console.print(_verdict(checks))
    if any(check.broken for check in checks):
        raise typer.Exit(1)


def _table(checks: Sequence[Check]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, min_width=max(len(check.name) for check in checks))
    table.add_column(no_wrap=True, min_width=max(map(len, STYLES)))
    table.add_column(overflow="fold")
    for check in checks:
        text = Text(check.text)
        if check.advice:
            text.append(f"\n-> {check.advice}", style="dim")
        table.add_row(check.name, Text(check.status, style=STYLES[check.status]), text)
    return table


def _verdict(checks: Sequence[Check]) -> Text:
    if broken := [check.name for check in checks if check.broken]:
        return Text(f"Frameloom cannot run here: {', '.join(broken)}", style="bold red")
    problems = sum(check.status == "problem" for check in checks)
    return Text("Frameloom can run here" + (f"; problems: {problems}" if problems else ""), style="bold")
