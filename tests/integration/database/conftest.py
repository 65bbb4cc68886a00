"""Fixtures of the database tests: a real PostgreSQL, and in it a database that is ready for the operator."""

from support.database import database, shared_database, unjucks_database

__all__ = ["database", "shared_database", "unjucks_database"]
