"""Backing a home up, and making a home of a backup."""

from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from app.settings import Settings
from storage.backup import back_up, restore

commands = typer.Typer()

Folder = Annotated[Path, typer.Argument(metavar="DIR")]


@commands.command("backup")
def make_backup(folder: Folder) -> None:
    """Copy records and markets into a new folder, also while the service runs."""
    settings = Settings()
    made = back_up(settings.home, settings.records_url, folder, version("alphaagent"))
    size = sum(file.size for file in made.files)
    typer.echo(f"{len(made.files)} files, {size:,} bytes, are backed up in {folder}")


@commands.command("restore")
def restore_backup(folder: Folder) -> None:
    """Make a home of a backup, after every file of it has been found whole; there must be no home yet."""
    home = Settings().home
    made = restore(folder, home)
    typer.echo(f"{home} is as it was on {made.created_at:%Y-%m-%d %H:%M:%S} UTC")
