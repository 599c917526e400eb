"""Exceptions to HTTP problems (RFC 9457), in one table."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from app.auth import AuthenticationError, ForbiddenError
from app.egress import EgressError
from app.laboratories import WorkerError
from app.observation import REQUEST_ID, current_request
from factors.errors import (
    AlphaAgentError,
    DataError,
    EvaluationStoppedError,
    FormulaError,
    MeasurementError,
    NotFoundError,
    ResearcherError,
    SettingError,
)
from storage.census import UnavailableError
from storage.idempotency import IdempotencyError
from storage.markets import InUseError
from storage.openings import SealedError
from storage.runs import PrunedError, RunStateError, SpentError

STATUS: dict[type[AlphaAgentError], HTTPStatus] = {
    FormulaError: HTTPStatus.UNPROCESSABLE_ENTITY,
    DataError: HTTPStatus.UNPROCESSABLE_ENTITY,
    SettingError: HTTPStatus.UNPROCESSABLE_ENTITY,
    IdempotencyError: HTTPStatus.UNPROCESSABLE_ENTITY,
    AuthenticationError: HTTPStatus.UNAUTHORIZED,
    ForbiddenError: HTTPStatus.FORBIDDEN,
    EgressError: HTTPStatus.UNPROCESSABLE_ENTITY,
    MeasurementError: HTTPStatus.UNPROCESSABLE_ENTITY,
    NotFoundError: HTTPStatus.NOT_FOUND,
    RunStateError: HTTPStatus.CONFLICT,
    InUseError: HTTPStatus.CONFLICT,
    SealedError: HTTPStatus.CONFLICT,
    SpentError: HTTPStatus.TOO_MANY_REQUESTS,
    PrunedError: HTTPStatus.GONE,
    ResearcherError: HTTPStatus.BAD_GATEWAY,
    UnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    WorkerError: HTTPStatus.SERVICE_UNAVAILABLE,
    EvaluationStoppedError: HTTPStatus.SERVICE_UNAVAILABLE,
}


class Problem(BaseModel):
    """An RFC 9457 problem document; ``request_id`` is that of the log lines that tell of it."""

    model_config = ConfigDict(extra="allow")

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    request_id: str | None = None


def install(service: FastAPI) -> None:
    """Answer every failure of a request with a problem document, and tell of them in the OpenAPI document."""
    _document(service)
    service.add_exception_handler(AlphaAgentError, _domain)
    service.add_exception_handler(RequestValidationError, _invalid)
    service.add_exception_handler(HTTPException, _http)
    service.add_exception_handler(Exception, _internal)


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """A route's own refusals for the OpenAPI document, which has those that follow from what it asks for by itself."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {"application/problem+json": {"schema": schema}}}
        for status in statuses
    }


def _document(service: FastAPI) -> None:
    described = service.openapi

    def openapi() -> dict[str, Any]:
        if service.openapi_schema is None:
            for path, operations in described()["paths"].items():
                for operation in operations.values():
                    operation["responses"] |= {str(status): told for status, told in _expected(path, operation).items()}
            for unused in ("HTTPValidationError", "ValidationError"):
                described()["components"]["schemas"].pop(unused, None)
        return described()

    service.openapi = openapi  # type: ignore[method-assign] # as FastAPI's documentation has it


def _expected(path: str, operation: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """The refusals that follow from what an operation asks for: who asks, ids, parameters and a body."""
    statuses = [401, 403] if "security" in operation else []
    statuses += [404] if "_id}" in path else []
    statuses += [422] if "parameters" in operation or "requestBody" in operation else []
    statuses += [400, 413] if "requestBody" in operation else []
    return refusals(*statuses)


def status_of(error: Exception) -> HTTPStatus:
    """The status that tells of an error of ours."""
    return next(status for kind, status in STATUS.items() if isinstance(error, kind))


def headers_of(error: Exception) -> dict[str, str]:
    """What else the answer to an error of ours tells."""
    if isinstance(error, SpentError) and error.retry_after is not None:
        return {"Retry-After": str(error.retry_after)}
    return {"WWW-Authenticate": "Bearer"} if isinstance(error, AuthenticationError) else {}


def _domain(_: Request, error: Exception) -> JSONResponse:
    extra = {name: getattr(error, name) for name in ("position", "check") if hasattr(error, name)}
    problem = answer(status_of(error), str(error), **extra)
    problem.headers.update(headers_of(error))
    return problem


def _invalid(_: Request, error: Exception) -> JSONResponse:
    faults = error.errors() if isinstance(error, RequestValidationError) else []
    errors = [{"pointer": "/" + "/".join(map(str, fault["loc"][1:])), "detail": str(fault["msg"])} for fault in faults]
    detail = "; ".join(f"{fault['pointer']}: {fault['detail']}" for fault in errors)
    return answer(HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors=errors)


def _http(_: Request, error: Exception) -> JSONResponse:
    status = HTTPStatus(error.status_code) if isinstance(error, HTTPException) else HTTPStatus.BAD_REQUEST
    problem = answer(status, str(getattr(error, "detail", status.description)))
    problem.headers.update(getattr(error, "headers", None) or {})
    return problem


def _internal(_: Request, error: Exception) -> JSONResponse:
    return answer(HTTPStatus.INTERNAL_SERVER_ERROR, f"internal error: {type(error).__name__}")


def answer(status: HTTPStatus, detail: str, **extra: Any) -> JSONResponse:  # noqa: ANN401 - any JSON
    """A problem document as the answer to a request."""
    request_id = current_request()
    problem = Problem(title=status.phrase, status=status, detail=detail, request_id=request_id, **extra)
    headers = {REQUEST_ID: request_id} if request_id else {}
    return JSONResponse(problem.model_dump(mode="json"), status, headers, media_type="application/problem+json")
