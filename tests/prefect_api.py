"""Prefect's HTTP API past any client, for the tests that look at what a server really holds."""

import json
import time
import urllib.error
import urllib.request
import uuid

TRIES = 20


def ask(url, path, body=None, headers=()):
    """What the API answers; 503 means a busy database: asked again, as Prefect's client does."""
    data = None if body is None else json.dumps(body).encode()
    passed = {} if body is None else _token(url)
    head = {"Content-Type": "application/json", **passed, **dict(headers)}
    request = urllib.request.Request(url + path, data, head)
    for left in reversed(range(TRIES)):
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return json.load(answer) if answer.status != 204 else None
        except urllib.error.HTTPError as error:
            if error.code != 503 or not left:
                raise
            time.sleep(1)


def _token(url):
    """Without a token no order is taken: a page of somebody's web site cannot have one."""
    client = str(uuid.uuid4())
    token = ask(url, f"/csrf-token?client={client}")["token"]
    return {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": client}
