"""A small Hub on this machine that takes models: as much of its interface as an upload asks for."""

import base64
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from tests.tasks.fake_hub import COMMIT, Handler

TOKEN = "hf_" + "a1B2" * 8


@dataclass
class ModelHub:
    """An account, and the repositories that were made.

    Attributes:
        files: repository -> path -> content; what is there before belongs to others.
        private: the repositories that nobody else sees.
        requests: method and path of each request.
        commits: number of commits.
        role: of the token.
        failing: end of a path -> the status that it answers with.
        endpoint: its address, once it is served.
    """

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)
    commits: int = 0
    role: str = "write"
    failing: dict[str, int] = field(default_factory=dict)
    endpoint: str = ""
    blobs: dict[str, bytes] = field(default_factory=dict)


class ModelHandler(Handler):
    hub: ModelHub  # type: ignore[assignment]

    def do_GET(self) -> None:
        if self._is_refused():
            return
        if self.path == "/api/whoami-v2":
            token = {"accessToken": {"role": self.hub.role}}
            return self._answer({"name": "me", "orgs": [{"name": "we"}], "auth": token})
        repo = "/".join(self.path.split("?")[0].split("/")[3:5])
        files = self.hub.files.get(repo)
        if files is None:
            return self.send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        if "/tree/" in self.path:
            entries = [
                {"type": "file", "path": path, "size": len(content), "oid": "0" * 40}
                for path, content in files.items()
            ]
            return self._answer(entries)
        return self._answer({"id": repo, "sha": COMMIT, "private": repo in self.hub.private})

    def do_PUT(self) -> None:
        content = self._body()
        if not self._is_refused():
            self.hub.blobs[self.path.rpartition("/")[2]] = content
            self.send(200, b"")

    def do_POST(self) -> None:
        content = self._body()
        if self._is_refused():
            return
        repo = "/".join(self.path.removesuffix(".git/info/lfs/objects/batch").split("/")[-4:-2])
        if self.path.endswith("/batch"):
            return self._batch(json.loads(content))
        if self.path == "/api/repos/create":
            return self._create(json.loads(content))
        if self.path == "/api/validate-yaml":
            return self._answer({"errors": [], "warnings": []})
        if self.path.endswith("/preupload/main"):
            return self._answer({"files": [_mode(file) for file in json.loads(content)["files"]]})
        assert self.path.endswith("/commit/main")
        return self._commit(repo, [json.loads(line) for line in content.splitlines()])

    def _create(self, asked: dict[str, Any]) -> None:
        repo = f"{asked['organization']}/{asked['name']}"
        if repo in self.hub.files:
            return self._answer({"url": f"{self.hub.endpoint}/{repo}"}, 409)
        self.hub.files[repo] = {}
        if asked.get("visibility") == "private":
            self.hub.private.add(repo)
        return self._answer({"url": f"{self.hub.endpoint}/{repo}"})

    def _batch(self, asked: dict[str, Any]) -> None:
        place = f"{self.hub.endpoint}/blobs"
        self._answer(
            {
                "transfer": "basic",
                "objects": [
                    {**entry, "actions": {"upload": {"href": f"{place}/{entry['oid']}"}}}
                    for entry in asked["objects"]
                ],
            }
        )

    def _commit(self, repo: str, lines: list[dict[str, Any]]) -> None:
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                self.hub.files[repo][value["path"]] = base64.b64decode(value["content"])
            else:
                assert line["key"] == "lfsFile"
                content = self.hub.blobs[value["oid"]]
                assert hashlib.sha256(content).hexdigest() == value["oid"]
                self.hub.files[repo][value["path"]] = content
        self.hub.commits += 1
        address = f"{self.hub.endpoint}/{repo}/commit/{COMMIT}"
        self._answer({"commitUrl": address, "commitOid": COMMIT})

    def _is_refused(self) -> bool:
        """Answer with the failure that a test asked for, or to a token that is not known."""
        self.hub.requests.append(f"{self.command} {self.path}")
        for end, status in self.hub.failing.items():
            if self.path.endswith(end):
                self.send(status, b"{}")
                return True
        is_known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if not is_known and self.command != "PUT":
            self.send(401, b"{}")
        return not is_known and self.command != "PUT"

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def _answer(self, content: object, status: int = 200) -> None:
        self.send(status, json.dumps(content).encode())


def _mode(file: dict[str, Any]) -> dict[str, Any]:
    mode = "lfs" if file["path"].endswith(".safetensors") else "regular"
    return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": None}
