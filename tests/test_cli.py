"""How the command line ends: by which exit code, and with which words."""

import os
from contextlib import nullcontext

import pytest

from flows import cli, operate, setup


@pytest.fixture
def ends(monkeypatch, capsys):
    """Run a command in this process, and expect its exit code; returns what it told."""

    def ends(*arguments, code):
        umask = os.umask(0o077)
        monkeypatch.setattr("sys.argv", ["chorus", *map(str, arguments)])
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
        with pytest.raises(SystemExit) as ended:
            cli.main()
        os.umask(umask)
        told = capsys.readouterr().err
        assert (ended.value.code or 0) == code, told
        return told

    return ends


def interrupt(*_, **__):
    raise KeyboardInterrupt


def test_an_interrupted_command_says_so(ends, monkeypatch):
    monkeypatch.setattr(setup, "check", interrupt)
    assert ends("check", code=130) == "interrupted\n"
    ends("--help", code=0)


def test_an_interrupted_training_tells_how_to_go_on(ends, monkeypatch, tiny):
    monkeypatch.setattr(operate, "at_work", lambda _: nullcontext())
    monkeypatch.setattr(operate.server, "prefect_server", lambda *_: nullcontext())
    monkeypatch.setattr(operate, "_flow", lambda _: interrupt)
    path = tiny("tiny")
    *_, hint, last = ends("run", path, code=130).splitlines()
    assert hint.startswith("what is done is kept; to go on: ")
    assert hint.endswith(f" {path}")
    assert last == "interrupted"
