"""Raw tensors through Triton's own client: `python examples/triton_client.py 127.0.0.1:50051`.

Start the server with `kniv-serve serve --model-control-mode explicit`, so that it lets callers load models.
Needs `tritonclient[grpc]` and `tokenizers`; nothing of kniv.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import queue
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parents[1]
TURNS = ("Could you send me the invoice again?", "Sure, it is on its way.", "Thanks a lot!", "You are welcome.")


class Turns:
    """Turns as tensors, and dialog acts as labels, with the files of a model's version folder."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.acts = json.loads((folder / "labels.json").read_text(encoding="utf-8"))["cls"]

    def tensors(self, turns: tuple[str, ...]) -> list[triton.InferInput]:
        """One row a turn, padded to the longest."""
        begin, end = (self.tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]"))
        rows = [[begin, *self.tokenizer.encode(turn, add_special_tokens=False).ids, end] for turn in turns]
        ids = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
        mask = np.zeros_like(ids)
        for place, row in enumerate(rows):
            ids[place, : len(row)], mask[place, : len(row)] = row, 1
        values = {"input_ids": ids, "attention_mask": mask, "predicate_idx": np.zeros(len(rows), dtype=np.int64)}
        inputs = []
        for name, value in values.items():
            inputs.append(triton.InferInput(name, value.shape, "INT64"))
            inputs[-1].set_data_from_numpy(value)
        return inputs

    def labels(self, result: triton.InferResult) -> list[str]:
        """The dialog act of each row."""
        return [self.acts[index] for index in result.as_numpy("cls_logits").argmax(axis=1)]


WANTED = [triton.InferRequestedOutput("cls_logits")]


def blocking(target: str, model: str, headers: dict[str, str], turns: Turns) -> None:
    """List, load, ask, stream, count, unload."""
    with triton.InferenceServerClient(target) as client:
        server = client.get_server_metadata()
        print(f"{server.name} {server.version}: live {client.is_server_live()}, ready {client.is_server_ready()}")
        for entry in client.get_model_repository_index().models:
            print(f"in the repository: {entry.name} {entry.version} {entry.state} {entry.reason}".rstrip())
        client.load_model(model, headers=headers)
        metadata = client.get_model_metadata(model)
        print(f"loaded: {metadata.name}, versions {', '.join(metadata.versions)}")
        result = client.infer(model, turns.tensors(TURNS), outputs=WANTED, request_id="all")
        print(f"one call: {', '.join(turns.labels(result))}")

        answers: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
        client.start_stream(lambda result, error: answers.put((result, error)))
        for place, turn in enumerate(TURNS):
            client.async_stream_infer(model, turns.tensors((turn,)), outputs=WANTED, request_id=str(place))
        for turn in TURNS:
            result, error = answers.get(timeout=60)
            print(f"streamed: {turn} -> {error or turns.labels(result)[0]}")
        client.stop_stream()

        (counted,) = client.get_inference_statistics(model).model_stats
        print(f"statistics: {counted.inference_count} rows in {counted.execution_count} batches")


async def asynchronous(target: str, model: str, headers: dict[str, str], turns: Turns) -> None:
    """The same calls on asyncio."""
    async with triton_aio.InferenceServerClient(target) as client:
        calls = [client.infer(model, turns.tensors((turn,)), outputs=WANTED) for turn in TURNS]
        results = await asyncio.gather(*calls)
        print(f"asyncio: {', '.join(turns.labels(result)[0] for result in results)}")

        async def requests() -> AsyncIterator[dict[str, Any]]:
            for turn in TURNS:
                yield {"model_name": model, "inputs": turns.tensors((turn,)), "outputs": WANTED}

        found = [error or turns.labels(result)[0] async for result, error in client.stream_infer(requests())]
        print(f"asyncio, streamed: {', '.join(map(str, found))}")
        await client.unload_model(model, headers=headers)
        print(f"unloaded: ready {await client.is_model_ready(model)}")


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", help="host:port of the server")
    parser.add_argument("--model", default="kniv-mini")
    parser.add_argument("--folder", type=Path, help="version folder of the model, for its tokenizer and labels")
    parser.add_argument("--admin-token-file", type=Path, help="where the server asks for a token to load models")
    options = parser.parse_args()
    headers = {}
    if options.admin_token_file is not None:
        headers["authorization"] = f"Bearer {options.admin_token_file.read_text(encoding='ascii').strip()}"
    turns = Turns(options.folder or ROOT / "model_repository" / options.model / "1")
    blocking(options.target, options.model, headers, turns)
    asyncio.run(asynchronous(options.target, options.model, headers, turns))


if __name__ == "__main__":
    main()
