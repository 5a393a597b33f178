"""Refuses every connection beyond this machine, in the tests and in each Python process that they start.

It is on PYTHONPATH, so that Python runs it before anything else. Audit hooks cannot be taken off again. What was refused is
also written to the file that TEST_CONNECTIONS_FILE names, for the case that somebody catches the error.
"""

import ipaddress
import os
import sys


def _is_loopback(host: object) -> bool:
    if host in (None, "", "localhost", b"localhost"):
        return True
    try:
        text = host.decode() if isinstance(host, bytes) else str(host)
        return ipaddress.ip_address(text.partition("%")[0]).is_loopback or text in ("0.0.0.0", "::")
    except ValueError:
        return text == os.uname().nodename


def _audit(event: str, args: tuple) -> None:
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = args[1]
        host = address[0] if isinstance(address, tuple) else None
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = args[0]
    else:
        return
    if not _is_loopback(host):
        with open(os.environ["TEST_CONNECTIONS_FILE"], "a") as file:  # noqa: PTH123  (pathlib is too much for every start)
            file.write(f"{event} {host} by {sys.argv}\n")
        raise ConnectionRefusedError(f"the tests open no connection beyond loopback: {event} {host}")


if "TEST_CONNECTIONS_FILE" in os.environ:
    sys.addaudithook(_audit)
