"""The registered recommender as MLflow loads it: code and plain arrays, no pickle, nothing of Chorus."""

import importlib.util
import json
from pathlib import Path

import mlflow
import numpy as np
from mlflow.models import set_model
from pydantic import BaseModel


class Query(BaseModel):
    """A history of item ids, and how many items are wanted."""

    history: list[str] = []
    k: int = 10


class Answer(BaseModel):
    """Items that are not in the history, best first, with their scores."""

    items: list[str]
    scores: list[float]


class Transformer:
    """What a history, oldest item first, says beside popularity."""

    def __init__(self, folder):
        spec = importlib.util.spec_from_file_location("attention", folder / "attention.py")
        attention = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(attention)  # it travels with the model
        self.read = attention.scores
        self.size = attention.Size(**json.loads((folder / "size.json").read_text()))
        self.network = attention.Network(
            *(np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("dense", "table"))
        )

    def scores(self, history):
        """How much likelier each item is after it, (items,)."""
        newest = np.array([history[-self.size.length :] or [-1]])
        return self.read(self.network, self.size, newest)[0]


class Recommender(mlflow.pyfunc.PythonModel):
    """Item-to-item or a transformer where a history tells something, else popularity."""

    def load_context(self, context):
        """Read the catalogue and the arrays."""
        folder = Path(context.artifacts["model"])
        lines = (folder / "catalogue.txt").read_bytes().decode().split("\n")  # an id may hold other breaks
        self.items = np.array(lines[:-1], dtype=object)
        self.place = {item: place for place, item in enumerate(self.items)}
        self.popularity = np.load(folder / "popularity.npy", allow_pickle=False)
        weights = folder / "weights.npy"
        self.weights = np.load(weights, mmap_mode="r", allow_pickle=False) if weights.exists() else None
        self.transformer = Transformer(folder) if (folder / "table.npy").exists() else None

    def predict(self, context, model_input: list[Query], params=None) -> list[Answer]:
        """One answer for each query; ids that the catalogue does not know are ignored."""
        return [self._answer(query) for query in model_input]

    def _answer(self, query: Query) -> Answer:
        read = [self.place[item] for item in query.history if item in self.place]
        seen, scores = np.array(sorted(set(read)), int), self.popularity.astype(np.float32)
        if self.weights is not None and self.weights[seen].any():
            scores = self.weights[seen].sum(axis=0)
        if self.transformer is not None:
            scores = np.log1p(scores) + self.transformer.scores(read)
        scores[seen] = -np.inf
        best = np.argsort(-scores, kind="stable")[: max(0, min(query.k, len(scores) - len(seen)))]
        return Answer(items=list(self.items[best]), scores=[float(score) for score in scores[best]])


set_model(Recommender())
