"""``python -m doogie_client.cli``."""

from doogie_client.cli import main

main()
