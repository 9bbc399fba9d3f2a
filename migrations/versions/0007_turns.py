"""when a worker last took a job of a tenant

Revision ID: 0007_turns
Revises: 0006_latencies
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007_turns"
down_revision = "0006_latencies"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tenants", sa.Column("served_at", sa.BigInteger, nullable=True))


def downgrade() -> None:
    op.drop_column("tenants", "served_at")
