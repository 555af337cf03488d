"""What runs beside the application where no setting names a server: that of the database."""

from app import database

running = database.server
