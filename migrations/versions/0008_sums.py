"""stored files are found by their sha256

Revision ID: 0008_sums
Revises: 0007_turns
"""

from __future__ import annotations

from alembic import op

revision = "0008_sums"
down_revision = "0007_turns"
branch_labels = None
depends_on = None

TABLES = ("datasets", "parts", "files")


def upgrade() -> None:
    for table in TABLES:
        op.create_index(f"ix_{table}_sha256", table, ["sha256"])


def downgrade() -> None:
    for table in TABLES:
        op.drop_index(f"ix_{table}_sha256", table)
