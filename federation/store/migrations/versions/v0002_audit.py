"""The audit log: one line of JSON for each entry, in the order of their numbers.

Input: a database with records. Output: the table `audit` beside them, which only grows: triggers
keep mistakes away from it. (Whoever may write the file can drop them: that is what the hashes are
for.)
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table, and the triggers that refuse to change it."""
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("json", sa.Text, nullable=False),
    )
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER audit_no_{verb.lower()} BEFORE {verb} ON audit BEGIN "
            "SELECT RAISE(ABORT, 'the audit log is only appended to'); END"
        )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("audit")
