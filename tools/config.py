"""`frameloom config`: check a configuration, explain every value in effect, print the schema for editors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from engines.masking import mask_passwords
from pipeline.config.keys import dotted, leaves
from pipeline.config.load import Loaded, load_settings, parse_set
from pipeline.config.secrets import shown_at
from pipeline.config.settings import Settings

app = typer.Typer(name="config", help="Check and explain the configuration.", no_args_is_help=True)

Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set any key, such as detect.confidence=0.4.")
]


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="The configuration to check.")] = Path("config.yaml"),
) -> None:
    """Say whether a configuration is right, or list everything that is wrong with it."""
    load_settings(file)
    typer.echo(f"{file}: ok")


@app.command()
def explain(
    file: Annotated[Path | None, typer.Argument(help="The configuration; without it, the defaults.")] = None,
    set_: Sets = None,
) -> None:
    """List every value in effect, what it means and where it comes from."""
    loaded = load_settings(file, [parse_set(text) for text in set_ or ()])
    Console().print(_table(loaded))


@app.command()
def schema() -> None:
    """Print the JSON Schema of the configuration, for completion in editors."""
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    typer.echo(json.dumps(dialect | Settings.model_json_schema(), indent=2))


def _table(loaded: Loaded) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), expand=True)
    table.add_column("key", no_wrap=True)
    table.add_column("value", overflow="fold", ratio=3)
    table.add_column("from", overflow="fold", ratio=2)
    for key, value, field in leaves(loaded.settings):
        origin = str(loaded.origins[dotted(key)])
        meaning = (mask_passwords(shown_at(key, value)) + "\n", (field.description or "", "dim"))
        table.add_row(dotted(key), Text.assemble(*meaning), Text(mask_passwords(origin), "dim" * (origin == "default")))
    return table
