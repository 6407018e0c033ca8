"""A stub of an OpenAI-compatible server on loopback, which answers as a function of the request's messages."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class ChatServer:
    """`answer` gives, for a request's body, the text of a reply, or (status, headers, body)."""

    url: str
    answer: Callable[[dict[str, Any]], str | tuple[int, dict[str, str], bytes]]
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)


def completion(text: str | None, finish_reason: str = "stop") -> bytes:
    message = {"role": "assistant", "content": text}
    return json.dumps({"choices": [{"message": message, "finish_reason": finish_reason}]}).encode()


@contextlib.contextmanager
def chat_server(answer: Any) -> Iterator[ChatServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            stub.requests.append(body)
            stub.headers.append(dict(self.headers))
            stub.paths.append(self.path)
            said = stub.answer(body)
            status, headers, content = (200, {}, completion(said)) if isinstance(said, str) else said
            with contextlib.suppress(OSError):  # the client may have gone
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(content))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 256  # connections that wait; the default is 5
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    stub = ChatServer(f"http://127.0.0.1:{server.server_port}/v1", answer)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
