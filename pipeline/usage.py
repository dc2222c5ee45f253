"""Help on the command line, which must come at once: nothing that takes time is imported for it."""

from __future__ import annotations

import shlex

from stepkit.paths import ROOT

FLAGS = {"--help", "-h", "--hydra-help"}
USAGE = """\
usage: mlflow run . --env-manager local -P hydra_options="KEY=VALUE ..."
   or: make run options="KEY=VALUE ...", or: python main.py KEY=VALUE ...

  data=NAME   the data set: {}
  -m          a sweep: KEY=1,2,3 or KEY=range(7,17,5), one job for each combination
  --cfg job   print the configuration and do nothing

Every KEY with its default, as in config.yaml (more: docs/reference.md):

{}"""


def wants_help(argv: list[str]) -> bool:
    """Return whether one of the words asks for help; `mlflow run` hands all of hydra_options on as one."""
    try:
        words = [*shlex.split(argv[1]), *argv[2:]] if argv[:1] == ["--hydra_options"] and argv[1:] else argv
        return not FLAGS.isdisjoint(words)
    except ValueError:  # quotes that do not match are reported where the options are read
        return False


def format_usage() -> str:
    config = (ROOT / "config.yaml").read_text(encoding="utf-8")
    data_sets = ", ".join(sorted(path.stem for path in (ROOT / "data").glob("*.yaml")))
    return USAGE.format(data_sets, config[config.index("\nmain:") :].partition("\nhydra:")[0].strip())
