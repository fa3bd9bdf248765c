"""What a person sees while training: progress bars and the last numbers, on stderr; nothing at all if not wanted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Display:
    """A context manager around rich's live progress. stdout stays free for `--json`."""

    def __init__(self, shown: bool) -> None:
        self.shown = shown
        self.console = Console(stderr=True, quiet=not shown)
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[numbers]}"), console=self.console, disable=not shown,
        )
        self._training = None

    def __enter__(self) -> Display:
        self._progress.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.__exit__(kind, error, trace)

    def print(self, *things: Any) -> None:
        self.console.print(*things)

    def track(self, items: Iterable, description: str) -> Iterator:
        """Yield `items` behind a progress bar."""
        items = list(items)
        task = self._progress.add_task(description, total=len(items), numbers="")
        for item in items:
            yield item
            self._progress.advance(task)

    def step(self, done: int, total: int, numbers: dict[str, float]) -> None:
        """Training stands at `done` of `total` steps; `numbers` replace the last ones shown, if there are any."""
        if self._training is None:
            self._training = self._progress.add_task("training", total=total, completed=done, numbers="")
        shown = {"numbers": "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())} if numbers else {}
        self._progress.update(self._training, completed=done, **shown)
