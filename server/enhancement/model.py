"""The endpoint: one question, one answer in clean text, or a ModelFailure. `openai` stays in here.

Imported only where there is an endpoint to ask: the library is a quarter of what a server would load.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import anyio
import openai
from openai.types.chat import ChatCompletion

from server.engine.clock import Clock
from server.enhancement.answer import NoAnswer, PassAnswer, answer_model, read_answer, schema_of
from server.enhancement.completion import Completion, ModelFailure, ModelStatistics, Prompter
from server.enhancement.prompt import Prompt
from server.enhancement.request import PassRequest

__all__ = ["ChatModel"]

_MOST_TOKENS: Final = 4_000
_PLAIN_FOR_S: Final = 3600.0  # an endpoint that takes no schema is asked without one for so long
_ATTEMPTS: Final = 2  # where it may help: no connection, 429, 5xx
_RETRY_WAIT_S: Final = 0.5
_MOST_RETRY_WAIT_S: Final = (
    5.0  # who asks for a longer pause gets it from the breaker, not from a waiting call
)


class ChatModel:
    """An OpenAI-compatible chat-completions endpoint. Use as an async context manager."""

    def __init__(
        self,
        *,
        base_url: str,
        api_key: str,
        model: str,
        clock: Clock,
        timeout_s: float = 30.0,
        retry_wait_s: float = 0.5,
    ) -> None:
        # The library's own retries would sleep as long as any Retry-After says.
        self._client = openai.AsyncOpenAI(
            api_key=api_key, base_url=base_url, timeout=timeout_s, max_retries=0
        )
        self._model = model
        self._clock = clock
        self._timeout_s = timeout_s
        self._retry_wait_s = retry_wait_s
        self._plain_until = 0.0
        self._calls = self._tokens_in = self._tokens_out = 0

    async def __aenter__(self) -> ChatModel:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    def statistics(self) -> ModelStatistics:
        """What was asked."""
        return ModelStatistics(self._calls, self._tokens_in, self._tokens_out, self._plain)

    async def ask(self, request: PassRequest, prompter: Prompter) -> Completion:
        """One pass, within the timeout all in all. Raises ModelFailure."""
        try:
            with anyio.fail_after(self._timeout_s):
                # Building a model class takes milliseconds: not on the event loop.
                shape = await anyio.to_thread.run_sync(partial(answer_model, request))
                schema = await anyio.to_thread.run_sync(partial(schema_of, shape))
                before_in, before_out = self._tokens_in, self._tokens_out
                answer = await self._answer(request, prompter, shape, schema)
                return Completion(answer, self._tokens_in - before_in, self._tokens_out - before_out)
        except TimeoutError:
            raise ModelFailure("timeout") from None
        except NoAnswer:
            raise ModelFailure("badAnswer") from None
        except openai.APIError as error:
            raise _failure(error) from None

    @property
    def _plain(self) -> bool:
        return self._clock.monotonic() < self._plain_until

    async def _answer(
        self, request: PassRequest, prompter: Prompter, shape: type[Any], schema: dict[str, Any]
    ) -> PassAnswer:
        if not self._plain:
            try:
                text = await self._complete(prompter(False), schema)
                return read_answer(text, request, shape)
            except (openai.BadRequestError, openai.UnprocessableEntityError, NoAnswer):
                # It takes no schema, or takes it and does not heed it: say the shape in words.
                self._plain_until = self._clock.monotonic() + _PLAIN_FOR_S
        return read_answer(await self._complete(prompter(True), None), request, shape)

    async def _complete(self, prompt: Prompt, schema: dict[str, Any] | None) -> str:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return await self._complete_once(prompt, schema)
            except (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError) as error:
                wait_s = self._retry_wait_s if (asked := _retry_after_s(error)) is None else asked
                if attempt == _ATTEMPTS or wait_s > _MOST_RETRY_WAIT_S:
                    raise
                await anyio.sleep(wait_s)
        raise AssertionError("the last attempt raises or returns")

    async def _complete_once(self, prompt: Prompt, schema: dict[str, Any] | None) -> str:
        structured: dict[str, Any] = {}
        if schema is not None:
            shape = {"name": "feed_pass", "strict": True, "schema": schema}
            structured["response_format"] = {"type": "json_schema", "json_schema": shape}
            structured["max_tokens"] = _MOST_TOKENS
        try:
            completion: object = await self._client.chat.completions.create(
                model=self._model,
                messages=[
                    {"role": "system", "content": prompt.system},
                    {"role": "user", "content": prompt.user},
                ],
                stream=False,
                **structured,
            )
        except ValueError:
            raise NoAnswer from None  # said to be JSON, and is none
        if not isinstance(completion, ChatCompletion):  # pyright: ignore[reportUnnecessaryIsInstance] -- see behind
            raise NoAnswer  # the library hands on as text what is not said to be JSON
        self._calls += 1
        if completion.usage is not None:
            self._tokens_in += completion.usage.prompt_tokens
            self._tokens_out += completion.usage.completion_tokens
        return _text(completion)


def _text(completion: ChatCompletion) -> str:
    # The library does not check what endpoints send: any member may be missing.
    choices = completion.choices or []
    if not choices or choices[0].message is None:  # pyright: ignore[reportUnnecessaryComparison] -- see above
        raise NoAnswer
    message = choices[0].message
    if message.refusal:
        raise ModelFailure("refused")
    if not isinstance(message.content, str):
        raise NoAnswer
    return message.content


def _failure(error: openai.APIError) -> ModelFailure:
    match error:
        case openai.APITimeoutError():
            return ModelFailure("timeout")
        case openai.APIConnectionError():
            return ModelFailure("unreachable")
        case openai.RateLimitError():
            return ModelFailure("rateLimited", _retry_after_s(error))
        case openai.AuthenticationError() | openai.PermissionDeniedError():
            return ModelFailure("unauthorized")
        case openai.InternalServerError():
            return ModelFailure("unreachable", _retry_after_s(error))
        case openai.APIStatusError():
            return ModelFailure("rejected")
        case _:
            return ModelFailure("badAnswer")


def _retry_after_s(error: openai.APIError) -> float | None:
    if not isinstance(error, openai.APIStatusError):
        return None
    header = error.response.headers.get("retry-after", "")
    return float(header) if header.isascii() and header.isdigit() and len(header) < 7 else None
