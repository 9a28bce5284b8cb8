"""The workstation's commands, one file per command."""
