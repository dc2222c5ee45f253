"""Schema 2: feedback (true labels)."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = "1"


def upgrade() -> None:
    """Create the table of labels."""
    op.create_table(
        "feedback",
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("row", sa.Integer, nullable=False),
        sa.Column("label", sa.Integer, nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("request_id", "row", name="feedback_once"),
    )
    op.create_index("feedback_by_time", "feedback", ["time"])
