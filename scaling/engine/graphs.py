"""The lean forward on a GPU: each decode step replayed as one CUDA graph, several steps per look.

Small models are bound by kernel launches. A graph needs fixed shapes: rows and attended lengths are
rounded up to powers of two, and the rows that pad a batch write where nobody reads.
"""

from __future__ import annotations

import torch

from scaling.engine.lean import LeanStore

SHORTEST = 64  #: smallest attended length that gets a graph of its own


class GraphStore(LeanStore):
    """A lean store whose `decode` is captured once per rounded (rows, length) and then replayed."""

    steps = 16  #: tokens between two looks of the host: no synchronisation within

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.graphs: dict[tuple[int, int], tuple] = {}

    def decode(self, last: torch.Tensor, positions: torch.Tensor, longest: int) -> torch.Tensor:
        """Return logits (rows, vocab) as `LeanStore.decode`; valid until the next call."""
        rows = last.shape[0]
        size = min(1 << (rows - 1).bit_length(), self.kv.shape[2])
        length = min(max(1 << longest.bit_length(), SHORTEST), self.capacity)
        if (size, length) not in self.graphs:
            self.graphs[size, length] = self._capture(size, length)
        graph, fixed_last, fixed_positions, logits = self.graphs[size, length]
        fixed_last[:rows] = last
        fixed_positions.fill_(self.capacity)  # the bin: padding rows file there
        fixed_positions[:rows] = positions
        graph.replay()
        return logits[:rows]

    def _capture(self, rows: int, length: int) -> tuple:
        """Return a graph of one decode step with the tensors that it reads and writes."""
        last = torch.zeros(rows, dtype=torch.int64, device=self.device)
        positions = torch.full_like(last, self.capacity)
        stream = torch.cuda.Stream(self.device)
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):  # lazy initialisation must not be captured
            for _ in range(3):
                super().decode(last, positions, length - 1)
        torch.cuda.current_stream(self.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            logits = super().decode(last, positions, length - 1)
        return graph, last, positions, logits
