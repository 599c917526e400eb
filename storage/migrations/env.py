"""Run by Alembic for each command: applies the revisions on the connection that :func:`upgrade` passes."""

from alembic import context

from storage.schema import metadata

# The transaction is the caller's: either the whole upgrade is there or nothing of it.
context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
