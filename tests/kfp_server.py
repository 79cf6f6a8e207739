"""A Kubeflow Pipelines API that keeps what it is told and records every request, for kfp's own client to speak to."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

API = "/apis/v2beta1"
COLLECTIONS = {
    "pipelines": "pipeline_id",
    "experiments": "experiment_id",
    "runs": "run_id",
    "recurringruns": "recurring_run_id",
}
FIELDS = {
    "recurringruns": "recurringRuns",
    "versions": "pipeline_versions",
}


@dataclass
class Recorded:
    """One request: what, by whom, with which body."""

    method: str
    path: str
    query: dict[str, str]
    token: str
    body: Any


@dataclass
class Server:
    """What the server holds and heard."""

    address: str = ""
    requests: list[Recorded] = field(default_factory=list)
    things: dict[str, list[dict[str, Any]]] = field(
        default_factory=lambda: {name: [] for name in (*COLLECTIONS, "versions")}
    )
    refuse: int = 0
    stall_s: float = 0.0

    def posted(self, ending: str) -> list[Recorded]:
        return [one for one in self.requests if one.method == "POST" and one.path.endswith(ending)]


class Handler(BaseHTTPRequestHandler):
    server: Any

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def _answer(self, method: str) -> None:
        state: Server = self.server.state
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind = self.headers.get("Content-Type", "")
        body: Any = self._file(kind, raw) if kind.startswith("multipart") else json.loads(raw or b"null")
        path = parts.path.removeprefix(API)
        state.requests.append(Recorded(method, path, query, self.headers.get("Authorization", ""), body))
        time.sleep(state.stall_s)
        if state.refuse:
            self._send(state.refuse, {"error": "no", "message": "not you"})
            return
        self._send(200, self._handle(state, method, path, query, body))

    def _handle(self, state: Server, method: str, path: str, query: dict[str, str], body: Any) -> dict[str, Any]:
        if path == "/healthz":
            return {"multi_user": False}
        if path == "/pipelines/upload":
            return self._add(state, "pipelines", "pipeline_id", {"display_name": query["name"]})
        if path == "/pipelines/upload_version":
            entry = {"display_name": query["name"], "pipeline_id": query["pipelineid"]}
            return self._add(state, "versions", "pipeline_version_id", entry)
        if match := re.fullmatch(r"/pipelines/([^/]+)/versions", path):
            held = [one for one in state.things["versions"] if one["pipeline_id"] == match[1]]
            return {"pipeline_versions": self._filtered(held, query)}
        name = path.strip("/")
        if method == "POST":
            return self._add(state, name, COLLECTIONS[name], body)
        return {FIELDS.get(name, name): self._filtered(state.things[name], query)}

    def _add(self, state: Server, name: str, key: str, entry: dict[str, Any]) -> dict[str, Any]:
        made = {**entry, key: f"{name}-{len(state.things[name]) + 1}", "created_at": "2026-01-02T03:04:05Z"}
        state.things[name].append(made)
        return made

    def _filtered(self, held: list[dict[str, Any]], query: dict[str, str]) -> list[dict[str, Any]]:
        wanted = json.loads(query["filter"])["predicates"][0] if query.get("filter") else None
        value = wanted and (wanted.get("stringValue") or wanted.get("string_value"))
        return [one for one in held if wanted is None or one.get("display_name") == value]

    def _file(self, kind: str, raw: bytes) -> bytes:
        message = BytesParser().parsebytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + raw)
        payload = message.get_payload()[0].get_payload(decode=True)  # type: ignore[index,union-attr]
        assert isinstance(payload, bytes)
        return payload

    def _send(self, status: int, document: dict[str, Any]) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serving() -> Iterator[Server]:
    """A server on a free port of this machine, until the block ends."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that left is no news
    http.daemon_threads = True
    http.state = Server(f"http://127.0.0.1:{http.server_address[1]}")  # type: ignore[attr-defined]
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield http.state  # type: ignore[attr-defined]
    finally:
        http.shutdown()
        http.server_close()
