"""How commands tell what they do: log lines on standard error."""

from __future__ import annotations

import logging

import click

LOGGED_PACKAGES = ("edge_prompt_export",)
"""What a runtime logs is for the program that it is part of, not for who waits for a command."""


class _EchoHandler(logging.Handler):
    """Writes each record as one line to standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record."""
        click.echo(record.getMessage(), err=True)


def log_to_stderr(level: int) -> None:
    """Send what our packages log from `level` on to standard error."""
    for name in LOGGED_PACKAGES:
        logger = logging.getLogger(name)
        logger.handlers[:] = [_EchoHandler()]
        logger.setLevel(level)
        logger.propagate = False
