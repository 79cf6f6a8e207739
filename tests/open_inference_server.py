"""A server of the Open Inference Protocol in a process of its own: one linear model, and ways to misbehave."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar


class Handler(BaseHTTPRequestHandler):
    weight: ClassVar[list[float]] = []
    bias = 0.0
    asked = 0
    protocol_version = "HTTP/1.1"
    wbufsize = 2**16

    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        name = self.path.removeprefix("/v2/models/")
        if name == "asked":
            return self.say({"rows": type(self).asked})
        tensor = {"datatype": "FP32", "shape": [-1, len(self.weight)]}
        inputs = [{"name": "x", **tensor}] * (2 if name == "twoinputs" else 1)
        return self.say({"name": name, "versions": ["1"], "platform": "test", "inputs": inputs, "outputs": []})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        tensor = body["inputs"][0]
        count, width = tensor["shape"]
        rows = [tensor["data"][at * width : (at + 1) * width] for at in range(count)]
        type(self).asked += count
        margins = [sum(w * v for w, v in zip(self.weight, row, strict=True)) - self.bias for row in rows]
        self.answer(self.path.split("/")[3], margins)

    def answer(self, name: str, margins: list[float]) -> None:
        count, data = len(margins), [part for margin in margins for part in (0.0, margin)]
        output: dict[str, Any] = {"name": "y", "datatype": "FP32", "shape": [count, 2], "data": data}
        if name in ("quantity", "prices", "flat"):
            output |= {"data": margins, "shape": [count] if name == "flat" else [count, 1]}
        if name == "labels":
            output |= {"datatype": "INT64", "shape": [count], "data": [int(margin > 0) for margin in margins]}
        if name == "nan":
            output["data"] = [float("nan") if at == 1 else value for at, value in enumerate(data)]
        if name == "short":
            output |= {"data": data[:-1]}
        if name == "wide":
            output |= {"shape": [2, count]}
        if name == "text":
            output |= {"datatype": "BYTES", "data": ["a"] * 2 * count}
        if name == "slow":
            time.sleep(5)
        if name == "busy" and type(self).asked <= 2 * count:
            return self.say({"error": "busy"}, 503)
        if name == "down":
            return self.say({"error": "down"}, 503)
        if name == "forbidden":
            return self.say({"error": "no"}, 403)
        if name == "redirect":
            self.send_response(307)
            self.send_header("Location", "/v2/models/plain/infer")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if name == "huge":
            return self.say({"outputs": [output], "padding": "x" * 2**22})
        if name == "drip":
            return self.drip()
        if name == "list":
            return self.say([])
        return self.say({"model_name": name, "outputs": [output]})

    def drip(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        for _ in range(40):
            self.wfile.write(b" ")
            self.wfile.flush()
            time.sleep(0.2)

    def say(self, document: Any, status: int = 200) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def serving(weight: list[float], bias: float) -> Iterator[str]:
    """The address of a server in a process of its own."""
    command = [sys.executable, str(Path(__file__)), json.dumps([weight, bias])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v2/models"
        finally:
            process.kill()


if __name__ == "__main__":
    Handler.weight, Handler.bias = json.loads(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that left is no news
    print(server.server_port, flush=True)
    server.serve_forever()
