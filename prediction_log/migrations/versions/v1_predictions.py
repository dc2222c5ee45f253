"""Schema 1: predictions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "1"
down_revision = None


def upgrade() -> None:
    """Create the table of predictions."""
    op.create_table(
        "predictions",
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("row", sa.Integer, nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("model_name", sa.Text, nullable=False),
        sa.Column("model_version", sa.Text, nullable=False),
        sa.Column("shadow", sa.Boolean, nullable=False),
        sa.Column("features", sa.JSON().with_variant(JSONB(), "postgresql"), nullable=False),
        sa.Column("probability", sa.Float, nullable=False),
        sa.Column("predicted", sa.Integer, nullable=False),
        sa.Column("latency_ms", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("request_id", "row", "model_version", "shadow", name="predictions_once"),
    )
    op.create_index("predictions_by_time", "predictions", ["time"])
    op.create_index("predictions_by_version", "predictions", ["model_version", "time"])
