"""The command line, `edge-prompt COMMAND`. The module of a command is imported only when the command is invoked."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import click

from edge_prompt import __version__
from edge_prompt.base.errors import EdgePromptError
from edge_prompt.base.extras import require_extra


class LazyCommand(NamedTuple):
    """The module of a command, the extra it requires (empty for none), and its line in `--help`."""

    module: str
    extra: str
    summary: str


COMMANDS = {
    "export": LazyCommand("edge_prompt_export.commands.export", "export", "Export a frozen backbone into a bundle."),
    "quantize": LazyCommand("edge_prompt_export.commands.quantize", "quantize", "Quantise an image bundle to int8."),
    "tune": LazyCommand("edge_prompt_export.commands.tune", "export", "Tune a prompt for a task on a frozen backbone."),
    "import": LazyCommand("edge_prompt_export.commands.import_", "export", "Import a prompt trained with PEFT."),
    "export-adapter": LazyCommand(
        "edge_prompt_export.commands.export_adapter", "export", "Export a prompt as a PEFT adapter."
    ),
    "fold": LazyCommand("edge_prompt_runtime.commands.fold", "", "Fold a deep prompt into a prefix ahead of time."),
    "compile": LazyCommand("edge_prompt_runtime.commands.compile_", "", "Compile a soft prompt ahead of time."),
    "run": LazyCommand("edge_prompt_runtime.commands.run", "", "Run a bundle on texts or images, with a prompt."),
    "generate": LazyCommand("edge_prompt_runtime.commands.generate", "", "Generate text with a language model."),
    "verify": LazyCommand("edge_prompt_runtime.commands.verify", "", "Verify a bundle's files, outputs and prompts."),
    "bench": LazyCommand("edge_prompt_runtime.commands.bench", "", "Benchmark a bundle on this machine."),
    "tasks": LazyCommand("edge_prompt_runtime.commands.tasks", "", "List the prompts in folders and report problems."),
    "sign": LazyCommand("edge_prompt_runtime.commands.sign", "sign", "Sign bundles and prompts."),
    "inspect": LazyCommand("edge_prompt_runtime.commands.inspect", "", "Describe a bundle or a prompt."),
}
"""The commands by name. Each one is the function `command` of its module."""


class LazyGroup(click.Group):
    """A group that imports a command only when it runs, and lists all commands without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the command `cmd_name`; return None if it does not exist."""
        if cmd_name not in COMMANDS:
            return None
        lazy = COMMANDS[cmd_name]
        if lazy.extra:
            require_extra(lazy.extra, f"edge-prompt {cmd_name}")
        command: click.Command = importlib.import_module(lazy.module).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.summary) for name, lazy in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edge-prompt")
def group() -> None:
    """Run any number of tasks on one frozen network: export it once, then swap prompts on the device."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line. Expected errors become one line on standard error and exit code 1."""
    warnings.showwarning = _show_warning
    try:
        group(args=arguments, prog_name="edge-prompt")
    except (EdgePromptError, OSError) as error:  # operating-system errors need no traceback either
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning as one line, without its source location."""
    click.echo(f"Warning: {message}", err=True)
