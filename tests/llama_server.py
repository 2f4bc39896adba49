"""Serve a GGUF file with llama.cpp: `python -m tests.llama_server FILE`; ends with its input.

The package xllamacpp holds the server, which chooses its own port; the address is printed.
"""

from __future__ import annotations

import sys

import xllamacpp


def main() -> None:
    """Serve the file that the command names, with four slots on one thread."""
    params = xllamacpp.CommonParams()
    params.model.path = sys.argv[1]
    params.n_parallel, params.n_ctx, params.warmup = 4, 4 * 1024, False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
