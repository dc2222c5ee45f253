"""Refusals: every response of the scorer that holds no result, in one table."""

from __future__ import annotations

REFUSALS = {
    "NOT_RECORDABLE": (400, "body", "body: {reason}. The scorer sends no prediction without a record. Correct it."),
    "UNAUTHENTICATED": (
        401,
        "Authorization",
        "Authorization: no valid API key. Send 'Authorization: Bearer KEY' or 'X-API-Key: KEY'.",
    ),
    "NOT_FOUND": (404, "path", "path: unknown. /docs lists all paths."),
    "UNKNOWN_REQUEST": (
        404,
        "request_id",
        "request_id: the prediction log has no row {row} of this request. Send the X-Request-Id of a response and the "
        "row's position in the request, from 0.",
    ),
    "BODY_INCOMPLETE": (408, "body", "body: incomplete after {seconds:g} s. Send fewer rows per request."),
    "HEAD_INCOMPLETE": (408, "headers", "headers: incomplete after {seconds:g} s. Send the request again."),
    "REQUEST_ID_TAKEN": (
        409,
        "X-Request-Id",
        "X-Request-Id: already on record with other rows. Use a new id for each request.",
    ),
    "NOT_EXPLAINABLE": (409, "request_id", "request_id: this answer cannot be explained: {reason}"),
    "NO_REASONS": (
        409,
        "params",
        "params: version {version} has no reference row, because an earlier release trained it, so its answers have no "
        "reasons. Leave reasons out, or train again.",
    ),
    "BODY_TOO_LARGE": (
        413,
        "body",
        "body: too large (expected at most {limit:,} bytes). Send fewer rows per request, or raise serve.max_body_mb.",
    ),
    "UNSUPPORTED_MEDIA_TYPE": (
        415,
        "Content-Type",
        "Content-Type: not supported (found {found}, expected {expected}, in UTF-8). Correct the header.",
    ),
    "HEAD_TOO_LARGE": (
        431,
        "headers",
        "headers: too large (expected at most {limit:,} bytes in all). Send fewer or shorter headers.",
    ),
    "CLIENT_GONE": (499, "", "caller: disconnected"),  # in logs and metrics only; nginx uses this status
    "MODEL_FAILED": (500, "", "{reason}"),
    "INTERNAL_ERROR": (500, "", "scorer: internal error. Its log has the cause under this request_id."),
    "LOG_UNAVAILABLE": (
        503,
        "",
        "prediction log: cannot be written, so the scorer sends no predictions. Retry later; /health has the cause.",
    ),
    "NO_MODEL": (503, "", "model: none loaded yet. The scorer waits for: {reason}"),
    "OVERLOADED": (
        503,
        "body",
        "body: too many large bodies at the same time. Retry in a second, or send fewer rows per request.",
    ),
    "DEADLINE_EXCEEDED": (
        504,
        "body",
        "body: not scored within {seconds:g} s. Send fewer rows per request, or raise serve.request_seconds.",
    ),
}
"""HTTP status, field to correct ("": none) and message of each error code."""


class Refusal(Exception):
    """Error that becomes a response with `status` and an error body, which names the field to correct."""

    def __init__(self, status: int, code: str, message: str, field: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        # The caller's column names may contain half a surrogate pair, which UTF-8 cannot encode.
        self.message, self.field = (text.encode("utf-8", "replace").decode() for text in (message, field))

    def to_dict(self, **extra: str) -> dict[str, str]:
        """Return the body of the response, with the fields of `extra` added."""
        body = {"error_code": self.code, "message": self.message, **extra}
        return {**body, "field": self.field} if self.field else body


def make_refusal(code: str, **values: object) -> Refusal:
    """Return the refusal for an error code of the table, with `values` filled into its message."""
    status, field, message = REFUSALS[code]
    return Refusal(status, code, message.format(**values), field)


def make_bad_request(message: str, field: str) -> Refusal:
    """Return a refusal of a body that does not fit the model, with status 400."""
    return Refusal(400, "BAD_REQUEST", message, field)
