"""The keys of config.yaml's `drift`: what is compared with what, from when on it counts, and what follows from it."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from stepkit.settings.serve import Names, Share, TextOrNull, make_setting
from stepkit.table.columns import Strict

CHANGE_SIGNALS = ("drift_share", "score_drift", "label_drift", "estimated_auc", "realised_auc")
"""Signals of a population or a world that changed: a new model may help."""

QUALITY_SIGNALS = ("missing", "unknown_codes", "out_of_range", "columns_gone", "clock")
"""Signals of data that are broken: a model trained on them would learn the fault."""

SIGNALS = (*CHANGE_SIGNALS, *QUALITY_SIGNALS)


class Policy(Strict):
    """When a person is told, and when the model is trained again."""

    alert_signals: Names = make_setting(list(SIGNALS), "signals that alert")
    retrain_signals: Names = make_setting(
        list(CHANGE_SIGNALS), "signals that call for retraining; broken data teach nothing"
    )
    confirm: PositiveInt = make_setting(2, "retrain when so many windows alarm ...")
    of_windows: PositiveInt = make_setting(3, "... of the last so many of this model version")
    retrain_min_rows: NonNegativeInt = make_setting(1000, "never retrain for a window of fewer rows")
    cooldown_hours: float = make_setting(24.0, "no retraining within so many hours after one", ge=0.0)
    retrain_cap: NonNegativeInt = make_setting(3, "at most so many retrainings ...")
    cap_days: PositiveFloat = make_setting(30.0, "... within so many days")
    alert_cooldown_hours: float = make_setting(6.0, "the same alarm is told again only after so many hours", ge=0.0)

    @model_validator(mode="after")
    def _verify_policy(self) -> Self:
        for name in (*self.alert_signals, *self.retrain_signals):
            if name not in SIGNALS:
                raise ValueError(f"unknown signal '{name}'; the known ones: {', '.join(SIGNALS)}")
        if self.confirm > self.of_windows:
            raise ValueError(f"confirm ({self.confirm}) cannot exceed of_windows ({self.of_windows})")
        return self


class Monitoring(Policy):
    """Each key with its default, which counts where config.yaml does not name the key."""

    model_name: TextOrNull = make_setting(
        "", "registered model to watch; null: register.model_name", pattern=r"^[^/:]*$"
    )
    reference: TextOrNull = make_setting(
        "",
        "null: the training data of the champion; else models:/NAME@ALIAS, models:/NAME/3, "
        "runs:/RUN_ID/NAME, a file or any address",
    )
    current: str = make_setting(
        "log:?rows=2000",
        "the newest rows that this version answered; log:?from=TIME&to=TIME, or a file or address",
        min_length=1,
    )
    log_url: TextOrNull = make_setting(
        "", "prediction log; null: PREDICTION_LOG_URL, else predictions.db in the repository root"
    )
    tests: Literal["sized", "evidently"] = make_setting(
        "sized", "chosen by column and window size; evidently: Evidently's own choice and thresholds"
    )
    alpha: float = make_setting(0.002, "chance that any test of a window errs where nothing changed", gt=0.0, lt=1.0)
    min_effect: Share = make_setting(
        0.03, "a smaller shift does not count, however certain: share of rows that would have to move"
    )
    min_share: Share = make_setting(
        0.01, "a smaller rise of the share that is missing, unknown or out of range does not count"
    )
    auc_drop: Share = make_setting(
        0.02, "alarm when the AUC, estimated or realised, is certainly lower than before by more"
    )
    drift_share: Share = make_setting(0.0, "alarm when a larger share of the columns drifts; 0: one column is enough")
    min_rows: PositiveInt = make_setting(200, "a window of fewer rows is not judged")
    labelled_min_rows: PositiveInt = make_setting(
        1000, "labelled: fewer rows with a known label are not worth a training"
    )
