"""Runs the migrations, all in one transaction, on the database that the application uses."""

from alembic import context
from sqlalchemy import create_engine, make_url, text

from app import database

MIGRATION_LOCK = 4_150_712  # any number that no other user of this database takes

with database.server():
    engine = create_engine(make_url(database.url()).set(drivername="postgresql+psycopg"))
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
        connection.commit()
        context.configure(connection=connection)
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()
    engine.dispose()
