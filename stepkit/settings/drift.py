"""The keys of config.yaml's `drift`: what is compared with what, from when on it counts, and what follows from it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from stepkit.settings.serve import Names, Share, TextOrNull
from stepkit.table.columns import Strict

CHANGE_SIGNALS = ("drift_share", "score_drift", "label_drift", "estimated_auc", "realised_auc")
"""Signals of a population or a world that changed: a new model may help."""

QUALITY_SIGNALS = ("missing", "unknown_codes", "out_of_range", "columns_gone", "clock")
"""Signals of data that are broken: a model trained on them would learn the fault."""

SIGNALS = (*CHANGE_SIGNALS, *QUALITY_SIGNALS)


class Policy(Strict):
    """When a person is told, and when the model is trained again."""

    alert_signals: Names = Field(list(SIGNALS), description="signals that alert")
    retrain_signals: Names = Field(
        list(CHANGE_SIGNALS), description="signals that call for retraining; broken data teach nothing"
    )
    confirm: PositiveInt = Field(2, description="retrain when so many windows alarm ...")
    of_windows: PositiveInt = Field(3, description="... of the last so many of this model version")
    retrain_min_rows: NonNegativeInt = Field(1000, description="never retrain for a window of fewer rows")
    cooldown_hours: float = Field(24.0, ge=0.0, description="no retraining within so many hours after one")
    retrain_cap: NonNegativeInt = Field(3, description="at most so many retrainings ...")
    cap_days: PositiveFloat = Field(30.0, description="... within so many days")
    alert_cooldown_hours: float = Field(
        6.0, ge=0.0, description="the same alarm is told again only after so many hours"
    )

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        for name in (*self.alert_signals, *self.retrain_signals):
            if name not in SIGNALS:
                raise ValueError(f"unknown signal '{name}'; the known ones: {', '.join(SIGNALS)}")
        if self.confirm > self.of_windows:
            raise ValueError(f"confirm ({self.confirm}) cannot exceed of_windows ({self.of_windows})")
        return self


class Monitoring(Policy):
    """Each key with its default, which counts where config.yaml does not name the key."""

    model_name: TextOrNull = Field(
        "", pattern=r"^[^/:]*$", description="registered model to watch; null: register.model_name"
    )
    reference: TextOrNull = Field(
        "",
        description="null: the training data of the champion; else models:/NAME@ALIAS, models:/NAME/3, "
        "runs:/RUN_ID/NAME, a file or any address",
    )
    current: str = Field(
        "log:?rows=2000",
        min_length=1,
        description="the newest rows that this version answered; log:?from=TIME&to=TIME, or a file or address",
    )
    log_url: TextOrNull = Field(
        "", description="prediction log; null: PREDICTION_LOG_URL, else predictions.db in the repository root"
    )
    tests: Literal["sized", "evidently"] = Field(
        "sized", description="chosen by column and window size; evidently: Evidently's own choice and thresholds"
    )
    alpha: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        0.002, description="chance that any test of a window errs where nothing changed"
    )
    min_effect: Share = Field(
        0.03,
        description="a smaller shift does not count, however certain: share of rows that would have to move",
    )
    min_share: Share = Field(
        0.01, description="a smaller rise of the share that is missing, unknown or out of range does not count"
    )
    auc_drop: Share = Field(
        0.02, description="alarm when the AUC, estimated or realised, is certainly lower than before by more"
    )
    drift_share: Share = Field(
        0.0, description="alarm when a larger share of the columns drifts; 0: one column is enough"
    )
    min_rows: PositiveInt = Field(200, description="a window of fewer rows is not judged")
    labelled_min_rows: PositiveInt = Field(
        1000, description="labelled: fewer rows with a known label are not worth a training"
    )
