"""The front door: `edge-prompt COMMAND`. A command's module is imported when the command is asked for, not before."""

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
    """Where a command lives, the extra that brings what it imports (empty: none), and its line in `--help`."""

    module: str
    extra: str
    summary: str


COMMANDS = {
    "export": LazyCommand("edge_prompt_export.commands.export", "export", "Export a frozen backbone into a bundle."),
    "quantize": LazyCommand("edge_prompt_export.commands.quantize", "quantize", "Quantise a bundle of images to int8."),
    "tune": LazyCommand("edge_prompt_export.commands.tune", "export", "Tune a prompt for a task on a frozen backbone."),
    "import": LazyCommand("edge_prompt_export.commands.import_", "export", "Take a prompt that PEFT trained."),
    "export-adapter": LazyCommand(
        "edge_prompt_export.commands.export_adapter", "export", "Write a prompt as an adapter that PEFT opens."
    ),
    "fold": LazyCommand("edge_prompt_runtime.commands.fold", "", "Fold a deep prompt to a prefix, ahead of time."),
    "compile": LazyCommand("edge_prompt_runtime.commands.compile_", "", "Compile a soft prompt ahead of time."),
    "run": LazyCommand("edge_prompt_runtime.commands.run", "", "Answer texts or images under a prompt."),
    "generate": LazyCommand("edge_prompt_runtime.commands.generate", "", "Go on from a text by a language model."),
    "verify": LazyCommand("edge_prompt_runtime.commands.verify", "", "Check a bundle: digests, numbers, prompts."),
    "bench": LazyCommand("edge_prompt_runtime.commands.bench", "", "Measure a bundle on this machine."),
    "tasks": LazyCommand("edge_prompt_runtime.commands.tasks", "", "List the prompts in folders, and what is wrong."),
    "sign": LazyCommand("edge_prompt_runtime.commands.sign", "sign", "Sign bundles and prompts."),
    "inspect": LazyCommand("edge_prompt_runtime.commands.inspect", "", "Say what a bundle or a prompt is."),
}
"""Each command is the function `command` of its module."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they run; their summaries are told without that."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the command `cmd_name`; None if there is none of that name."""
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
    """One frozen network, any number of tasks: export it once, swap prompts on the device."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; our errors become one line on standard error and exit code 1."""
    warnings.showwarning = _show_warning
    try:
        group(args=arguments, prog_name="edge-prompt")
    except (EdgePromptError, OSError) as error:  # what the system refuses needs no traceback either
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """One line a warning, without the place in our source it came from."""
    click.echo(f"Warning: {message}", err=True)
