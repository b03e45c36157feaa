from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import orjson
import pytest

from server.engine.clock import SystemClock
from server.enhancement.completion import Completion, FailureKind, ModelFailure
from server.enhancement.model import ChatModel
from server.enhancement.prompt import Prompt
from server.enhancement.request import PassRequest, request_for
from tests.enhancement.items import answer_text, event
from tests.support.web import Answer, Asked, Reply, Web, json_reply, open_web

GOOD = answer_text({"test.calendar/standup": {"insight": "Bring the demo"}})


def completion(content: str | None, **message: object) -> Reply:
    """What a chat-completions endpoint answers."""
    body = {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": content, **message},
            }
        ],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
    }
    return json_reply(orjson.dumps(body))


def in_turn(*answers: Reply | bytes) -> Answer:
    left = list(answers)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


def request() -> PassRequest:
    asked = request_for([event()])
    assert asked is not None
    return asked


@asynccontextmanager
async def model_at(answer: Answer, timeout_s: float = 20.0) -> AsyncGenerator[tuple[ChatModel, Web]]:
    async with (
        open_web(answer) as web,
        ChatModel(
            base_url=f"{web.url}/v1",
            api_key="sk-secret",
            model="m",
            clock=SystemClock(),
            timeout_s=timeout_s,
            retry_wait_s=0.01,
        ) as model,
    ):
        yield model, web


def prompter(in_words: bool) -> Prompt:
    return Prompt("in words" if in_words else "by schema", "data")


async def ask(model: ChatModel) -> Completion:
    return await model.ask(request(), prompter)


def sent(asked: Asked) -> dict[str, Any]:
    return orjson.loads(asked.body)


async def test_it_asks_once_with_the_schema_and_counts_the_tokens() -> None:
    async with model_at(lambda _: completion(GOOD)) as (model, web):
        answer = await ask(model)
        assert answer.answer.fills == {"test.calendar/standup": {"insight": "Bring the demo"}}
        assert (answer.tokens_in, answer.tokens_out) == (100, 20)
        assert [asked.path for asked in web.requests] == ["/v1/chat/completions"]
        told = sent(web.requests[0])
        assert told["response_format"]["type"] == "json_schema"
        assert told["response_format"]["json_schema"]["strict"] is True
        assert told["stream"] is False
        assert told["messages"] == [
            {"role": "system", "content": "by schema"},
            {"role": "user", "content": "data"},
        ]
        assert web.requests[0].headers["authorization"] == "Bearer sk-secret"
        assert model.statistics().calls == 1


async def test_an_endpoint_that_takes_no_schema_is_asked_in_words_from_then_on() -> None:
    def answer(asked: Asked) -> Reply:
        if "response_format" in sent(asked):
            return json_reply('{"error": {"message": "response_format is not supported"}}', 400)
        return completion(f"Here you are:\n```json\n{GOOD}\n```")

    async with model_at(answer) as (model, web):
        assert (await ask(model)).answer.fills
        assert (await ask(model)).answer.fills
        assert [sent(asked)["messages"][0]["content"] for asked in web.requests] == [
            "by schema",
            "in words",
            "in words",
        ]
        assert model.statistics().plain


async def test_an_endpoint_that_does_not_heed_the_schema_is_asked_in_words() -> None:
    async with model_at(in_turn(completion("I'd love to help!"), completion(GOOD))) as (model, web):
        assert (await ask(model)).answer.fills
        assert len(web.requests) == 2


async def test_what_may_pass_is_tried_once_more() -> None:
    for first in (Reply(500), Reply(429, headers={"retry-after": "0"}), b""):
        async with model_at(in_turn(first, completion(GOOD))) as (model, web):
            assert (await ask(model)).answer.fills
            assert len(web.requests) == 2


@pytest.mark.parametrize(
    ("reply", "kind", "requests"),
    [
        (Reply(401), "unauthorized", 1),
        (Reply(403), "unauthorized", 1),
        (Reply(404), "rejected", 1),
        (Reply(500), "unreachable", 2),
        (json_reply("{}", 400), "rejected", 2),
        (completion("no JSON at all"), "badAnswer", 2),
        (completion("[1, 2]"), "badAnswer", 2),
        (completion(None), "badAnswer", 2),
        (completion(None, refusal="I won't"), "refused", 1),
        (json_reply("{}"), "badAnswer", 2),
        (json_reply('{"choices": []}'), "badAnswer", 2),
        (json_reply('{"choices": [{}]}'), "badAnswer", 2),
        (json_reply("<html>"), "badAnswer", 2),
        (Reply(200, b"<html>hello</html>", {"content-type": "text/html"}), "badAnswer", 2),
        (b"", "unreachable", 2),
    ],
)
async def test_every_failure_has_its_kind(reply: Reply | bytes, kind: FailureKind, requests: int) -> None:
    async with model_at(lambda _: reply) as (model, web):
        with pytest.raises(ModelFailure) as raised:
            await ask(model)
        assert raised.value.kind == kind
        assert len(web.requests) == requests
        assert "sk-secret" not in str(raised.value)


async def test_an_endpoint_that_asks_for_a_pause_is_heard() -> None:
    async with model_at(lambda _: Reply(429, headers={"retry-after": "120"})) as (model, _):
        with pytest.raises(ModelFailure) as raised:
            await ask(model)
        assert (raised.value.kind, raised.value.retry_after_s) == ("rateLimited", 120)


async def test_an_endpoint_that_hangs_up_in_the_middle_is_unreachable() -> None:
    whole = completion(GOOD)
    assert isinstance(whole.body, bytes)
    cut = Reply(200, whole.body, whole.headers, cut=len(whole.body) // 2)
    async with model_at(lambda _: cut) as (model, _):
        with pytest.raises(ModelFailure) as raised:
            await ask(model)
        assert raised.value.kind == "unreachable"


async def test_an_endpoint_that_never_answers_costs_the_timeout() -> None:
    async def never(_: Asked) -> Reply:
        await anyio.sleep_forever()
        raise AssertionError

    async with model_at(never, timeout_s=0.5) as (model, _):
        with pytest.raises(ModelFailure) as raised:
            await ask(model)
        assert raised.value.kind == "timeout"
