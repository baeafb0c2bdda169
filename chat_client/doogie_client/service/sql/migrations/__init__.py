"""The schema's versions, for Alembic. ``migrate.py`` runs them; they are not an Alembic project of anybody's own."""
