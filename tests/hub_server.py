"""A hub in a thread: as much of the Hugging Face protocol as `huggingface_hub` needs to list and download files."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import struct
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
API = re.compile(r"/api/(models|datasets)/(.+?)(?:/(revision|tree)/([^/]+))?$")
FILE = re.compile(r"/(datasets/)?(.+?)/resolve/([^/]+)/(.+)$")


@dataclass
class Repository:
    """Files by path, with the revisions that lead to them, and whom they are shown to."""

    files: dict[str, bytes]
    revisions: tuple[str, ...] = ("main", COMMIT)
    gated: bool = False  # listed for all, its files for none
    private: bool = False  # not even listed


@dataclass(frozen=True)
class Request:
    """One line of the log."""

    method: str
    path: str
    range: str | None


@dataclass
class Hub:
    """Serves repositories while it is entered; `models` and `datasets` may change meanwhile."""

    models: dict[str, Repository] = field(default_factory=dict)
    datasets: dict[str, Repository] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)  # old name of a model to its present one
    cuts: dict[str, list[tuple[int, bool]]] = field(default_factory=dict)  # file to (bytes until cut, abruptly)
    broken: bool = False  # answers 503
    mute: threading.Event = field(default_factory=threading.Event)  # set: takes requests and never answers
    log: list[Request] = field(default_factory=list)
    port: int = 0

    def __enter__(self) -> Hub:
        self.closing = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), type("Bound", (Handler,), {"hub": self}))
        self.server.daemon_threads = True
        self.port = self.server.server_port
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def fetched(self) -> list[str]:
        """The files that were asked for since the last call, in alphabetical order, one entry for each GET."""
        paths = [FILE.search(r.path) for r in self.log if r.method == "GET"]
        self.log.clear()
        return sorted(unquote(found[4]) for found in paths if found)


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub, path = self.hub, urlsplit(self.path).path
        hub.log.append(Request(self.command, path, self.headers.get("Range")))
        if hub.mute.is_set():
            hub.closing.wait(30)
            self.close_connection = True
        elif hub.broken:
            self.answer(503, b"down for repairs")
        elif found := API.match(path):
            self.describe(found[1], unquote(found[2]), what=found[3], revision=unquote(found[4] or "main"))
        elif found := FILE.match(path):
            kind = "datasets" if found[1] else "models"
            self.deliver(kind, unquote(found[2]), revision=unquote(found[3]), file=unquote(found[4]))
        else:
            self.answer(404, b"{}")

    def find(self, kind: str, name: str, revision: str) -> Repository | None:
        if kind == "models" and name in self.hub.renamed:
            self.answer(307, b"", Location=self.path.replace(name, self.hub.renamed[name], 1))
            return None
        repository = getattr(self.hub, kind).get(name)
        if "Authorization" in self.headers:
            self.answer(401, b"", X_Error_Message="Invalid credentials in Authorization header")
        elif repository is None:
            self.answer(404, b"", X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")
        elif repository.private:
            self.answer(401, b'{"error": "Invalid username or password."}')
        elif revision not in repository.revisions:
            self.answer(404, b'{"error": "Invalid rev id"}', X_Error_Code="RevisionNotFound")
        else:
            return repository
        return None

    def describe(self, kind: str, name: str, *, what: str | None, revision: str) -> None:
        repository = self.find(kind, name, revision)
        if repository is None:
            return
        if what == "tree":
            listing: object = [
                {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for path, data in repository.files.items()
            ]
        else:
            siblings = [{"rfilename": path} for path in repository.files]
            listing = {"id": name, "sha": COMMIT, "private": False, "tags": [], "siblings": siblings}
        self.answer(200, json.dumps(listing).encode(), Content_Type="application/json")

    def deliver(self, kind: str, name: str, *, revision: str, file: str) -> None:
        repository = self.find(kind, name, revision)
        if repository is None:
            return
        if repository.gated:
            self.answer(403, b"", X_Error_Code="GatedRepo", X_Error_Message="Access is restricted.")
        elif file not in repository.files:
            self.answer(404, b"", X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
        else:
            self.send(file, repository.files[file])

    def send(self, file: str, data: bytes) -> None:
        headers = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X_Repo_Commit": COMMIT, "Accept_Ranges": "bytes"}
        asked = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        if asked:
            headers["Content_Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        cut = self.hub.cuts[file].pop(0) if self.command == "GET" and self.hub.cuts.get(file) else None
        self.answer(206 if asked else 200, data[start:], cut, **headers)

    def answer(self, status: int, body: bytes, cut: tuple[int, bool] | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "HEAD":
            return
        size, abruptly = cut or (len(body), False)
        self.wfile.write(body[:size])
        if cut:
            self.close_connection = True
        if abruptly:  # a connection that lingers for no time is reset instead of closed
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
