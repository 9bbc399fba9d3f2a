"""latencies that workers have measured

Revision ID: 0005_latencies
Revises: 0004_understood
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from core.ledger.tables import Json

revision = "0005_latencies"
down_revision = "0004_understood"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "latencies",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("latency", Json, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_latencies_model", "latencies", ["model"])


def downgrade() -> None:
    op.drop_table("latencies")
