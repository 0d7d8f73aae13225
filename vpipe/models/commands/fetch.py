"""`vpipe models fetch`."""

from __future__ import annotations

import click

from vpipe.models.fetch import ensure
from vpipe.models.fetch import fetch as fetch_anew


@click.command()
@click.argument("name")
@click.option("--again", is_flag=True, help="Even if it is there.")
def fetch(name: str, again: bool) -> None:
    """Bring the model NAME into the user's cache, check it, and print its manifest's path.

    Works without a network where it is there already.
    """
    click.echo((fetch_anew if again else ensure)(name))
