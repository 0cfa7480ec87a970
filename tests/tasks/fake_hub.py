"""A small Hub on this machine: as much of its interface as `datasets` asks for one repository."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol, TypeVar
from urllib.parse import unquote, urlsplit

HubT = TypeVar("HubT", bound="Served")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    """One dataset repository, and what was fetched of it.

    Attributes:
        repo: its name, owner included.
        files: path -> content.
        fetched: path -> number of bytes sent; asking for the size alone counts nothing.
        endpoint: its address, once it is served.
    """

    repo: str
    files: dict[str, bytes]
    fetched: dict[str, int] = field(default_factory=dict)
    endpoint: str = ""

    def entry(self, path: str) -> dict[str, object]:
        size, oid = len(self.files[path]), etag(self.files[path])
        return {"type": "file", "path": path, "size": size, "oid": oid}

    def folder(self, name: str, is_deep: bool) -> list[dict[str, object]] | None:
        """The entries of a folder; None where there is none."""
        start = f"{name}/" if name else ""
        inside = sorted(path for path in self.files if path.startswith(start))
        folders = {start + p[len(start) :].split("/")[0] for p in inside if "/" in p[len(start) :]}
        entries = [{"type": "directory", "path": path, "oid": "0" * 40} for path in folders]
        kept = [path for path in inside if is_deep or "/" not in path[len(start) :]]
        return [*entries, *map(self.entry, kept)] if inside else None

    def information(self) -> dict[str, object]:
        siblings = [{"rfilename": path} for path in sorted(self.files)]
        return {"id": self.repo, "sha": COMMIT, "private": False, "siblings": siblings}


def etag(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


class Served(Protocol):
    """What can be served: it is told its address."""

    endpoint: str


@contextmanager
def served(hub: HubT, kind: type[BaseHTTPRequestHandler] | None = None) -> Iterator[HubT]:
    """Serve the repository while the block runs."""
    handler = type("Handler", (kind or Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield hub
        server.shutdown()
        thread.join()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        address = urlsplit(unquote(self.path))
        api, file = f"/api/datasets/{self.hub.repo}", f"/datasets/{self.hub.repo}/resolve/"
        if address.path == "/":
            self.send(200, b"")
        elif address.path.startswith(file):
            self._send_file(address.path[len(file) :].partition("/")[2])
        elif address.path.startswith(f"{api}/tree/"):
            name = address.path[len(f"{api}/tree/") :].partition("/")[2]
            entries = self.hub.folder(name, "recursive=true" in address.query.lower())
            self.send(404 if entries is None else 200, json.dumps(entries).encode())
        elif address.path == api or address.path.startswith(f"{api}/revision/"):
            self.send(200, json.dumps(self.hub.information()).encode())
        else:
            self.send(404, b"")

    def _send_file(self, path: str) -> None:
        content = self.hub.files.get(path)
        if content is None:
            return self.send(404, b"", {"X-Error-Code": "EntryNotFound"})
        if self.command == "GET":
            self.hub.fetched[path] = self.hub.fetched.get(path, 0) + len(content)
        return self.send(200, content, {"ETag": f'"{etag(content)}"', "X-Repo-Commit": COMMIT})

    def send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        kind = "application/json" if self.path.startswith("/api/") else "application/octet-stream"
        for key, value in {"Content-Type": kind, **(headers or {})}.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing: the output of the tests stays clean."""
