"""Progress of commands, as log lines on standard error."""

from __future__ import annotations

import logging

import click

LOGGED_PACKAGES = ("edge_prompt_export",)
"""The packages whose log commands show. The runtime logs for the program that embeds it, not for users of commands."""


class _EchoHandler(logging.Handler):
    """Write each record as one line to standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record."""
        click.echo(record.getMessage(), err=True)


def log_to_stderr(level: int) -> None:
    """Send the log records of our packages, from `level` up, to standard error."""
    for name in LOGGED_PACKAGES:
        logger = logging.getLogger(name)
        logger.handlers[:] = [_EchoHandler()]
        logger.setLevel(level)
        logger.propagate = False
