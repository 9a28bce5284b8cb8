"""`python -m edge_prompt`, for environments whose scripts are not on the path."""

from edge_prompt.cli import main

main()
