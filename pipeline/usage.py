"""Help on the command line. It must appear at once, so this module imports nothing that is slow to load."""

from __future__ import annotations

import re
import shlex

from stepkit.paths import ROOT

FLAGS = {"--help", "-h", "--hydra-help"}
MODEL_LINE = re.compile(r"^  - (\w+)@\1_pipeline:", re.MULTILINE)
"""Line of config.yaml that includes the settings of a kind of model."""

USAGE = """\
usage: make run options="KEY=VALUE ..."
   or: python main.py KEY=VALUE ...
   or: mlflow run . --env-manager local -P hydra_options="KEY=VALUE ..."

Run the pipeline: download, preprocess, check_data, segregate, the model step, evaluate, register.
Steps whose code, parameters and inputs have not changed are reused.

  data=NAME    data set to use: {}
  model=NAME   kind of model, by its step: {}
  -m           sweep: run one job per combination of values, KEY=1,2,3 or KEY=range(7,17,5)
  --cfg job    print the configuration and exit
  --help       print this text and exit

Every KEY with its default, from config.yaml (more: docs/reference.md):

{}"""


def wants_help(argv: list[str]) -> bool:
    """Return whether an argument asks for help. `mlflow run` passes all of hydra_options as one argument."""
    try:
        words = [*shlex.split(argv[1]), *argv[2:]] if argv[:1] == ["--hydra_options"] and argv[1:] else argv
        return not FLAGS.isdisjoint(words)
    except ValueError:  # split_options reports unbalanced quotes
        return False


def format_usage() -> str:
    """Return the help text: the usage, the names of the data sets, and config.yaml with its comments."""
    config = (ROOT / "config.yaml").read_text(encoding="utf-8")
    data_sets = ", ".join(sorted(path.stem for path in (ROOT / "data").glob("*.yaml")))
    models = ", ".join(MODEL_LINE.findall(config))
    return USAGE.format(data_sets, models, config[config.index("\nmain:") :].partition("\nhydra:")[0].strip())
