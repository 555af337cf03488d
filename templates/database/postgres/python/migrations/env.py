"""Runs the migrations, all in one transaction, on the database that the application uses."""

import psycopg
from alembic import context
from alembic.util import CommandError
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.exc import DBAPIError

from app import database
from app.models import UserError

MIGRATION_LOCK = 4_150_712  # any number that no other user of this database takes
PGVECTOR = "SELECT coalesce(installed_version, default_version) FROM pg_available_extensions WHERE name = 'vector'"

with database.server():
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(database.url()), poolclass=NullPool)
    try:
        with engine.connect() as connection:
            found = connection.scalar(text(PGVECTOR)) or "none"
            if found == "none" or tuple(map(int, found.split("."))) < (0, 8, 4):
                raise UserError(f"The database needs pgvector 0.8.4 or later, and has {found}.")
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
            connection.commit()
            context.configure(connection=connection)
            with context.begin_transaction():
                context.run_migrations()
            connection.commit()
    except DBAPIError as error:
        why = str(error.orig).splitlines()[0]
        raise UserError(f"The database of DATABASE_URL cannot be used: {why}") from error
    except CommandError as error:
        raise UserError(f"{error}. A newer version of this code has migrated the database: deploy that one.") from error
