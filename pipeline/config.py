"""The schema of config.yaml, and one clear line for a configuration that does not fit it."""

from __future__ import annotations

import difflib
import shlex
from typing import Annotated, Any, Literal

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import AfterValidator, BeforeValidator, Field, PositiveFloat, PositiveInt, StrictInt, ValidationError

from stepkit.commands import quote_for_hydra, quote_options
from stepkit.secret_urls import hide_secrets_in_text, parse_data_url, verify_no_secret
from stepkit.settings.drift import Monitoring
from stepkit.settings.evaluate import Evaluation
from stepkit.settings.model import ModelSettings
from stepkit.settings.serve import Serving
from stepkit.step.flags import parse_model_name
from stepkit.table.columns import Columns, Strict, format_first_problem, locate_problem

Share = Annotated[float, Field(gt=0.0, lt=1.0)]
TableName = Annotated[str, Field(pattern=r"^[\w./-]+\.(csv|parquet)$")]


class ConfigError(Exception):
    """The configuration cannot be used; its text is one line that says which key and what to write instead."""


def _to_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value or []


def _make_secret_check(key: str, instead: str) -> AfterValidator:
    return AfterValidator(lambda value: value if value is None else verify_no_secret(value, key, instead))


TrackingUrl = Annotated[
    str | None,
    _make_secret_check(
        "the tracking server's address",
        "Leave it out there and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or for a database "
        "MLFLOW_TRACKING_URI.",
    ),
]


def _verify_serving_urls(serve: Serving) -> Serving:
    verify_no_secret(serve.log_url, "serve.log_url", "Set PREDICTION_LOG_URL instead.")
    return serve


def _verify_monitoring_urls(drift: Monitoring) -> Monitoring:
    verify_no_secret(drift.log_url, "drift.log_url", "Set PREDICTION_LOG_URL instead.")
    for key in ("reference", "current"):
        verify_no_secret(getattr(drift, key), f"drift.{key}", f"Put it into a variable: drift.{key}=env:DATA_URL.")
    return drift


class Because(Strict):
    drift_run_id: str | None = None
    reason: str | None = None


class Main(Strict):
    mlflow_tracking_url: TrackingUrl
    experiment_name: str | None
    execute_steps: Annotated[list[str], BeforeValidator(_to_list), Field(min_length=1)]
    launcher: Literal["warm", "subprocess"]
    reuse: bool
    rerun: Annotated[list[str], BeforeValidator(_to_list)]
    random_seed: Annotated[StrictInt, Field(ge=0, lt=2**32)]
    because: Because = Because()


class Data(Columns):
    """data/*.yaml together with the keys of config.yaml's `data`."""

    file_url: Annotated[str, AfterValidator(parse_data_url)]
    sha256: Annotated[list[str], BeforeValidator(_to_list)] = Field(default_factory=list)
    reference_dataset: Annotated[str | None, _make_secret_check("the reference", "Name an artifact or a file.")] = None
    ks_alpha: Share
    test_size: Share
    val_size: Share
    stratify: str | None = None


class Download(Strict):
    artifact_name: TableName
    artifact_description: str
    attempts: PositiveInt
    stall_seconds: PositiveFloat


class Preprocess(Strict):
    artifact_name: TableName
    artifact_description: str


class CheckData(Strict):
    reference_artifact: str


class Segregate(Strict):
    artifact_root: Annotated[str, Field(pattern=r"^[\w-]+$")]


class Register(Strict):
    model_name: Annotated[str, AfterValidator(parse_model_name)]
    replace_data_set: bool = False


class Sweep(Strict):
    metric: Literal[
        "val_roc_auc",
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


class Config(Strict):
    main: Main
    sweep: Sweep
    data: Data
    download: Download
    preprocess: Preprocess
    check_data: CheckData
    segregate: Segregate
    random_forest_pipeline: ModelSettings
    evaluate: Evaluation
    register_: Annotated[Register, Field(alias="register")]
    serve: Annotated[Serving, AfterValidator(_verify_serving_urls)] = Serving()
    drift: Annotated[Monitoring, AfterValidator(_verify_monitoring_urls)] = Monitoring()


def split_options(argv: list[str]) -> list[str]:
    """Return Hydra's arguments, flags first, which Hydra insists on; overrides in any place are what people type.

    `mlflow run` hands all of hydra_options on as one shell word, which is split here.
    """
    if argv[:1] != ["--hydra_options"]:
        return _put_flags_first(argv)
    try:
        words = [word for option in argv[1:2] for word in shlex.split(option)]
    except ValueError as error:
        raise ConfigError(f"hydra_options cannot be split into words: {error}. Check its quotes: {argv[1]}") from error
    return _put_flags_first([*words, *argv[2:]])


def _put_flags_first(words: list[str]) -> list[str]:
    overrides = [word for word in words if "=" in word and not word.startswith("-")]
    flags = [word for word in words if word not in overrides]
    _verify_flags(flags, overrides)
    return flags + [quote_override(override) for override in overrides]


def _verify_flags(flags: list[str], overrides: list[str]) -> None:
    """Raise ConfigError for a flag that Hydra does not have; `mlflow run . -P data=uci` arrives as `--data uci`."""
    known = get_args_parser()._option_string_actions
    for place, word in enumerate(flags):
        name, equals, value = word.partition("=")
        if word.startswith("-") and name not in known and word[:2] not in known:
            value = value if equals else "".join(flags[place + 1 : place + 2]) or "VALUE"
            options = quote_options([*overrides, f"{name.lstrip('-')}={quote_for_hydra(value)}"])
            raise ConfigError(
                f"unknown parameter '{name.lstrip('-')}': keys of the configuration go into hydra_options. "
                f"Type: mlflow run . -P hydra_options={options}"
            )


def quote_override(override: str) -> str:
    """Return an override that Hydra can read: what is outside its grammar (a path with blanks, ü, ~) is a text.

    So is the name of a data set that Hydra would take for a number: data=inf.
    """
    key, _, value = override.partition("=")
    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException:
        return f"{key}={quote_for_hydra(value)}"
    is_number = key.lstrip("+") == "data" and isinstance(parsed.value(), bool | int | float)
    return f"{key}={quote_for_hydra(value)}" if is_number else override


def parse_config(composed: DictConfig) -> Config:
    """Return the composed configuration, resolved and checked.

    Raises:
        ConfigError: an unknown key, a wrong type or value, or an interpolation that leads nowhere.
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
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown configuration key '{key}'{suggest_key(key, _list_schema_keys(Config))}"
    key, _ = locate_problem(error.errors())
    found = hide_secrets_in_text(str(OmegaConf.select(composed, key, default=None)))
    return f"configuration key {format_first_problem(error)} (found: {found})"


def _list_schema_keys(model: type[Strict], prefix: str = "") -> list[str]:
    """Every dotted key of the schema, as deep as models are nested."""
    keys: list[str] = []
    for name, field in model.model_fields.items():
        key = prefix + (field.alias or name)
        keys.append(key)
        if isinstance(field.annotation, type) and issubclass(field.annotation, Strict):
            keys += _list_schema_keys(field.annotation, key + ".")
    return keys


def suggest_key(key: str, known: list[str]) -> str:
    """Return '; did you mean ...?' or ', see config.yaml' for a key that is not known."""
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ". The known keys stand in config.yaml."


def explain_error(error: HydraException | OmegaConfBaseException) -> str:
    """One line for what Hydra did not accept."""
    text = _join_lines(error)
    if text.startswith("Could not override '"):
        key = text.split("'")[1]
        if key in _list_schema_keys(Config):
            return f"configuration key '{key}' stands in no file yet; add it with a plus sign: +{key}=..."
        return f"unknown configuration key '{key}'{suggest_key(key, _list_schema_keys(Config))}"
    return text


def _join_lines(error: Exception) -> str:
    lines = str(error).split("Config search path")[0].splitlines()
    return " ".join(line.strip() for line in lines if line.strip())
