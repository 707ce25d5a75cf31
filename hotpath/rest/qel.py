"""Checking a filter, and trying it on messages, without creating anything."""

import asyncio

from aiohttp import web
from pydantic import ValidationError

import qel
from hotpath.model.errors import Invalid
from hotpath.rest.bodies import read_object, violations_of
from hotpath.rest.calls import Call, answer
from hotpath.rest.models import CheckError, CheckRequest, CheckResponse, CheckResult


async def check_filter(call: Call) -> web.Response:
    """`POST /qel/check`: an invalid filter is an answer here, not an error."""
    body = await read_object(call.request, bytes_max=call.services.settings.max_control_bytes)
    try:
        request = CheckRequest.model_validate(body)
    except ValidationError as error:
        raise Invalid(violations_of(error, CheckRequest)) from None
    try:
        filter_ = qel.compile_filter(request.filter, request.type)
    except qel.QelError as error:
        return answer(_invalid(error))
    results: list[CheckResult] = []
    for message in request.messages or ():
        results.append(_try(filter_, message))
        # A large filter takes its time, and others have their turn in between.
        await asyncio.sleep(0)
    return answer(CheckResponse(valid=True, canonical=str(filter_), errors=[], results=results))


def _invalid(error: qel.QelError) -> CheckResponse:
    errors = [
        CheckError(detail=_detail(problem), line=problem.line, column=problem.column)
        for problem in error.errors
    ]
    return CheckResponse(valid=False, canonical=None, errors=errors, results=[])


def _detail(problem: qel.Problem) -> str:
    hint = f" ({problem.suggestion})" if problem.suggestion else ""
    return f"{problem.detail}{hint}\n{problem.excerpt}"


def _try(filter_: qel.Filter, message: dict[str, object]) -> CheckResult:
    explanation = filter_.explain(message)
    return CheckResult(matches=explanation.truth, because=explanation.because)
