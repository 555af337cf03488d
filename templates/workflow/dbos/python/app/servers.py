"""What runs beside the application where no setting names a server: the database. DBOS has none."""

from app import database

running = database.server
