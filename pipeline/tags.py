"""Names of tags and artifacts of pipeline runs and jobs, which the report, `ci/` and later runs read."""

FINGERPRINT = "fingerprint"
"""Tag of a step run: the digest of its code, parameters and inputs."""

PURPOSE = "purpose"
"""Tag of a step run: the data set and the registered model of its pipeline."""

FINGERPRINT_ARTIFACT = "fingerprint.json"

STEP_RUN = "step."
"""Prefix of tags of a pipeline run: the run id of each step, new or reused."""

WHY = "why."
"""Prefix of tags of a pipeline run: the reason why a step ran again."""

OVERRIDES, CHANGED_FILES = "overrides", "changed_files"
"""Tags of a pipeline run: its overrides of config.yaml, one per line, and the files that differ from the commit."""

JOB = "job"
"""Tag of a job's run: its number in the sweep."""

BEST_JOB = "best_job"
"""Tag of a sweep's run: the run id of its best job."""

NOTE = "mlflow.note.content"
"""MLflow's tag for the description of a run."""

CONFIG_ARTIFACT = "config/config.yaml"
DATA_CONFIG = "config/data.yaml"
MODEL_CONFIG = "config/{model}.yaml"
"""Settings of the model; the name is that of its step."""

EVALUATE_CONFIG = "config/evaluate.yaml"
LOG_ARTIFACT = "step.log"
LAST_LINES = 15
"""Number of lines at the end of a failed step's log that the terminal and the report show."""

HTML_ARTIFACT, MARKDOWN_ARTIFACT = "report.html", "report.md"
TABLE_ARTIFACT, PLOT_ARTIFACT = "sweep.csv", "sweep.png"
