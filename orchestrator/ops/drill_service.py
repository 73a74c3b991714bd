"""The service that a drill keeps under load where there is no Docker: answers HTTP and writes down that it ran.

Run by path with the standard library alone: ``python -I -S drill_service.py RECORDS``. It appends ``start`` lines to
``RECORDS/<allocation>.log`` and holds a lock on ``RECORDS/<allocation>.lock`` for as long as it lives. The kernel frees
the lock when the process ends, whatever ended it, so two that run at once cannot both fail to notice.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sys
import threading
import time


def main(records: str) -> None:
    allocation = os.environ.get("RAFTSMAN_ALLOC_ID", "unknown").replace("/", "@")
    log = os.open(f"{records}/{allocation}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    _note(log, "start")
    lock = os.open(f"{records}/{allocation}.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        _note(log, "double-begin")
        threading.Thread(target=_wait_for, args=(lock, log), daemon=True).start()
    port = os.environ.get("RAFTSMAN_PORT_HTTP")
    if port is None:
        while True:  # a job that only has to run
            signal.pause()
    server = socket.create_server(("127.0.0.1", int(port)), backlog=128)
    body = f"{os.environ.get('RAFTSMAN_ALLOC_ID')} {os.getpid()}\n".encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    while True:
        connection, _ = server.accept()
        connection.settimeout(1.0)
        try:
            connection.recv(4096)
            connection.sendall(head.encode() + body)
        except OSError:
            pass
        finally:
            connection.close()


def _wait_for(lock: int, log: int) -> None:
    fcntl.flock(lock, fcntl.LOCK_EX)
    _note(log, "double-end")


def _note(log: int, what: str) -> None:
    os.write(log, f"{what} {os.getpid()} {time.time_ns()}\n".encode())


if __name__ == "__main__":
    main(sys.argv[1])
