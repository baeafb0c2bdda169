"""The ``doogie`` command. Needs the extra ``[cli]``.

app        the commands
arguments  what is typed, parsed: environment variables, tool arguments. Pure
output     what is shown: tables, one server, errors; control characters made visible
join       ``doogie stdio``: own stdin and stdout joined to a server's
"""

import sys


def main() -> None:
    """Entry point; ``doogie --help`` documents commands and exit codes."""
    try:
        from doogie_client.cli.app import app
    except ModuleNotFoundError as exc:
        sys.exit(f"doogie: {exc.name} is not installed: pip install 'doogie-client[cli]'")
    app()
