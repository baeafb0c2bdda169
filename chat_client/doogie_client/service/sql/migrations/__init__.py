"""The schema's versions, for Alembic; ``migrate.py`` runs them."""
