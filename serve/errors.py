"""Every answer that is no prediction, and why a model is not taken, on one page."""

from __future__ import annotations

from stepkit.errors import StepError


class ModelRefused(StepError):
    """A version of the model is not served: it cannot be loaded, or it is not what the scorer may serve."""


class ModelFailed(ModelRefused):
    """A version of the model returned something else than probabilities."""


class AddressUnusable(StepError):
    """Nobody can listen on the host and port of the settings."""


class ProcessLost(StepError):
    """A process that was to do a part of the work was ended from outside, as for want of memory."""


class EngineMissing(StepError):
    """What an entry point runs on is not installed: Spark, Java."""


class Refusal(Exception):
    """A request that gets no prediction; it is answered with `status` and says which field to mend."""

    def __init__(self, status: int, code: str, message: str, field: str, retry_after: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        # a name of the caller's may hold half a surrogate pair, which no response and no log can carry
        self.message, self.field = (text.encode("utf-8", "replace").decode() for text in (message, field))
        self.retry_after = retry_after

    def body(self, **more: str) -> dict[str, str]:
        """Return the body of the response, with `more` in it."""
        shown = {"error_code": self.code, "message": self.message, **more}
        return {**shown, "field": self.field} if self.field else shown


def bad_request(message: str, field: str) -> Refusal:
    return Refusal(400, "BAD_REQUEST", message, field)


def too_large(limit: int) -> Refusal:
    message = f"the body is larger than {limit:,} bytes. Send fewer rows a request, or raise max_body_mb."
    return Refusal(413, "BODY_TOO_LARGE", message, "body")


def too_slow(seconds: float) -> Refusal:
    message = f"not answered within {seconds:g} s. Send fewer rows a request, or raise request_seconds."
    return Refusal(504, "DEADLINE_EXCEEDED", message, "body")


def body_too_slow(seconds: float) -> Refusal:
    return Refusal(408, "BODY_INCOMPLETE", f"the body was not complete after {seconds:g} s.", "body")


def head_too_large(limit: int) -> Refusal:
    return Refusal(431, "HEAD_TOO_LARGE", f"headers: larger than {limit:,} bytes in all. Send fewer.", "headers")


def head_too_slow(seconds: float) -> Refusal:
    return Refusal(408, "HEAD_INCOMPLETE", f"headers: not complete after {seconds:g} s.", "headers")


def too_many_bodies() -> Refusal:
    message = "too many large bodies are being received. Send the request again, or fewer rows a request."
    return Refusal(503, "OVERLOADED", message, "body", retry_after=1)


def no_key() -> Refusal:
    message = "the API key is missing or wrong. Send it as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'."
    return Refusal(401, "UNAUTHENTICATED", message, "Authorization")


def no_model(waiting_for: str) -> Refusal:
    return Refusal(503, "NO_MODEL", f"there is no model to answer with yet: {waiting_for}", "")


def not_recorded() -> Refusal:
    message = "the prediction log cannot be written, so nothing is answered. Try again; see /health."
    return Refusal(503, "LOG_UNAVAILABLE", message, "")


def not_recordable(message: str) -> Refusal:
    return Refusal(400, "NOT_RECORDABLE", f"{message}, and nothing is answered that is not on record.", "body")


def request_id_taken(message: str) -> Refusal:
    return Refusal(409, "REQUEST_ID_TAKEN", message, "X-Request-Id")
