"""``python -m doogie_proxy`` is ``doogie-proxy``."""

from doogie_proxy.cli import app

app()
