"""From an administrator's command line to a ``StartRequest``: strict and pure. Nothing is run, guessed or dropped."""
