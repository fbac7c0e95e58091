"""`frameloom engines`: compile models ahead of a run, see what is compiled, and whether it says what its file says."""

from __future__ import annotations

import typer

from tools.engines.build import build
from tools.engines.cached import clean, list_engines, show
from tools.engines.quantize import quantize
from tools.engines.verify import verify

app = typer.Typer(help="Build, quantize, list and check compiled engines.", no_args_is_help=True)

app.command()(build)
app.command()(quantize)
app.command("list")(list_engines)
app.command()(show)
app.command()(verify)
app.command()(clean)
