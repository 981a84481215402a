"""A port that is about to close: what has connected is kept, and nothing new begins."""

from __future__ import annotations

import socket
import sys

import pytest

from manylabel.server.run import drop_new_handshakes


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such filter")
def test_a_port_that_closes_soon_begins_no_connection_and_keeps_those_that_stand() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        early = socket.create_connection(listener.getsockname(), timeout=5)
        drop_new_handshakes(listener)
        with pytest.raises(TimeoutError):
            socket.create_connection(listener.getsockname(), timeout=0.2)
        early.sendall(b"still here")
        connection, _ = listener.accept()
        assert connection.recv(10) == b"still here"
        connection.close()
        early.close()
