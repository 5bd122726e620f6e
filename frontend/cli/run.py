"""``mixit run``: a recipe from nothing to the table, stage by stage."""

import click

from frontend.cli import Command


@click.command(cls=Command)
def run() -> None:
    """Run the stages of a recipe."""
    raise NotImplementedError
