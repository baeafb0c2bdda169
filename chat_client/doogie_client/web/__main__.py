"""``python -m doogie_client.web``."""

from doogie_client.web import main

main()
