"""Schema of the section `drift` of config.yaml: data to compare, thresholds, alerts and retraining."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from stepkit.settings.serve import Names, Share, TextOrNull, make_setting
from stepkit.table.columns import Strict

CHANGE_SIGNALS = ("drift_share", "score_drift", "label_drift", "estimated_auc", "realised_auc")
"""Signals of changed clients or changed behaviour: a new model may help."""

QUALITY_SIGNALS = ("missing", "unknown_codes", "out_of_range", "columns_gone", "clock")
"""Signals of broken data: a model trained on them would learn the fault."""

STABILITY_SIGNALS = ("psi_score", "csi")
"""Signals that repeat drift_share and score_drift as stability indices; shown in reports, no alert by default."""

GROUP_SIGNAL = "group_approval"
"""Signal of a protected group that is approved less than before; shown in reports, no alert by default."""

SIGNALS = (*CHANGE_SIGNALS, *QUALITY_SIGNALS, *STABILITY_SIGNALS, GROUP_SIGNAL)


class Policy(Strict):
    """Conditions for alerts and for retraining."""

    alert_signals: Names = make_setting(
        [*CHANGE_SIGNALS, *QUALITY_SIGNALS],
        "signals that send an alert; also possible: psi_score, csi, group_approval",
    )
    retrain_signals: Names = make_setting(
        list(CHANGE_SIGNALS), "signals that call for retraining; leave out those of broken data"
    )
    confirm: PositiveInt = make_setting(2, "retrain if at least this many windows alarm ...")
    of_windows: PositiveInt = make_setting(3, "... among this many of the latest windows of the model version")
    retrain_min_rows: NonNegativeInt = make_setting(1000, "fewest rows of a window that may start a retraining")
    cooldown_hours: float = make_setting(24.0, "hours after a retraining before the next one may start", ge=0.0)
    retrain_cap: NonNegativeInt = make_setting(3, "most retrainings ...")
    cap_days: PositiveFloat = make_setting(30.0, "... within this many days")
    alert_cooldown_hours: float = make_setting(6.0, "hours before the same alert is sent again", ge=0.0)

    @model_validator(mode="after")
    def _verify_policy(self) -> Self:
        for name in (*self.alert_signals, *self.retrain_signals):
            if name not in SIGNALS:
                raise ValueError(f"unknown signal '{name}'. Known signals: {', '.join(SIGNALS)}")
        if self.confirm > self.of_windows:
            raise ValueError(f"confirm ({self.confirm}) cannot exceed of_windows ({self.of_windows})")
        return self


class Monitoring(Policy):
    """Keys and their defaults, which apply to keys that config.yaml leaves out."""

    model_name: TextOrNull = make_setting(
        "", "registered model to watch; null: the value of register.model_name", pattern=r"^[^/:]*$"
    )
    reference: TextOrNull = make_setting(
        "",
        "data to compare with: models:/NAME@ALIAS, models:/NAME/3, runs:/RUN_ID/NAME, a file or a URL; null: "
        "the training data of the champion",
    )
    current: str = make_setting(
        "log:?rows=2000",
        "data to check: newest rows (log:?rows=N), a window (log:?from=TIME&to=TIME), a file or a URL",
        min_length=1,
    )
    log_url: TextOrNull = make_setting(
        "", "prediction log; null: PREDICTION_LOG_URL, else predictions.db in the repository root"
    )
    tests: Literal["sized", "evidently"] = make_setting(
        "sized", "sized: chosen by column type and window size; evidently: Evidently's own tests and limits"
    )
    alpha: float = make_setting(
        0.002, "probability of a false alarm in a window when nothing has changed", gt=0.0, lt=1.0
    )
    min_effect: Share = make_setting(0.03, "smallest shift that counts, as the share of rows that would have to change")
    min_psi: NonNegativeFloat = make_setting(0.05, "smallest stability index that counts (psi_score, csi)")
    min_share: Share = make_setting(
        0.01, "smallest rise that counts in the share of missing, unknown or out-of-range values"
    )
    auc_drop: Share = make_setting(
        0.02, "alarm if the AUC is below the reference by more than this, beyond sampling error"
    )
    drift_share: Share = make_setting(
        0.0, "alarm if more than this share of the columns drifts; 0: one column is enough"
    )
    min_rows: PositiveInt = make_setting(200, "fewest rows of a window; a smaller window is not judged")
    labelled_min_rows: PositiveInt = make_setting(
        1000, "entry point labelled: fewest rows with a label that are worth a training"
    )
