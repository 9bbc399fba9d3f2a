"""who is logged in with a key in a browser

Revision ID: 0005_logins
Revises: 0004_understood
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005_logins"
down_revision = "0004_understood"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "logins",
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("key_id", sa.String(64), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["key_id"], ["keys.id"], name="fk_logins_key_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("sha256", name="pk_logins"),
    )


def downgrade() -> None:
    op.drop_table("logins")
