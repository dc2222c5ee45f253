"""Schema of config.yaml, and one-line error messages for a configuration that does not match it."""

from __future__ import annotations

import difflib
import re
import shlex
from typing import Annotated, Any, Literal, Self

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PositiveFloat,
    PositiveInt,
    StrictInt,
    ValidationError,
    model_validator,
)

from stepkit.commands import quote_for_hydra, quote_options
from stepkit.secret_urls import hide_secrets_in_text, parse_data_url, verify_no_secret
from stepkit.settings.drift import Monitoring
from stepkit.settings.evaluate import Evaluation
from stepkit.settings.model import (
    GradientBoostingSettings,
    LogisticRegressionSettings,
    ModelSettings,
    RandomForestSettings,
)
from stepkit.settings.serve import Serving
from stepkit.step.flags import parse_model_name
from stepkit.table.columns import Columns, Strict, format_first_problem, locate_problem

Share = Annotated[float, Field(gt=0.0, lt=1.0)]
TableName = Annotated[str, Field(pattern=r"^[\w./-]+\.(csv|parquet)$")]


class ConfigError(Exception):
    """Error in the configuration: one line that names the key and the accepted values."""


def _to_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value or []


def _make_secret_check(key: str, hint: str) -> AfterValidator:
    return AfterValidator(lambda value: value if value is None else verify_no_secret(value, key, hint))


TrackingUrl = Annotated[
    str | None,
    _make_secret_check(
        "main.mlflow_tracking_url",
        "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead, or for a database MLFLOW_TRACKING_URI.",
    ),
]


def _verify_serving_urls(serve: Serving) -> Serving:
    verify_no_secret(serve.log_url, "serve.log_url", "Set PREDICTION_LOG_URL instead.")
    return serve


def _verify_monitoring_urls(drift: Monitoring) -> Monitoring:
    verify_no_secret(drift.log_url, "drift.log_url", "Set PREDICTION_LOG_URL instead.")
    for key in ("reference", "current"):
        verify_no_secret(getattr(drift, key), f"drift.{key}", f"Set a variable and name it: drift.{key}=env:DATA_URL.")
    return drift


class Because(Strict):
    """Key `main.because`: reason for the pipeline run."""

    drift_run_id: str | None = None
    reason: str | None = None


class Main(Strict):
    """Key `main`: where runs are tracked, and which steps run and how."""

    mlflow_tracking_url: TrackingUrl
    experiment_name: str | None
    execute_steps: Annotated[list[str], BeforeValidator(_to_list), Field(min_length=1)]
    launcher: Literal["warm", "subprocess"]
    reuse: bool
    rerun: Annotated[list[str], BeforeValidator(_to_list)]
    random_seed: Annotated[StrictInt, Field(ge=0, lt=2**32)]
    because: Because = Because()


class Data(Columns):
    """Key `data`: the description of the data set (data/*.yaml) and the settings of config.yaml."""

    file_url: Annotated[str, AfterValidator(parse_data_url)]
    sha256: Annotated[list[str], BeforeValidator(_to_list)] = Field(default_factory=list)
    reference_dataset: Annotated[
        str | None, _make_secret_check("data.reference_dataset", "Name an artifact or a file.")
    ] = None
    ks_alpha: Share
    test_size: Share
    val_size: Share
    split: Literal["random", "time"] = "random"
    stratify: str | None = None

    @model_validator(mode="after")
    def _verify_split(self) -> Self:
        if self.split == "time" and not self.time_column:
            raise ValueError(
                "split: time needs time_column, the column with the date of each row. Set it in data/*.yaml, or set "
                "data.split=random"
            )
        return self


class Download(Strict):
    """Key `download`."""

    artifact_name: TableName
    artifact_description: str
    attempts: PositiveInt
    stall_seconds: PositiveFloat


class Preprocess(Strict):
    """Key `preprocess`."""

    artifact_name: TableName
    artifact_description: str


class CheckData(Strict):
    """Key `check_data`."""

    reference_artifact: str


class Segregate(Strict):
    """Key `segregate`."""

    artifact_root: Annotated[str, Field(pattern=r"^[\w-]+$")]


class Register(Strict):
    """Key `register`."""

    model_name: Annotated[str, AfterValidator(parse_model_name)]
    replace_data_set: bool = False


class Sweep(Strict):
    """Key `sweep`: how the jobs of a sweep are compared, and which of them score the test split."""

    metric: Literal[
        "val_roc_auc",
        "val_gini",
        "val_average_precision",
        "val_log_loss",
        "val_brier_score",
        "val_ks_statistic",
        "val_calibration_error",
        "val_accuracy",
        "val_precision",
        "val_recall",
        "val_f1",
    ]
    direction: Literal["maximize", "minimize"]
    test: Literal["best", "all"]


def parse_model(name: str) -> str:
    """Return the name of a model step; raise ValueError with a suggestion for an unknown name."""
    if name in MODEL_STEPS:
        return name
    close = difflib.get_close_matches(name, MODEL_STEPS, n=1)
    suggestion = f"; did you mean '{close[0]}'?" if close else ""
    raise ValueError(f"unknown kind of model '{name}'{suggestion} (kinds: {', '.join(MODEL_STEPS)})")


class Config(Strict):
    """The whole of config.yaml, composed and checked.

    Each field `<name>_pipeline` is the settings of a kind of model, which the step `<name>` trains.
    """

    main: Main
    model: Annotated[
        str, AfterValidator(parse_model), Field(json_schema_extra=lambda schema: schema.update(enum=[*MODEL_STEPS]))
    ]
    sweep: Sweep
    data: Data
    download: Download
    preprocess: Preprocess
    check_data: CheckData
    segregate: Segregate
    random_forest_pipeline: RandomForestSettings
    gradient_boosting_pipeline: GradientBoostingSettings
    logistic_regression_pipeline: LogisticRegressionSettings
    evaluate: Evaluation
    register_: Annotated[Register, Field(alias="register")]
    serve: Annotated[Serving, AfterValidator(_verify_serving_urls)] = Serving()
    drift: Annotated[Monitoring, AfterValidator(_verify_monitoring_urls)] = Monitoring()

    @property
    def model_settings(self) -> ModelSettings:
        """Settings of the chosen kind of model."""
        settings: ModelSettings = getattr(self, self.model + SETTINGS_SUFFIX)
        return settings

    def without_refit(self) -> Config:
        """Return a copy whose chosen model is not fitted again after its validation."""
        settings = self.model_settings.model_copy(update={"refit": False})
        return self.model_copy(update={self.model + SETTINGS_SUFFIX: settings})


SETTINGS_SUFFIX = "_pipeline"
MODEL_STEPS = tuple(
    name.removesuffix(SETTINGS_SUFFIX) for name in Config.model_fields if name.endswith(SETTINGS_SUFFIX)
)
"""Names of the model steps, one per kind of model; the key `model` chooses one of them."""


def split_options(argv: list[str]) -> list[str]:
    """Return the arguments for Hydra, which requires flags before overrides. Users may type them in any order.

    `mlflow run` passes all of hydra_options as one argument, which is split here.

    Raises:
        ConfigError: hydra_options has unbalanced quotes, or a flag is unknown.
    """
    if argv[:1] != ["--hydra_options"]:
        return _put_flags_first(argv)
    try:
        words = [word for option in argv[1:2] for word in shlex.split(option)]
    except ValueError as error:
        raise ConfigError(f"hydra_options: cannot be split into words: {error}. Check the quotes: {argv[1]}") from error
    return _put_flags_first([*words, *argv[2:]])


def _put_flags_first(words: list[str]) -> list[str]:
    overrides = [word for word in words if "=" in word and not word.startswith("-")]
    flags = [word for word in words if word not in overrides]
    _verify_flags(flags, overrides)
    return flags + [quote_override(override) for override in overrides]


def _verify_flags(flags: list[str], overrides: list[str]) -> None:
    """Raise ConfigError for a flag that Hydra does not have: `mlflow run . -P data=uci` arrives as `--data uci`."""
    known_flags = get_args_parser()._option_string_actions
    for position, word in enumerate(flags):
        name, equals, value = word.partition("=")
        if word.startswith("-") and name not in known_flags and word[:2] not in known_flags:
            value = value if equals else "".join(flags[position + 1 : position + 2]) or "VALUE"
            options = quote_options([*overrides, f"{name.lstrip('-')}={quote_for_hydra(value)}"])
            raise ConfigError(
                f"{name.lstrip('-')}: unknown parameter; configuration keys go into hydra_options. "
                f"Use: mlflow run . -P hydra_options={options}"
            )


def quote_override(override: str) -> str:
    """Return an override that Hydra can parse: quote a value outside its grammar (a path with spaces, ü, ~).

    Also quote the name of a data set that Hydra would parse as a number, such as data=inf.
    """
    key, _, value = override.partition("=")
    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException:
        return f"{key}={quote_for_hydra(value)}"
    is_number = key.lstrip("+") == "data" and isinstance(parsed.value(), bool | int | float)
    return f"{key}={quote_for_hydra(value)}" if is_number else override


def parse_config(composed: DictConfig) -> Config:
    """Return the composed configuration, resolved and checked against the schema.

    Raises:
        ConfigError: an unknown key, a wrong type or value, or an interpolation of a missing key.
    """
    try:
        values = OmegaConf.to_container(composed, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(_join_lines(error)) from error
    try:
        return Config(**values)  # type: ignore[arg-type]  # keys of a composed configuration are strings
    except ValidationError as error:
        raise ConfigError(_format_problem(error, composed)) from error


def _format_problem(error: ValidationError, composed: DictConfig) -> str:
    first_error = error.errors()[0]
    key = ".".join(str(part) for part in first_error["loc"])
    if first_error["type"] == "extra_forbidden":
        return f"{key}: unknown configuration key{suggest_key(key, _list_schema_keys(Config))}"
    key, _ = locate_problem(error.errors())
    value = OmegaConf.select(composed, key, default=None)
    problem, text = format_first_problem(error), hide_secrets_in_text(str(value))
    # A problem of several keys belongs to their section, whose whole content would hide the message.
    is_known = isinstance(value, DictConfig) or f"'{text}'" in problem
    return problem if is_known else f"{problem} (found {text})"


def _list_schema_keys(model: type[Strict], prefix: str = "") -> list[str]:
    """List every dotted key of the schema, at all levels of nested models."""
    keys: list[str] = []
    for name, field in model.model_fields.items():
        key = prefix + (field.alias or name)
        keys.append(key)
        if isinstance(field.annotation, type) and issubclass(field.annotation, Strict):
            keys += _list_schema_keys(field.annotation, key + ".")
    return keys


MISSING_OPTION = re.compile(r"Could not find '(?P<option>[^']+)' Available options in '[^']+': (?P<names>.+)")
"""Hydra's message, on one line, for a file that a group such as data/ does not have."""


def suggest_key(key: str, known_keys: list[str]) -> str:
    """Return '; did you mean ...?' with the closest known key, or where all keys are listed."""
    close = difflib.get_close_matches(key, known_keys, n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ". See config.yaml for all keys."


def explain_error(error: HydraException | OmegaConfBaseException) -> str:
    """Return one line about an error that Hydra raised for the configuration."""
    text = _join_lines(error)
    if text.startswith("Could not override '"):
        key = text.split("'")[1]
        if key in _list_schema_keys(Config):
            return f"{key}: not set in any file yet. Add it with a plus sign: +{key}=..."
        return f"{key}: unknown configuration key{suggest_key(key, _list_schema_keys(Config))}"
    if match := MISSING_OPTION.search(text):
        group, _, name = match["option"].rpartition("/")
        close = difflib.get_close_matches(name, match["names"].split(), n=1)
        hint = f"; did you mean '{close[0]}'" if close else ""
        return f"{group}: no option '{name}'{hint} (found: {', '.join(match['names'].split())})"
    return text


def _join_lines(error: Exception) -> str:
    lines = str(error).split("Config search path")[0].splitlines()
    return " ".join(line.strip() for line in lines if line.strip())
