"""Requests to a server on loopback: what is sent, what is repeated, and a reason where there is no reply."""

import socket
import threading
import time

import pytest
from chat_server import chat_server, completion

from r1jax.config.rewards import JudgeReward
from r1jax.rewards import chat_api
from r1jax.rewards.chat_api import ApiError, ChatApi

MESSAGES = [{"role": "user", "content": "1 + 1?"}]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(chat_api, "FIRST_PAUSE", 0.01)


def api(url, **settings):
    return ChatApi(JudgeReward(name="judge", url=url, model="m", **settings))


def reply(url, **settings):
    return api(url, **settings).reply(MESSAGES, stop=threading.Event())


def reason(url, **settings):
    with pytest.raises(ApiError) as raised:
        reply(url, **settings)
    return raised.value.reason


def in_turn(*answers):
    """Gives one answer after the other, then the last one again."""
    left = list(answers)
    return lambda body: left.pop(0) if len(left) > 1 else left[0]


def test_what_is_sent(monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "secret")
    with chat_server(lambda body: "2") as server:
        assert reply(server.url) == "2"
        assert reply(f"{server.url}/", api_key_env="JUDGE_KEY", request={"max_tokens": None, "top_p": 0.5}) == "2"
    assert server.paths == ["/v1/chat/completions"] * 2
    assert server.requests[0] == {"model": "m", "messages": MESSAGES, "temperature": 0, "max_tokens": 4096}
    assert server.requests[1] == {"model": "m", "messages": MESSAGES, "temperature": 0, "top_p": 0.5}
    assert "Authorization" not in server.headers[0] and server.headers[1]["Authorization"] == "Bearer secret"


def test_a_key_that_is_not_set_is_named(monkeypatch):
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    with pytest.raises(ApiError, match="the environment variable JUDGE_KEY of api_key_env is not set"):
        reply("http://127.0.0.1:1/v1", api_key_env="JUDGE_KEY")


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_may_pass_is_repeated(status):
    with chat_server(in_turn((status, {}, b"busy"), (status, {}, b"busy"), "2")) as server:
        assert reply(server.url) == "2" and len(server.requests) == 3
    with chat_server(lambda body: (status, {}, b"busy")) as server:
        assert reason(server.url, retries=2) == f"http_{status}" and len(server.requests) == 3


def test_pauses_grow_and_are_as_long_as_the_server_asks(monkeypatch):
    waited = []

    class Stop(threading.Event):
        def wait(self, timeout=None):
            waited.append(timeout)
            return False

    answers = [(429, {"Retry-After": "7"}, b""), (429, {"Retry-After": "Sat"}, b""), (429, {"Retry-After": "9e9"}, b"")]
    monkeypatch.setattr(chat_api.random, "uniform", lambda low, high: 1.0)
    with chat_server(in_turn(*answers, (500, {}, b""), "2")) as server:
        assert api(server.url, retries=4).reply(MESSAGES, stop=Stop()) == "2"
    assert waited == [7.0, 0.02, 30.0, 0.08]


def test_once_it_is_stopped_nothing_is_repeated():
    stop = threading.Event()
    stop.set()
    with chat_server(lambda body: (500, {}, b"")) as server:
        with pytest.raises(ApiError):
            api(server.url).reply(MESSAGES, stop=stop)
        assert len(server.requests) == 1


@pytest.mark.parametrize("status", [400, 401, 404])
def test_what_will_not_pass_is_asked_once(status):
    with chat_server(lambda body: (status, {}, b"no such model")) as server:
        with pytest.raises(ApiError, match=f"HTTP {status} no such model"):
            reply(server.url)
        assert len(server.requests) == 1


def test_a_redirect_takes_the_key_nowhere(monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "secret")
    with (
        chat_server(lambda body: "2") as other,
        chat_server(lambda body: (302, {"Location": other.url}, b"")) as server,
    ):
        assert reason(server.url, api_key_env="JUDGE_KEY") == "http_302"
        assert not other.requests


@pytest.mark.parametrize("slow", ["headers", "body"])
def test_a_slow_reply_is_a_timeout_and_not_repeated(slow):
    over = threading.Event()

    def wait(body):
        over.wait(30)
        return "2"

    if slow == "headers":
        with chat_server(wait) as server:
            began = time.monotonic()
            assert reason(server.url, seconds=0.2) == "timeout" and time.monotonic() - began < 10
            assert len(server.requests) == 1
            over.set()
        return
    with socket.create_server(("127.0.0.1", 0)) as listening:  # a byte now and then, without end

        def drip():
            connection, _ = listening.accept()
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            try:
                while not over.wait(0.05):
                    connection.sendall(b" ")
            except OSError:
                pass

        thread = threading.Thread(target=drip)
        thread.start()
        assert reason(f"http://127.0.0.1:{listening.getsockname()[1]}", seconds=0.3) == "timeout"
        over.set()
        thread.join(30)


def test_a_closed_port_is_unreachable():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    assert reason(url, retries=1) == "unreachable"


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "bad_reply"),
        (b"<html>", "bad_reply"),
        (b"[1]", "bad_reply"),
        (b'{"choices": []}', "bad_reply"),
        (b'{"choices": [{"message": null}]}', "bad_reply"),
        (b"[" * 100_000, "bad_reply"),
        (completion(None), "bad_reply"),
        (completion('{"correctness": "correct"}', "length"), "truncated"),
        (b" " * (chat_api.MAX_BYTES + 1), "too_large"),
    ],
    ids=range(9),
)
def test_what_is_no_reply(content, word):
    with chat_server(lambda body: (200, {}, content)) as server:
        assert reason(server.url) == word and len(server.requests) == 1
