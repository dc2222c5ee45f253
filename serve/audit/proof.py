"""Proof of an answer on record: its row, the version that gave it, the origin of that version, and its reasons."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prediction_log.answers import Answer
from serve.audit.explain import find_answer, is_equal
from serve.audit.records import explain_unusable, to_rows
from serve.model.fetch_model import fetch_model
from serve.model.onnx_graph import Graph
from stepkit.files import replace_file

UNKNOWN = "unknown"
EQUAL, DIFFERENT, NOT_REPLAYED = "equal", "different", "not replayed"


def build_proof(url: str, request_id: str, row: int, count: int, hidden: Collection[str]) -> dict[str, Any]:
    """Return the proof of an answer on record.

    Args:
        url: the prediction log.
        request_id: X-Request-Id of the answer.
        row: position of the row in its request, from 0.
        count: largest number of reasons.
        hidden: the columns of serve.redact, as in parse_records.

    Returns:
        The answer with its row; the model with the digests of its files, the training data and the code; the result of
        the replay; and the reasons. A fact that the store does not have is "unknown".

    Raises:
        AnswerUnknown, LogUnfit, LogUnavailable: the answer cannot be read.
        ModelRefused, ProcessLost, SystemExit: the version cannot be loaded.
    """
    answer = find_answer(url, request_id, row)
    _, model = fetch_model(f"models:/{answer.model_name}/{answer.model_version}")
    return {
        "request_id": answer.request_id,
        "row": answer.row,
        "time": answer.time.isoformat(),
        "input": answer.features,
        "redacted": sorted(answer.redacted),
        "answer": {"probability": answer.probability, "class": answer.predicted},
        "label": answer.label,
        **find_origin(model),
        **replay_answer(model, answer, count, hidden),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def replay_answer(model: Graph, answer: Answer, count: int, hidden: Collection[str]) -> dict[str, Any]:
    """Return the result of the replay of an answer by its version, and its reasons if the replay is equal."""
    if problem := explain_unusable(model, answer.features, answer.redacted, hidden):
        return {"replay": {"result": NOT_REPLAYED, "problem": problem}, "explanation": None}
    rows = to_rows(model, [answer.features])
    scores = model.score(rows)
    answered = {"probability": scores.probability[0], "class": scores.predicted[0]}
    if not is_equal(answer, scores):
        return {"replay": {"result": DIFFERENT, **answered}, "explanation": None}
    replay = {"result": EQUAL, **answered}
    if model.explainer is None:
        return {"replay": replay, "explanation": None, "problem": model.explain_missing_reasons()}
    (explanation,) = model.explain(rows, scores, min(count, len(model.names)))
    reference = model.reasons["reference"] if model.reasons else {}
    return {"replay": replay, "explanation": {**explanation, "reference_row": reference}}


def find_origin(model: Graph) -> dict[str, Any]:
    """Return the model with the digests of its files, its training data and its code, from the tracking store."""
    from mlflow import MlflowClient

    from stepkit.store import tracking
    from stepkit.store.lineage import LOCK_DIGEST, MODEL_DIGESTS, MODEL_ID, find_run, read_data_set

    tracking.connect()
    client = MlflowClient()
    version = client.get_model_version(model.name, model.version)
    run = find_run(client, version.tags.get("training_run_id", version.run_id or ""))
    tags = run.data.tags if run else {}
    recorded = json.loads(tags.get(MODEL_DIGESTS, "{}"))
    return {
        "model": {
            "name": model.name,
            "version": model.version,
            "threshold": model.threshold,
            "calibration": model.calibration,
            "training_run_id": run.info.run_id if run else UNKNOWN,
            "digest": compute_digest(recorded) if recorded else UNKNOWN,
            "files": recorded,
            "altered": list_altered(client, tags.get(MODEL_ID, ""), recorded),
        },
        "training_data": {
            "data_set": str(read_data_set(version.tags)),
            "digest": version.tags.get("data_digest", UNKNOWN),
        },
        "code": {
            "git_commit": tags.get("mlflow.source.git.commit", version.tags.get("git_commit", UNKNOWN)),
            "lock": tags.get(LOCK_DIGEST, version.tags.get(LOCK_DIGEST, UNKNOWN)),
        },
    }


def list_altered(client: Any, model_id: str, recorded: dict[str, str]) -> list[str]:
    """Return a phrase for each file of a model that is missing, added or altered since its training."""
    from stepkit.store import model_files

    if not recorded:
        return []
    with tempfile.TemporaryDirectory(prefix="proof-") as folder:
        path = model_files.fetch_model(client, model_id, Path(folder))
        return model_files.compare_digests(recorded, model_files.compute_digests(path))


def compute_digest(files: dict[str, str]) -> str:
    """Return "sha256:..." of the digests of all files, as JSON with sorted names."""
    return f"sha256:{hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()}"


def write_proof(proof: dict[str, Any], path: Path) -> None:
    """Write a proof as JSON."""
    with replace_file(path) as target:
        target.write_text(json.dumps(proof, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def format_proof(proof: dict[str, Any], path: Path) -> str:
    """Return the result of a proof in one or two lines."""
    replay, model, answer = proof["replay"], proof["model"], proof["answer"]
    result = replay["result"] + (f", because {replay['problem']}" if "problem" in replay else "")
    lines = [
        f"request {proof['request_id']}, row {proof['row']}: probability {answer['probability']:.4f}, class "
        f"{answer['class']} ({model['name']} version {model['version']}), replay: {result}"
    ]
    if model["altered"]:
        lines.append(f"files of the model: {', '.join(model['altered'])}")
    return "\n".join([*lines, f"wrote {path}"])


def is_proven(proof: dict[str, Any]) -> bool:
    """Return True if the version gives the answer again, from unaltered files."""
    return proof["replay"]["result"] == EQUAL and not proof["model"]["altered"]
