"""Handlers that read: questions, search, documents and the home page. None of them writes."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

from starlette.responses import HTMLResponse, JSONResponse, Response

from monitor.demo.bodies import JSON, json_object, name_of, text_of
from monitor.demo.limits import QUESTION_LIMIT
from monitor.demo.notice import current_window
from monitor.demo.pages import SHORT_LIVED, home_page
from monitor.demo.problems import bad_request, not_found, problem
from monitor.demo.retrieval import Hit
from monitor.demo.services import Call


async def ask(call: Call) -> Response:
    """`{"q"}` to `{"answer", "sources"}`."""
    question = text_of(await json_object(call.request), "q", limit=QUESTION_LIMIT)
    if call.services.faults.breaks_this_ask():
        return problem(500, "INTERNAL_ERROR", "the answer could not be composed")
    await _slow_down(call)
    answer = call.services.retriever.answer(question)
    sources = [_source(hit) for hit in answer.sources]
    return JSONResponse({"answer": answer.text, "sources": sources})


async def search(call: Call) -> Response:
    """`?q=` to `{"results"}`."""
    question = _searched(call)
    if not question.strip():
        raise bad_request("the parameter 'q' must hold a question")
    await _slow_down(call)
    hits = call.services.retriever.search(question)
    return JSONResponse({"results": [_source(hit) for hit in hits]})


async def get_document(call: Call) -> Response:
    """`{"id", "title", "text"}`."""
    id_ = name_of(call.request.path_params["id"], "the document id")
    await _slow_down(call)
    document = call.services.store.document(id_)
    if document is None:
        raise not_found(f"document {id_!r}")
    return JSONResponse(asdict(document))


async def home(call: Call) -> Response:
    """The help centre's front page, with an answer when something was asked."""
    question = _searched(call).strip()
    if question:
        await _slow_down(call)
    answer = call.services.retriever.answer(question) if question else None
    window = current_window(call.services.mode)
    page = home_page(window=window, question=question, answer=answer)
    return HTMLResponse(page, headers=SHORT_LIVED)


def _searched(call: Call) -> str:
    question = call.request.query_params.get("q", "")
    if len(question) > QUESTION_LIMIT:
        raise bad_request(f"the parameter 'q' must have at most {QUESTION_LIMIT} characters")
    return question


def _source(hit: Hit) -> dict[str, JSON]:
    return {"id": hit.id, "title": hit.title, "score": hit.score}


async def _slow_down(call: Call) -> None:
    delay = call.services.faults.read_delay_s()
    if delay:
        await asyncio.sleep(delay)
