"""The command line, against a server in this process."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import grpc
import pytest

from kniv.client import cli

TEXT = "Ada wrote it.\nDid she?\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def kniv(fake, monkeypatch, capsys):
    """Runs the command in this process; gives its status, output and error output."""
    monkeypatch.setenv("KNIV_TARGET", fake.target)

    def run(*arguments, stdin=""):
        monkeypatch.setattr(sys, "stdin", stdin if isinstance(stdin, io.StringIO) else io.StringIO(stdin))
        status = cli.main(list(arguments))
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def process(fake):
    """Runs the command in a process of its own, for what needs real pipes."""

    def run(*arguments, **options):
        environment = os.environ | {"KNIV_TARGET": fake.target, **options.pop("env", {})}
        command = [sys.executable, "-m", "kniv.client.cli", *arguments]
        return subprocess.run(command, capture_output=True, env=environment, check=False, **options)

    return run


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "letter.txt"
    path.write_text(TEXT, encoding="utf-8")
    return str(path)


def test_annotate_draws_a_table(kniv, text_file):
    status, out, err = kniv("annotate", text_file)
    assert (status, err) == (0, "")
    assert out.splitlines()[:2] == ["Ada wrote it.", "─┬─  0  Ada    X  root  PERSON"]
    assert "  act    question 0.75\n\n" in out
    assert "\x1b" not in out


def test_annotate_writes_jsonl(kniv, text_file):
    status, out, _ = kniv("annotate", text_file, "--format", "jsonl")
    assert status == 0
    assert [json.loads(line)["text"] for line in out.splitlines()] == ["Ada wrote it.", "Did she?"]


def test_annotate_writes_conllu(kniv, text_file):
    status, out, _ = kniv("annotate", text_file, "--format", "conllu")
    assert status == 0
    assert [block.splitlines()[0] for block in out.split("\n\n") if block] == [
        "# sent_id = letter-1",
        "# sent_id = letter-2",
    ]


def test_options_reach_the_server(kniv, fake, text_file):
    status, _, _ = kniv("annotate", text_file, "--tasks", "pos,ner", "--model", "m", "--version", "2", "--variant", "v")
    assert status == 0
    options = fake.received[0].configuration.options
    assert (options.model, options.version, options.variant, len(options.tasks)) == ("m", 2, "v", 2)


def test_annotate_reads_standard_input(process):
    done = process("annotate", "-", "--format", "conllu", input="Größe zählt.\n".encode(), env={"LC_ALL": "C"})
    assert (done.returncode, done.stderr) == (0, b"")
    assert "# sent_id = stdin-1\n# text = Größe zählt.\n" in done.stdout.decode()


def test_tables_do_without_box_drawing_where_they_must(process, text_file):
    done = process("annotate", text_file, env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    assert b"-+-  0  Ada" in done.stdout


def test_annotate_takes_a_file_longer_than_any_buffer(kniv, tmp_path):
    path = tmp_path / "long.txt"
    path.write_text("w" * 2_000_000 + "\n", encoding="utf-8")
    status, out, _ = kniv("annotate", str(path), "--format", "jsonl")
    assert status == 0
    assert json.loads(out)["end"] == 2_000_000


def test_a_missing_file(kniv):
    assert kniv("annotate", "nowhere.txt") == (2, "", "kniv: nowhere.txt: No such file or directory\n")


def test_a_folder(kniv, tmp_path):
    status, _, err = kniv("annotate", str(tmp_path))
    assert (status, err) == (2, f"kniv: {tmp_path}: Is a directory\n")


@pytest.mark.parametrize(("data", "place"), [(b"caf\xe9 au lait", 3), ("é".encode() * 16384 + b"\xc3", 32768)])
def test_bytes_that_are_not_text(kniv, tmp_path, data, place):
    path = tmp_path / "latin.txt"
    path.write_bytes(data)
    status, _, err = kniv("annotate", str(path))
    assert (status, err) == (2, f"kniv: {path}: not UTF-8 at byte {place}\n")


def test_an_item_that_fails(kniv, tmp_path):
    path = tmp_path / "bad.txt"
    path.write_text("bad", encoding="utf-8")
    assert kniv("annotate", str(path)) == (2, "", "kniv: text: is bad\n")


def test_a_server_that_fails(kniv, fake, text_file):
    def fail(requests, context):
        context.abort(grpc.StatusCode.INTERNAL, "fell over")
        yield

    fake.script = fail
    assert kniv("annotate", text_file) == (1, "", "kniv: INTERNAL: fell over\n")


def test_nobody_at_the_target(kniv):
    status, _, err = kniv("models", "--target", "127.0.0.1:1")
    assert status == 1
    assert err.startswith("kniv: UNAVAILABLE: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [[], ["annotate"], ["annotate", "-", "--format", "xml"], ["annotate", "-", "--tasks", "pos,mood"], ["sing"]],
)
def test_usage_errors(kniv, capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        kniv(*arguments)
    assert stop.value.code == 2
    assert "usage: kniv" in capsys.readouterr().err


def test_whoever_reads_the_output_may_go_away(fake, tmp_path):
    path = tmp_path / "long.txt"
    path.write_text("One.\n" * 2000, encoding="utf-8")
    command = [sys.executable, "-m", "kniv.client.cli", "annotate", str(path), "--target", fake.target]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout.readline() == b"One.\n"
        running.stdout.close()
        assert running.stderr.read() == b""
        assert running.wait() == 141


def test_chat_answers_each_turn(kniv, fake):
    status, out, err = kniv("chat", "--speaker", "ada", stdin="Hello.\n\nbad\nWho is there?\n")
    assert status == 0
    assert out.count("  act  ") == 2
    assert err == "kniv: INVALID_ARGUMENT: text: is bad\n"
    turns = [entry.turn for entry in fake.received if entry.HasField("turn")]
    assert [(turn.speaker, turn.text) for turn in turns] == [
        ("ada", "Hello."),
        ("ada", "bad"),
        ("ada", "Who is there?"),
    ]


def test_chat_prompts_on_a_terminal(kniv, monkeypatch):
    lines = iter(["Hello."])
    prompts = []

    def typed(prompt):
        prompts.append(prompt)
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", typed)
    status, out, _ = kniv("chat", stdin=Terminal())
    assert status == 0
    assert prompts == ["user> ", "user> "]
    assert out.startswith("Hello.\n")


def test_chat_refuses_bytes_that_are_not_text(process):
    done = process("chat", input=b"caf\xe9\n", env={"PYTHONIOENCODING": "utf-8:strict"})
    assert (done.returncode, done.stderr) == (2, b"kniv: standard input: not utf-8 at byte 3\n")


def test_models(kniv):
    status, out, _ = kniv("models")
    assert status == 0
    assert out.splitlines() == [
        "MODEL    VERSION  STATE                  VARIANTS     TASKS",
        "model-0  1        ready                  fp32 [int8]  dialog_act",
        "model-1  1        not ready: no weights  fp32 [int8]  dialog_act",
        "model-2  1        ready                  fp32 [int8]  dialog_act",
    ]
