#!/bin/sh
# step.sh STEP OPTIONS: runs one step as the run that MLflow created for the job.
step=$1
eval "set -- $2"
exec mlflow run "/srv/project/$step" --env-manager local --run-id "$MLFLOW_RUN_ID" "$@"
