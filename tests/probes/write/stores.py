"""Imitations of stores over real HTTP: documented paths, bodies and answers, in whatever state a test says.

They answer 400 or 404 to every request that is not exactly the documented one, so a preset that asks wrongly
is not taken for one that asks rightly.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

from ..harness import Asked, Step, http

READ_ONLY = "Read-only mode: write operations are not allowed. The server is running with --read-only flag."


@dataclass
class Imitation:
    """One store. `state`: open, frozen, partial (refuses, yet applies), dropped (accepts, applies nothing),
    other (refuses for another reason), or one of its own."""

    state: str = "open"
    items: dict[str, Any] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def __call__(self, asked: Asked) -> Step:
        self.asked.append(asked)
        parts = urlsplit(asked.target)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        try:
            return self.answer(asked.method, unquote(parts.path), query, asked.body)
        except (ValueError, KeyError, TypeError):
            return http(400, b"this is not the documented request")

    def answer(self, verb: str, path: str, query: dict[str, str], body: bytes) -> Step:
        raise NotImplementedError

    def write(self, key: str, value: Any) -> Step:
        """What a write of `value` is answered, after it was applied or not."""
        if self.state in ("open", "partial"):
            self.items[key] = value
        if self.state in ("open", "dropped"):
            return self.accepted(key)
        if self.state == "other":
            return self.other()
        return self.refused()

    def accepted(self, key: str) -> Step:
        raise NotImplementedError

    def refused(self) -> Step:
        raise NotImplementedError

    def other(self) -> Step:
        raise NotImplementedError


class Qdrant(Imitation):
    ENTRY: ClassVar[dict[str, Any]] = {"qdrant": {"url": "URL", "collection": "products ü", "size": 3}}

    def answer(self, verb: str, path: str, query: dict[str, str], body: bytes) -> Step:
        base = "/collections/products ü/points"
        if verb == "GET" and path.startswith(f"{base}/"):
            key = path.removeprefix(f"{base}/")
            return self._ok({"id": key}) if key in self.items else self._error(404, "Not found: Not found")
        if query != {"wait": "true"}:
            return self._error(400, "the request is not the documented one")
        if (verb, path) == ("PUT", base):
            (point,) = json.loads(body)["points"]
            if len(point["vector"]) != 3 or not re.fullmatch(r"[0-9a-f-]{36}", point["id"]):
                return self._error(400, "Wrong input: Vector dimension error: expected dim: 3")
            return self.write(point["id"], point)
        if (verb, path) == ("POST", f"{base}/delete"):
            for key in json.loads(body)["points"]:
                self.items.pop(key, None)
            return self._ok({"operation_id": 2, "status": "completed"})
        return self._error(404, "no such path")

    @staticmethod
    def _ok(result: object) -> bytes:
        return http(200, json_={"result": result, "status": "ok", "time": 0.0001})

    @staticmethod
    def _error(status: int, message: str) -> bytes:
        return http(status, json_={"status": {"error": message}, "time": 0.0})

    def accepted(self, key: str) -> Step:
        return self._ok({"operation_id": 1, "status": "completed"})

    def refused(self) -> Step:
        if self.state == "locked":
            return self._error(403, "Forbidden: Write operations are forbidden")
        return self._error(403, READ_ONLY)

    def other(self) -> Step:
        return self._error(403, "Forbidden: Write access to collection products is required")


class Weaviate(Imitation):
    ENTRY: ClassVar[dict[str, Any]] = {
        "weaviate": {"url": "URL", "collection": "Products", "tenant": "eu", "properties": {"title": "c"}}
    }

    def answer(self, verb: str, path: str, query: dict[str, str], body: bytes) -> Step:
        if (verb, path) == ("POST", "/v1/objects"):
            sent = json.loads(body)
            if set(sent) != {"class", "id", "properties", "tenant"} or sent["class"] != "Products":
                return http(422, json_={"error": [{"message": "invalid object"}]})
            return self.write(sent["id"], sent)
        if query != {"tenant": "eu"} or not path.startswith("/v1/objects/Products/"):
            return http(404, b"")
        key = path.removeprefix("/v1/objects/Products/")
        if verb == "GET":
            return http(200, json_=self.items[key]) if key in self.items else http(404, b"")
        if verb == "DELETE":
            return http(204) if self.items.pop(key, None) else http(404, b"")
        return http(405, b"")

    def accepted(self, key: str) -> Step:
        return http(200, json_={"id": key, "class": "Products"})

    def refused(self) -> Step:
        said = 'put object: import into index products: put local object: shard="x": store is read-only'
        return http(500, json_={"error": [{"message": said}]})

    def other(self) -> Step:
        return http(500, json_={"error": [{"message": "put object: vectorizer: connection refused"}]})


class Chroma(Imitation):
    ID: ClassVar[str] = "c575c74a-b6ce-4fd7-a1cf-398862dd731e"
    ENTRY: ClassVar[dict[str, Any]] = {"chroma": {"url": "URL", "collection": ID, "size": [0.5, 0.25]}}

    def answer(self, verb: str, path: str, query: dict[str, str], body: bytes) -> Step:
        base = f"/api/v2/tenants/default_tenant/databases/default_database/collections/{self.ID}/"
        if verb != "POST" or not path.startswith(base):
            return http(404, json_={"error": "NotFoundError", "message": "no such path"})
        sent = json.loads(body)
        (key,) = sent["ids"]
        what = path.removeprefix(base)
        if what == "upsert":
            if sent["embeddings"] != [[0.5, 0.25]]:
                return http(400, json_={"error": "InvalidArgumentError", "message": "expecting dimension 2"})
            return self.write(key, sent)
        if what == "get":
            return http(200, json_={"ids": [key] if key in self.items else [], "include": []})
        return http(200, json_={"deleted": int(self.items.pop(key, None) is not None)})

    def accepted(self, key: str) -> Step:
        return http(200, json_={})

    def refused(self) -> Step:
        return http(503, None, ("Retry-After", "600"), json_={"error": {"code": "read_only"}})

    def other(self) -> Step:
        return http(404, json_={"error": "NotFoundError", "message": "Collection [x] does not exist."})


class Elasticsearch(Imitation):
    NAME: ClassVar[str] = "elasticsearch"
    ENTRY: ClassVar[dict[str, Any]] = {
        "elasticsearch": {"url": "URL", "index": "products", "document": {"title": 'a "canary" ${canary}'}}
    }

    def answer(self, verb: str, path: str, query: dict[str, str], body: bytes) -> Step:
        if (verb, path) == ("POST", "/products/_bulk"):
            return self._bulk(body)
        if not path.startswith("/products/_doc/"):
            return http(405, json_={"error": "Incorrect HTTP method", "status": 405})
        key = path.removeprefix("/products/_doc/")
        if verb == "GET":
            return http(200 if key in self.items else 404, json_={"_id": key, "found": key in self.items})
        if self.state in ("frozen", "cluster"):
            return http(403, json_=self._whole(403))
        gone = self.items.pop(key, None) is not None
        return http(200 if gone else 404, json_={"_id": key, "result": "deleted" if gone else "not_found"})

    def _bulk(self, body: bytes) -> Step:
        if self.asked[-1].header("Content-Type") != ["application/x-ndjson"] or not body.endswith(b"\n"):
            return http(406, json_={"error": "Content-Type header is not supported", "status": 406})
        action, document = (json.loads(line) for line in body.splitlines())
        key = action["index"]["_id"]
        if document != {"title": f'a "canary" {key}'}:
            return http(400, json_={"error": {"type": "illegal_argument_exception"}, "status": 400})
        return self.write(key, document)

    @staticmethod
    def _item(status: int, **said: Any) -> bytes:
        item = {"_index": "products", "_id": "x", "status": status, **said}
        return http(200, json_={"took": 3, "errors": "error" in said, "items": [{"index": item}]})

    @staticmethod
    def _whole(status: int) -> dict[str, Any]:
        cause = {
            "type": "cluster_block_exception",
            "reason": "blocked by: [FORBIDDEN/6/cluster read-only (api)];",
        }
        return {"error": {"root_cause": [cause], **cause}, "status": status}

    def accepted(self, key: str) -> Step:
        return self._item(201, result="created", _version=1)

    def refused(self) -> Step:
        if self.state == "cluster":
            return http(403, json_=self._whole(403))
        status = 429 if self.state == "flood" else 403
        why = "index [products] blocked by: [FORBIDDEN/8/index write (api)];"
        return self._item(status, error={"type": "cluster_block_exception", "reason": why})

    def other(self) -> Step:
        why = "action [indices:data/write/bulk[s]] is unauthorized for user [app]"
        return self._item(403, error={"type": "security_exception", "reason": why})


class OpenSearch(Elasticsearch):
    NAME: ClassVar[str] = "opensearch"
    ENTRY: ClassVar[dict[str, Any]] = {"opensearch": Elasticsearch.ENTRY["elasticsearch"]}

    def other(self) -> Step:
        error = {
            "type": "es_rejected_execution_exception",
            "reason": "rejected execution of primary operation",
        }
        return http(429, json_={"error": error, "status": 429})


class S3(Imitation):
    ENTRY: ClassVar[dict[str, Any]] = {"s3": {"url": "URL/bucket", "prefix": "imports/ü/"}}

    def answer(self, verb: str, path: str, query: dict[str, str], body: bytes) -> Step:
        if not re.fullmatch(r"/bucket/imports/ü/freezewatch-[0-9a-f]+", path):
            return self._error(404, "NoSuchBucket", "The specified bucket does not exist")
        if verb == "PUT":
            return self.write(path, body)
        if verb == "GET":
            found = self.items.get(path)
            return http(200, found) if found else self._error(404, "NoSuchKey", "no such key")
        self.items.pop(path, None)
        return http(204)

    @staticmethod
    def _error(status: int, code: str, message: str) -> bytes:
        xml = '<?xml version="1.0" encoding="UTF-8"?>\n'
        xml += f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        return http(status, xml, ("Content-Type", "application/xml"))

    def accepted(self, key: str) -> Step:
        return http(200, b"", ("ETag", '"abc"'))

    def refused(self) -> Step:
        return self._error(403, "AccessDenied", "Access Denied")

    def other(self) -> Step:
        return self._error(403, "SignatureDoesNotMatch", "The request signature does not match")


class S3Presigned(S3):
    KEY: ClassVar[str] = "bucket/imports/%C3%BC/freezewatch-0123?X-Amz-Signature=5e2f"
    ENTRY: ClassVar[dict[str, Any]] = {
        "s3_presigned": {"put": f"URL/{KEY}", "get": f"URL/{KEY}", "delete": f"URL/{KEY}"}
    }

    def other(self) -> Step:
        return self._error(403, "AccessDenied", "Request has expired")


class GraphQL(Imitation):
    ENTRY: ClassVar[dict[str, Any]] = {
        "graphql": {
            "url": "URL/graphql",
            "mutation": "mutation($id: ID!) { addItem(id: $id) { id } }",
            "query": "query($id: ID!) { item(id: $id) { id } }",
            "at": "$.data.item",
            "undo": "mutation($id: ID!) { dropItem(id: $id) }",
        }
    }

    def answer(self, verb: str, path: str, query: dict[str, str], body: bytes) -> Step:
        if (verb, path) != ("POST", "/graphql"):
            return http(404, b"")
        sent = json.loads(body)
        key = sent["variables"]["id"]
        if "addItem" in sent["query"]:
            return self.write(key, True)
        if "dropItem" in sent["query"]:
            if self.state == "frozen":
                return self.refused()
            return http(200, json_={"data": {"dropItem": self.items.pop(key, False)}})
        if self.state == "blind":
            return self._errors("UNAUTHENTICATED", "log in to read")
        return http(200, json_={"data": {"item": {"id": key} if key in self.items else None}})

    @staticmethod
    def _errors(code: str, message: str) -> bytes:
        error = {"message": message, "path": ["addItem"], "extensions": {"code": code}}
        return http(200, json_={"errors": [error], "data": None})

    def accepted(self, key: str) -> Step:
        return http(200, json_={"data": {"addItem": {"id": key}}})

    def refused(self) -> Step:
        return self._errors("READ_ONLY", "the catalogue is read-only until 23:00")

    def other(self) -> Step:
        return self._errors("BAD_USER_INPUT", f"no such item: {self.asked[-1].body.decode()[-40:]}")


STORES: dict[str, type[Imitation]] = {
    next(iter(store.ENTRY)): store  # type: ignore[attr-defined]
    for store in (Qdrant, Weaviate, Chroma, Elasticsearch, OpenSearch, S3, S3Presigned, GraphQL)
}


def entry(name: str, url: str) -> dict[str, Any]:
    """The entry of `window.yaml` for an imitation at `url`."""
    text = json.dumps(STORES[name].ENTRY)  # type: ignore[attr-defined]
    found: dict[str, Any] = json.loads(text.replace('"URL', f'"{url}'))
    return found
