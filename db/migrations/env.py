"""Alembic's entry point: runs the migrations on the connection that `db.migrate` hands in."""

from alembic import context

from db.models import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
with context.begin_transaction():
    context.run_migrations()
