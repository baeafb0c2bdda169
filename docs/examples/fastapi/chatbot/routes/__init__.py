"""The routes, all under ``/api/v1``."""
