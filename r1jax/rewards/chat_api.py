"""Chat completions from an address that has OpenAI's API: requests with a time limit, repeated where that may help.

api = ChatApi(settings)
api.reply([{"role": "user", "content": "What is 1 + 1?"}], stop=threading.Event())  # "It is 2."
"""

from __future__ import annotations

import http.client
import json
import os
import random
import threading
import time
import urllib.error
import urllib.request
from typing import Any

from r1jax.config.rewards import JudgeReward

DEFAULTS = {"temperature": 0, "max_tokens": 4096}
MAX_BYTES = 4_000_000  # of a reply
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds before a request is repeated; each pause is twice the one before


class ApiError(Exception):
    """There is no reply, for a reason: timeout, unreachable, http_CODE, too_large, bad_reply, truncated or no_key.

    `may_pass` says that the same request may succeed after `pause` seconds.
    """

    def __init__(self, reason: str, message: str, *, may_pass: bool = False, pause: float = 0.0) -> None:
        super().__init__(message)
        self.reason, self.may_pass, self.pause = reason, may_pass, pause

    @property
    def of_server(self) -> bool:
        """Whether other requests are likely to fail too."""
        return self.may_pass or self.reason == "timeout"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would take the API key to another address."""

    def redirect_request(self, *_: Any) -> None:
        return None


class ChatApi:
    """The model at `settings.url`."""

    def __init__(self, settings: JudgeReward) -> None:
        self.settings = settings
        self._opener = urllib.request.build_opener(_NoRedirect)

    def reply(self, messages: list[dict[str, str]], *, stop: threading.Event) -> str:
        """The text of the model's reply. Raises ApiError; once `stop` is set, nothing is repeated."""
        for attempt in range(self.settings.retries + 1):
            try:
                return self._ask(messages)
            except ApiError as error:
                if not error.may_pass or attempt == self.settings.retries:
                    raise
                pause = max(error.pause, FIRST_PAUSE * 2**attempt * random.uniform(0.5, 1.5))
                if stop.wait(min(pause, LONGEST_PAUSE)):
                    raise
        raise AssertionError

    def _ask(self, messages: list[dict[str, str]]) -> str:
        body = {"model": self.settings.model, "messages": messages} | DEFAULTS | self.settings.request
        body = {key: value for key, value in body.items() if value is not None}
        request = urllib.request.Request(
            f"{self.settings.url.rstrip('/')}/chat/completions",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json", **self._authorization()},
        )
        deadline = time.monotonic() + self.settings.seconds
        try:
            with self._opener.open(request, timeout=self.settings.seconds) as response:
                content = _read(response, deadline)
        except urllib.error.HTTPError as error:
            with error:
                code = error.code
                may_pass = code in (408, 429) or code >= 500
                pause = _seconds(error.headers.get("Retry-After"))
                said = _excerpt(error)
            raise ApiError(f"http_{code}", f"HTTP {code} {said}", may_pass=may_pass, pause=pause) from None
        except (OSError, http.client.HTTPException) as error:
            cause = getattr(error, "reason", error)
            if isinstance(cause, TimeoutError):
                raise ApiError("timeout", f"no reply in {self.settings.seconds:g} s") from None
            raise ApiError("unreachable", str(cause) or type(cause).__name__, may_pass=True) from None
        return _text(content)

    def _authorization(self) -> dict[str, str]:
        name = self.settings.api_key_env
        if name is None:
            return {}
        if not os.environ.get(name):
            raise ApiError("no_key", f"the environment variable {name} of api_key_env is not set")
        return {"Authorization": f"Bearer {os.environ[name]}"}


def _read(response: Any, deadline: float) -> bytes:
    """The body of a response, which may come in small pieces."""
    content = b""
    while piece := response.read1(65_536):
        content += piece
        if len(content) > MAX_BYTES:
            raise ApiError("too_large", f"the reply has more than {MAX_BYTES} bytes")
        if time.monotonic() > deadline:
            raise TimeoutError
    return content


def _text(content: bytes) -> str:
    """The message in a response. One that was truncated is none: what it breaks off in may look whole."""
    try:
        choice = json.loads(content)["choices"][0]
        text, truncated = choice["message"]["content"], choice.get("finish_reason") == "length"
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        raise ApiError("bad_reply", f"{content!r:.200} is no chat completion") from None
    if truncated:
        raise ApiError("truncated", "the reply was truncated at max_tokens; raise it in request")
    if not isinstance(text, str):
        raise ApiError("bad_reply", "the reply has no text")
    return text


def _excerpt(error: urllib.error.HTTPError) -> str:
    try:
        return error.read(300).decode(errors="replace").replace("\n", " ")
    except (OSError, http.client.HTTPException):
        return error.reason or ""


def _seconds(header: str | None) -> float:
    """What Retry-After asks for, where it is a number."""
    try:
        return max(float(header or 0), 0.0)
    except ValueError:
        return 0.0
