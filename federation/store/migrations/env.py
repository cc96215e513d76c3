"""How Alembic runs the migrations: over the connection that the store hands down.

Input: `config.attributes["connection"]`, inside a transaction of the store; `["metadata"]` if the
schema shall be compared (`alembic check`). Output: the schema at its newest revision. There is no
offline mode and no alembic.ini: migrations run when the control plane opens its store.
"""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=context.config.attributes.get("metadata"),
)
context.run_migrations()
