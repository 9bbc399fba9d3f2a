"""quotas of a key, and how a webhook's message fares

Revision ID: 0003_keys_and_deliveries
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003_keys_and_deliveries"
down_revision = "0002"
branch_labels = None
depends_on = None

QUOTAS = ("max_queued", "max_running", "max_stored_bytes")


def upgrade() -> None:
    for name in QUOTAS:
        op.add_column("keys", sa.Column(name, sa.BigInteger(), nullable=True))
    for table in ("jobs", "datasets", "uploads"):
        op.add_column(table, sa.Column("key_id", sa.String(length=64), nullable=True))
    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        batch_op.add_column(sa.Column("tried_at", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("status", sa.Integer(), nullable=True))
        batch_op.alter_column("due_at", existing_type=sa.BigInteger(), nullable=True)


def downgrade() -> None:
    op.execute("DELETE FROM deliveries WHERE due_at IS NULL")
    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        batch_op.alter_column("due_at", existing_type=sa.BigInteger(), nullable=False)
        batch_op.drop_column("status")
        batch_op.drop_column("tried_at")
    for table in ("jobs", "datasets", "uploads"):
        op.drop_column(table, "key_id")
    for name in QUOTAS:
        op.drop_column("keys", name)
