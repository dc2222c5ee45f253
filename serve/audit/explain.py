"""explain: reasons of an answer on record, by the version that gave it, or of the rows of a file."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from prediction_log.answers import Answer, read_answer
from prediction_log.engine import open_existing
from prediction_log.settings import DEFAULT_URL, URL_VARIABLE
from serve.audit.records import explain_unusable, to_rows
from serve.batch.read_chunks import ColumnSelection, iter_chunks, read_header, verify_columns
from serve.batch.run import to_model_rows, verify_reasons
from serve.errors import AnswerUnknown, ReasonsUnavailable
from serve.model.fetch_model import fetch_model
from serve.model.onnx_graph import MAX_DIFFERENCE, Graph, Scores
from serve.settings import load_settings
from stepkit.errors import BadParameter
from stepkit.paths import resolve_path
from stepkit.secret_urls import verify_no_secret
from stepkit.step.exit import exit_on_error
from stepkit.step.flags import Parser, parse_count
from stepkit.store.model_address import ADDRESSES, DEFAULT_ADDRESS

MOST_ROWS = 20
"""Largest number of rows of a file that are printed."""
REASONS = 4


def find_answer(url: str, request_id: str, row: int) -> Answer:
    """Return an answer on record.

    Raises:
        AnswerUnknown: the log has no such answer.
        LogUnfit, LogUnavailable: the log cannot be read.
    """
    with open_existing(url, reads=True) as engine:
        answer = read_answer(engine, request_id, row)
    if answer is None:
        raise AnswerUnknown(
            f"request_id {request_id}: the prediction log has no row {row} of this request. The id is unknown, the "
            "request was not sampled (serve.sample_rate), or its record was deleted (serve.keep_days)."
        )
    return answer


def is_equal(answer: Answer, scores: Scores) -> bool:
    """Return True if the score of one row is the answer on record: same class, and a probability within 1e-6."""
    difference = abs(scores.probability[0] - answer.probability)
    return difference < MAX_DIFFERENCE and scores.predicted[0] == answer.predicted


def explain_answer(model: Graph, answer: Answer, count: int, redacted: Collection[str] = ()) -> dict[str, Any]:
    """Return an answer on record with its reasons, which the version that gave it computes again.

    The log names the redacted columns of a row. A row that an earlier release recorded lacks these names: there a null
    in one of the `redacted` columns counts as redacted, and the probability shows other changes.

    Raises:
        ReasonsUnavailable: the version has no reference row, or the recorded row does not give the recorded
            probability, because a value was redacted or changed.
        BadParameter: more reasons than columns.
    """
    verify_reasons(count, model)
    if problem := explain_unusable(model, answer.features, answer.redacted, redacted):
        raise ReasonsUnavailable(f"request_id {answer.request_id}: {problem}, so its reasons are unknown.")
    rows = to_rows(model, [answer.features])
    scores = model.score(rows)
    if not is_equal(answer, scores):
        raise ReasonsUnavailable(
            f"request_id {answer.request_id}: the recorded row gives the probability {scores.probability[0]:.6f} "
            f"(found {answer.probability:.6f} on record). A value was redacted (serve.redact) or changed, so its "
            "reasons are unknown."
        )
    (explanation,) = model.explain(rows, scores, count)
    return {
        "request_id": answer.request_id,
        "row": answer.row,
        "time": answer.time.isoformat(),
        "model_version": answer.model_version,
        "probability": answer.probability,
        "class": answer.predicted,
        **explanation,
    }


def explain_recorded(url: str, request_id: str, row: int, count: int, redacted: Collection[str]) -> dict[str, Any]:
    """Return an answer on record with its reasons, by the version that gave it.

    Raises:
        AnswerUnknown, LogUnfit, LogUnavailable: as find_answer.
        ReasonsUnavailable, BadParameter: as explain_answer, or the version was deleted.
        ModelRefused, ProcessLost, SystemExit: the version cannot be loaded.
    """
    answer = find_answer(url, request_id, row)
    _, model = fetch_model(f"models:/{answer.model_name}/{answer.model_version}")
    return explain_answer(model, answer, count, redacted)


def explain_file(path: Path, address: str, count: int) -> list[dict[str, Any]]:
    """Return the scores and reasons of the first rows of a table.

    Raises:
        BadParameter, TableUnfit, TableUnreadable: the table or the model cannot be used.
        ReasonsUnavailable: the version has no reference row.
    """
    if not path.is_file():
        raise BadParameter(f"{path}: no such file. Name the table to explain: -P input=FILE")
    header = read_header(path)
    _, model = fetch_model(address)
    verify_reasons(count, model)
    selection = ColumnSelection(model.numeric, model.text, ())
    verify_columns(path, header, selection)
    table, _ = next(iter_chunks(path, selection, MOST_ROWS + 1), (None, 0.0))
    if table is None or not table.num_rows:
        raise BadParameter(f"{path}: no rows, only a header.")
    if table.num_rows > MOST_ROWS:
        raise BadParameter(
            f"{path}: too many rows to print (expected at most {MOST_ROWS}). Write the reasons to a file: "
            "mlflow run ./serve -e batch -P reasons=4"
        )
    rows = to_model_rows(model, table)
    scores = model.score(rows)
    pairs = zip(scores.probability, scores.predicted, model.explain(rows, scores, count), strict=True)
    return [
        {"row": row, "model_version": model.version, "probability": probability, "class": predicted, **explanation}
        for row, (probability, predicted, explanation) in enumerate(pairs)
    ]


def format_answer(answer: dict[str, Any]) -> str:
    """Return an explained answer for people; the effects and the baseline add up to the probability."""
    subject = f"request {answer['request_id']}, " if "request_id" in answer else ""
    lines = [
        f"{subject}row {answer['row']}: probability {answer['probability']:.4f}, class {answer['class']} (version "
        f"{answer['model_version']})",
        f"  {answer['baseline']:+.4f}  reference row",
    ]
    for reason in answer["reasons"]:
        value = "missing" if reason["value"] is None else reason["value"]
        sentence = f"  {reason['reason']}" if "reason" in reason else ""
        lines.append(f"  {reason['effect']:+.4f}  {reason['label']} ({reason['column']}={value}){sentence}")
    lines.append(f"  {answer['other']:+.4f}  other columns")
    lines.append(f"  {answer['protected_effect']:+.4f}  columns that are not offered as reasons")
    return "\n".join(lines)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of `mlflow run ./serve -e explain`."""
    parser = Parser(prog="explain", description=__doc__)
    parser.add_argument("--request_id", default="", help="X-Request-Id of the answer")
    parser.add_argument("--row", type=parse_count, default=0, help="position of the row in its request (default: 0)")
    parser.add_argument("--input", default="", help=f"instead: table of at most {MOST_ROWS} rows, .csv or .parquet")
    parser.add_argument("--model", default=DEFAULT_ADDRESS, help=f"model for --input: {ADDRESSES}")
    parser.add_argument("--reasons", type=parse_count, default=REASONS, help=f"number of reasons (default: {REASONS})")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="output (default: text)")
    parser.add_argument("--log_url", default="", help=f"prediction log (default: {URL_VARIABLE}, else {DEFAULT_URL})")
    return parser


def main(argv: list[str] | None = None, redacted: Collection[str] | None = None) -> None:
    """Explain an answer on record, or the rows of a file; `redacted` replaces serve.redact of config.yaml."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if bool(args.request_id) == bool(args.input):
        parser.error("give either request_id or input: -P request_id=ID, or -P input=FILE")
    with exit_on_error():
        verify_no_secret(args.log_url, "log_url", f"Set {URL_VARIABLE} instead.")
        if args.input:
            answers = explain_file(Path(resolve_path(args.input)), args.model, args.reasons)
        else:
            url = args.log_url or os.environ.get(URL_VARIABLE) or DEFAULT_URL
            columns = load_settings({}).redact if redacted is None else redacted
            answers = [explain_recorded(url, args.request_id, args.row, args.reasons, columns)]
        for answer in answers:
            print(json.dumps(answer) if args.format == "json" else format_answer(answer))


if __name__ == "__main__":
    main()
