"""Work that steps would each do anew, done once in the process that they start from; imported there, last of all."""

from __future__ import annotations

import mlflow
from mlflow.utils.requirements_utils import warn_dependency_requirement_mismatches

# whenever a model is logged or loaded, MLflow looks which package each installed module is of: half a second,
# remembered for the rest of the process
warn_dependency_requirement_mismatches([f"mlflow=={mlflow.__version__}"])
