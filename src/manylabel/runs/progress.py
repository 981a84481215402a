"""What a person sees while a run goes on: bars with images per second and time left, a line per epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class _LogConsole(Console):
    """A console whose reader may go away: rich would end the program there."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class TerminalProgress:
    """Shows the events of a run on a console; use it as a context manager and pass it as `on_event`.

    On anything but a terminal there are no bars, only the lines. Where they cannot be written the run goes on silently.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console if console is not None else _LogConsole(stderr=True, highlight=False)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}% {task.fields[figures]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._bar: TaskID | None = None
        self._header_shown = False
        self._is_mute = False

    def __enter__(self) -> TerminalProgress:
        self._write(self._bars.start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._write(self._bars.stop)

    def __call__(self, event: str, facts: Mapping[str, Any]) -> None:
        """Show one event; one that is not known is not shown."""
        show = getattr(self, f"_show_{event}", None)
        if show is not None:
            self._write(lambda: show(facts))

    def _write(self, act: Callable[[], None]) -> None:
        """Write something; where that fails (the disk of the log is full, its reader is gone) nothing more is tried."""
        if self._is_mute:
            return
        try:
            act()
        except OSError:
            self._is_mute = True

    def _show_note(self, facts: Mapping[str, Any]) -> None:
        if facts["message"]:
            self.console.print(facts["message"], markup=False, soft_wrap=True)

    def _show_stage(self, facts: Mapping[str, Any]) -> None:
        """A new thing to wait for: `name`, and `total` where its end is known."""
        self._end_bar()
        self._bar = self._bars.add_task(facts["name"], total=facts.get("total"), figures="")

    def _show_progress(self, facts: Mapping[str, Any]) -> None:
        """One more of the thing that is waited for is done; `total` may be said late."""
        if self._bar is not None:
            if "total" in facts:
                self._bars.update(self._bar, total=facts["total"])
            self._bars.advance(self._bar)

    def _show_step(self, facts: Mapping[str, Any]) -> None:
        if self._bar is None:
            self._show_stage({"name": "Training", "total": facts["num_steps"]})
        assert self._bar is not None
        figures = f"epoch {facts['epoch'] + 1}, {facts['images_per_second']:.0f} images/s, loss {facts['loss']:.3f}"
        self._bars.update(self._bar, completed=facts["step"], total=facts["num_steps"], figures=figures)

    def _show_epoch(self, facts: Mapping[str, Any]) -> None:
        monitor = facts["monitor"]
        if not self._header_shown:
            self.console.print(f"epoch   train loss   val loss   {monitor:<24}  images/s", markup=False)
            self._header_shown = True
        value = f"{facts[f'val_{monitor}']:.4f}" + (" best" if facts["is_best"] else "")
        self.console.print(
            f"{facts['epoch'] + 1:>5} {facts['train_loss']:>12.4f} {facts['val_loss']:>10.4f}   {value:<24}"
            f" {facts['images_per_second']:>9.0f}",
            markup=False,
        )

    def _end_bar(self) -> None:
        if self._bar is not None:
            self._bars.remove_task(self._bar)
            self._bar = None
