"""`python -m mamba_nb.testing`: the scripted server on the command line.

It prints one line of JSON with `base_url`, `port` and `pid` when it is ready, serves until standard input ends
or SIGTERM comes, and shows its log at `GET /_log`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any

from mamba_nb.testing import styles
from mamba_nb.testing.process import LOG_PATH, options_from, wait_for_the_end
from mamba_nb.testing.script import Script, words
from mamba_nb.testing.server import ScriptedServer


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mamba_nb.testing",
        description="A scripted OpenAI-compatible server on 127.0.0.1. It ends with its standard input.",
    )
    add = parser.add_argument
    add("--port", type=int, default=0, help="0 for a free one")
    add("--style", choices=styles.NAMES, default="plain", help="which kind of server it looks like")
    add("--model", action="append", dest="models", metavar="NAME", help="a model it serves; may be repeated")
    add("--text", help="what it answers")
    add("--tokens", type=int, metavar="N", help="answer with N numbered words")
    add("--echo", action="store_true", help="answer with the prompt")
    add("--ttft-ms", type=float, default=0.0, help="milliseconds until the first token")
    add("--itl-ms", type=float, default=0.0, help="milliseconds between tokens")
    add("--load-ms", type=float, default=0.0, help="milliseconds until a model is loaded")
    add("--one-model-at-a-time", action="store_true", help="another model's request swaps the loaded one")
    add("--slots", type=int, help="answers at once; further requests wait")
    add("--api-key", help="the key it asks for")
    add("--script", type=json.loads, default={}, metavar="JSON", help="further fields of the Script")
    add("--ignore-stdin", action="store_true", help="do not end with standard input")
    add("--child-of", type=int, metavar="PID", help=argparse.SUPPRESS)
    return parser


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    fields = dict(arguments.script)
    if arguments.tokens is not None:
        fields["text"] = words(arguments.tokens)
    elif arguments.text is not None:
        fields["text"] = arguments.text
    fields |= {"ttft_s": arguments.ttft_ms / 1000, "itl_s": arguments.itl_ms / 1000, "echo": arguments.echo}
    return {
        "script": Script(**fields),
        "models": arguments.models,
        "style": arguments.style,
        "port": arguments.port,
        "api_key": arguments.api_key,
        "slots": arguments.slots,
        "load_s": arguments.load_ms / 1000,
        "one_model_at_a_time": arguments.one_model_at_a_time,
    }


def _first_line() -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        more = os.read(0, 65536)
        if not more:
            sys.exit("Standard input ended before the options came.")
        line += more
    return line


def main(argv: Sequence[str] | None = None) -> int:
    """Serve; returns the exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        options = options_from(_first_line()) if arguments.child_of else _options(arguments)
        server = ScriptedServer(**options, log_path=LOG_PATH)
    except (TypeError, ValueError) as error:
        parser.error(str(error))
    done = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda number, frame: done.set())
    try:
        server.start()
    except OSError as error:
        print(f"Port {arguments.port} cannot be used: {error}", file=sys.stderr)
        return 1
    try:
        print(json.dumps({"base_url": server.base_url, "port": server.port, "pid": os.getpid()}), flush=True)
        wait_for_the_end(done, stdin=not arguments.ignore_stdin, parent=arguments.child_of)
    finally:
        server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
