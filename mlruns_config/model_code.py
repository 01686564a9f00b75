"""The registered recommender as MLflow loads it: code and plain arrays, no pickle, nothing of Chorus."""

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


class Recommender(mlflow.pyfunc.PythonModel):
    """Item-to-item where a history tells something, else popularity, as where nobody had its items yet."""

    def load_context(self, context):
        """Read the catalogue and the arrays."""
        folder = Path(context.artifacts["model"])
        lines = (folder / "catalogue.txt").read_bytes().decode().split("\n")  # an id may hold other breaks
        self.items = np.array(lines[:-1], dtype=object)
        self.place = {item: place for place, item in enumerate(self.items)}
        self.popularity = np.load(folder / "popularity.npy", allow_pickle=False)
        weights = folder / "weights.npy"
        self.weights = np.load(weights, mmap_mode="r", allow_pickle=False) if weights.exists() else None

    def predict(self, context, model_input: list[Query], params=None) -> list[Answer]:
        """One answer for each query; ids that the catalogue does not know are ignored."""
        return [self._answer(query) for query in model_input]

    def _answer(self, query: Query) -> Answer:
        seen = np.array(sorted({self.place[item] for item in query.history if item in self.place}), int)
        scores = self.popularity.astype(np.float32)
        if self.weights is not None and self.weights[seen].any():
            scores = self.weights[seen].sum(axis=0)
        scores[seen] = -np.inf
        best = np.argsort(-scores, kind="stable")[: max(0, min(query.k, len(scores) - len(seen)))]
        return Answer(items=list(self.items[best]), scores=[float(score) for score in scores[best]])


set_model(Recommender())
