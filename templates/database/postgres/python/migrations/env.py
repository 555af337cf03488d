"""Runs the migrations, all in one transaction, on the database that the application uses."""

import psycopg
from alembic import context
from alembic.util import CommandError
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.exc import DBAPIError

from app import database, database_check
from app.models import UserError

MIGRATION_LOCK = 4_150_712  # any number that no other user of this database takes

with database.server():
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(database.url()), poolclass=NullPool)
    try:
        with engine.connect() as connection:
            database_check.check_pgvector(connection.scalar(text(database_check.PGVECTOR)))
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
        raise UserError(f"{error}. {database_check.NEWER}") from error
