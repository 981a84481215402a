"""`manylabel serve`: a model over HTTP."""

from __future__ import annotations

from manylabel.server.run import run_server
from manylabel.server.settings import ServerSettings


def run_serve(
    model: str,
    host: str,
    port: int,
    token: str | None,
    allowed_hosts: tuple[str, ...],
    num_workers: int,
    max_queue: int,
    deadline_seconds: float,
    engine: str,
    quiet: bool,
) -> int:
    """Serve until told to stop; return 0 after a drain."""
    settings = ServerSettings(
        host=host,
        port=port,
        token=token,
        allowed_hosts=allowed_hosts,
        num_workers=num_workers,
        max_queue=max_queue,
        deadline_seconds=deadline_seconds,
        engine=engine,
    )
    return run_server(model, settings, quiet)
