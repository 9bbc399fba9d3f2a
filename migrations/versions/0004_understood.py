"""what was understood of a file, and what its user says of it

Revision ID: 0004_understood
Revises: 0003_keys_and_deliveries
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from core.ledger.tables import Json

revision = "0004_understood"
down_revision = "0003_keys_and_deliveries"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("datasets", sa.Column("understood", Json, nullable=True))
    op.add_column("uploads", sa.Column("asked", Json, nullable=True))


def downgrade() -> None:
    op.drop_column("uploads", "asked")
    op.drop_column("datasets", "understood")
