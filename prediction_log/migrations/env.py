"""What Alembic runs first; the connection, and with it the transaction, comes from prediction_log/schema.py."""

from __future__ import annotations

from alembic import context

given = context.config.attributes
context.configure(connection=given["connection"], version_table=given["version_table"])
with context.begin_transaction():
    context.run_migrations()
