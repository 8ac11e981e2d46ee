"""Run the migrations on the connection that `ledger.store.migrate` hands over, inside its transaction."""

from alembic import context

from ledger.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # All steps or none, on SQLite as well: `migrate` holds the transaction.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
