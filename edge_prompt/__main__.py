"""`python -m edge_prompt`, for where scripts are not on the path."""

from edge_prompt.cli import main

main()
