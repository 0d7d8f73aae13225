"""`vpipe models`: one small file a command, imported when it is called."""

from __future__ import annotations

import click

from vpipe.plugin import Command

OWN = {
    "benchmark": Command("vpipe.models.commands.benchmark:benchmark", "Measure how fast a model runs."),
    "convert": Command("vpipe.models.commands.convert:convert", "Convert a model file, whole or a part of it."),
    "fetch": Command("vpipe.models.commands.fetch:fetch", "Bring a model that vpipe can use but does not carry."),
    "list": Command("vpipe.models.commands.list:list_", "List the models of the installed pipelines."),
    "quantize": Command("vpipe.models.commands.quantize:quantize", "Make a model faster in 8-bit integers."),
    "show": Command("vpipe.models.commands.show:show", "Tell what a model is, what goes in and what comes out."),
    "verify": Command("vpipe.models.commands.verify:verify", "Check a model's files and run it once."),
}


class _Models(click.Group):
    """Imports a command only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(OWN)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in OWN:
            return None
        command: click.Command = OWN[cmd_name].load()
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.help) for name, command in sorted(OWN.items())])


@click.group(cls=_Models)
def models() -> None:
    """Bring, list, check and convert models.

    MODEL is a manifest (a .toml file), a model that was fetched (portrait, portrait/square), or the name of a
    pipeline, for the models that it uses.
    """
