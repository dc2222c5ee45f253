"""Every answer that is not a prediction, on one page."""

from __future__ import annotations

REFUSALS = {
    "NOT_RECORDABLE": (400, "body", "{reason}, and nothing is answered that is not on record."),
    "UNAUTHENTICATED": (401, "Authorization", "no valid API key. Send 'Authorization: Bearer KEY' or 'X-API-Key: KEY'"),
    "NOT_FOUND": (404, "path", "there is no such page; see /docs"),
    "UNKNOWN_REQUEST": (404, "request_id", "row {row} of this request is not on record"),
    "BODY_INCOMPLETE": (408, "body", "the body was not complete after {seconds:g} s."),
    "HEAD_INCOMPLETE": (408, "headers", "headers: not complete after {seconds:g} s."),
    "REQUEST_ID_TAKEN": (409, "X-Request-Id", "{reason}"),
    "BODY_TOO_LARGE": (413, "body", "body: larger than {limit:,} bytes. Send fewer rows, or raise max_body_mb."),
    "UNSUPPORTED_MEDIA_TYPE": (415, "Content-Type", "Content-Type: found {found}, expected {expected}, in UTF-8."),
    "HEAD_TOO_LARGE": (431, "headers", "headers: larger than {limit:,} bytes in all. Send fewer."),
    "CLIENT_GONE": (499, "", "the client hung up"),  # in logs and metrics only; the status is nginx's
    "MODEL_FAILED": (500, "", "{reason}"),
    "INTERNAL_ERROR": (500, "", "the scorer failed; its log has the cause, by this request id."),
    "LOG_UNAVAILABLE": (503, "", "the prediction log cannot be written, so nothing is answered. See /health."),
    "NO_MODEL": (503, "", "there is no model to answer with yet: {reason}"),
    "OVERLOADED": (503, "body", "too many large bodies are being received. Send it again, or fewer rows a request."),
    "DEADLINE_EXCEEDED": (504, "body", "not answered within {seconds:g} s. Send fewer rows, or raise request_seconds."),
}
"""Of each code: the HTTP status, the field to correct ("": none) and the message."""


class Refusal(Exception):
    """A request that gets no prediction; it is answered with `status` and names the field to correct."""

    def __init__(self, status: int, code: str, message: str, field: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        # a name of the caller's may hold half a surrogate pair, which no response and no log can carry
        self.message, self.field = (text.encode("utf-8", "replace").decode() for text in (message, field))

    def body(self, **more: str) -> dict[str, str]:
        """Return the body of the response, with `more` in it."""
        shown = {"error_code": self.code, "message": self.message, **more}
        return {**shown, "field": self.field} if self.field else shown


def make_refusal(code: str, **values: object) -> Refusal:
    """Return the refusal of a code of the table, its message filled with `values`."""
    status, field, message = REFUSALS[code]
    return Refusal(status, code, message.format(**values), field)


def make_bad_request(message: str, field: str) -> Refusal:
    return Refusal(400, "BAD_REQUEST", message, field)
