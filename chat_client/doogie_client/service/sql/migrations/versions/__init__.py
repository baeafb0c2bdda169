"""One module for each version of the schema: ``revision``, ``down_revision`` and ``upgrade(op)``."""
