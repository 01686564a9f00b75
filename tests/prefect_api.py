"""Prefect's HTTP API past any client, for the tests that look at what a server really holds."""

import json
import time
import urllib.error
import urllib.request

TRIES = 20


def ask(url, path, body=None, headers=()):
    """What the API answers; 503 means a busy database: asked again, as Prefect's client does."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, {"Content-Type": "application/json", **dict(headers)})
    for left in reversed(range(TRIES)):
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return json.load(answer) if answer.status != 204 else None
        except urllib.error.HTTPError as error:
            if error.code != 503 or not left:
                raise
            time.sleep(1)
