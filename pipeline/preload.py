"""What the warm launcher's server process loads once, so that no step has to: the heavy libraries and stepkit.

Nothing of a step itself is here: a step's own source is read when it starts.
"""

from __future__ import annotations

import mlflow.pyfunc
import mlflow.store.tracking.sqlalchemy_store
import sklearn.ensemble
import sklearn.metrics
import sklearn.model_selection

import stepkit.plots
import stepkit.run
import stepkit.settings
import stepkit.split

LOADED = (mlflow.pyfunc, mlflow.store.tracking.sqlalchemy_store, sklearn.ensemble, sklearn.metrics)
LOADED_TOO = (sklearn.model_selection, stepkit.plots, stepkit.run, stepkit.settings, stepkit.split)
