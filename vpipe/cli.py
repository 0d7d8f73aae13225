"""The command line: the engine's own commands, and those of the installed products.

Exit codes: 0 all done, 1 the run itself failed, 2 wrong use, 3 some files failed, 130 interrupted.
"""

from __future__ import annotations

import atexit
import gc
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import click

from vpipe import __version__
from vpipe.errors import VpipeError
from vpipe.plugin import Command

OWN = {
    "bench": Command("vpipe.bench.commands:bench", "Measure vpipe on this machine."),
    "models": Command("vpipe.models.commands:models", "Bring, list, check and convert models."),
    "tune": Command("vpipe.tune.commands:tune", "Find the fastest settings of a pipeline on this machine."),
    "trace": Command("vpipe.trace.commands:trace", "Draw who was busy and who waited in a traced run."),
}
"""Commands of the engine that are imported only when they are called."""


class _Commands(click.Group):
    """Finds product commands by entry point, and imports one only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        from vpipe.plugin import discover

        return sorted({*OWN, *super().list_commands(ctx), *discover().commands()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        from vpipe.plugin import discover

        found = OWN.get(cmd_name) or discover().commands().get(cmd_name)
        if found is None:
            return None
        command: click.Command = found.load()
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from vpipe.plugin import discover

        rows = [(name, command.get_short_help_str(80)) for name, command in self.commands.items()]
        rows += [(name, command.help) for name, command in {**OWN, **discover().commands()}.items()]
        with formatter.section("Commands"):
            formatter.write_dl(sorted(rows))
        for error in discover().broken.values():
            formatter.write_paragraph()
            formatter.write_text(f"Not usable: {error}")


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="vpipe")
@click.option("-v", "--verbose", count=True, help="Say more on standard error; twice: everything.")
def cli(verbose: int) -> None:
    """Run neural networks over video on CPU servers."""
    if verbose:
        from vpipe.log import to_stderr

        to_stderr(logging.INFO if verbose == 1 else logging.DEBUG)


@cli.command()
@click.argument("pipeline")
@click.option("--sample", help="every, keyframes, N/s or n=N.")
def check(pipeline: str, sample: str | None) -> None:
    """Print the plan of PIPELINE (a .toml file or a product's name) for this machine; starts nothing."""
    from vpipe.pipeline import Pipeline

    loaded = Pipeline.load(pipeline, None if sample is None else {"source.sample": sample})
    for line in loaded.plan().lines():
        click.echo(line)
    found = "none; vpipe tune makes one" if loaded.profile is None else loaded.profile.line()
    click.echo(f"  profile   {found}")


@cli.command()
@click.argument("pipeline")
@click.option(
    "-o", "--out", type=click.Path(dir_okay=False, path_type=Path), help="Write here and not to the terminal."
)
def graph(pipeline: str, out: Path | None) -> None:
    """Draw the processes and rings of PIPELINE as a Mermaid flow chart."""
    from vpipe.diagram import mermaid
    from vpipe.pipeline import Pipeline

    text = mermaid(Pipeline.load(pipeline).plan())
    if out is None:
        click.echo(text, nl=False)
    else:
        out.write_text(text)


@cli.command()
@click.argument("pipeline")
@click.argument("sources", nargs=-1, required=True)
@click.option("-o", "--out", required=True, type=click.Path(file_okay=False), help="Output directory.")
@click.option("--sample", help="every, keyframes, N/s or n=N.")
@click.option("--workers", type=click.IntRange(1), help="Decode workers.")
@click.option("--fresh", is_flag=True, help="Forget earlier results in the output directory.")
@click.option("--metrics", metavar="HOST:PORT", help="Serve Prometheus metrics while the run lasts.")
@click.option("--trace", metavar="FILE", help="Write what every worker was at, for Perfetto and vpipe trace.")
def run(
    pipeline: str,
    sources: tuple[str, ...],
    out: str,
    sample: str | None,
    workers: int | None,
    fresh: bool,
    metrics: str | None,
    trace: str | None,
) -> None:
    """Run PIPELINE (a .toml file or a product's name) over SOURCES and print a line of JSON a file."""
    from vpipe.forkserver import start_early

    start_early()
    from vpipe.models.fetch import fetch_missing
    from vpipe.pipeline import Pipeline
    from vpipe.plain import plain

    overrides: dict[str, Any] = {}
    if sample is not None:
        overrides["source.sample"] = sample
    if workers is not None:
        overrides["decode.workers"] = workers
    fetch_missing(pipeline)
    loaded = Pipeline.load(pipeline, overrides)
    failed = False
    with loaded.run(sources, out, fresh=fresh, metrics=metrics, progress=True, trace=trace) as work:
        work.handle_signals()
        for row in work:
            failed |= row["status"] == "failed"
            click.echo(json.dumps(plain(row), allow_nan=False))
    if failed:
        sys.exit(3)


def main() -> None:
    """Run the command line; errors become one line and an exit code."""
    # NumPy would start a thread for every core, which take 0.1 s of CPU time and have nothing to do here.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # What is being imported is no garbage, nor is it at the end: a seventh of the time that a short run takes.
    gc.set_threshold(50_000, 20, 20)
    atexit.register(gc.freeze)
    try:
        cli(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except VpipeError as error:
        message = str(error).encode("utf-8", "surrogateescape")
        sys.stderr.flush()
        sys.stderr.buffer.write(b"vpipe: " + message + b"\n")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader of our output has left, as `| head` does: nothing to complain about.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
