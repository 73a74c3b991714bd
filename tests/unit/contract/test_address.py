"""``host:port`` is judged in one place, for settings, clients and the replicated state alike."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from orchestrator.contract.address import is_address, not_bound, problem, split_address
from orchestrator.state.peers import address_problem

GOOD = ["10.0.0.1:7400", "[::1]:7400", "host.example:1", "a:65535", "a" * 253 + ":80"]
BAD = [
    "", "host", ":7400", "host:", "host:port", "host:65536", "host:123456", "http://host:80", "::1:7400", "[::1]",
    "[]:1", "ho st:1", "host:0", "host:1\n", "a" * 254 + ":80", "[" + "1" * 46 + "]:80", "host:٣", None, 7400,
]  # fmt: skip


@pytest.mark.parametrize("address", GOOD)
def test_what_can_be_dialled(address: str) -> None:
    assert is_address(address) and problem(address) == address_problem("p1", address) == ""


@pytest.mark.parametrize("address", BAD)
def test_what_cannot(address: object) -> None:
    assert not is_address(address)
    assert "expected HOST:PORT" in problem(address)
    if isinstance(address, str):
        assert "must be host:port" in address_problem("p1", address)


def test_port_0_is_somewhere_to_listen_and_nowhere_to_dial() -> None:
    assert is_address("127.0.0.1:0", any_port=True) and not is_address("127.0.0.1:0")
    assert not is_address("127.0.0.1:65536", any_port=True)


def test_a_scheme_is_named_as_the_mistake() -> None:
    assert "without a scheme" in problem("http://10.0.0.1:7400")


def test_the_brackets_of_an_ipv6_address_are_no_part_of_the_host() -> None:
    assert split_address("[::1]:7400") == ("::1", 7400)
    assert split_address("0.0.0.0:7400") == ("0.0.0.0", 7400)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES)), "a port below 1024 is for root"),
        (OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL)), "it is no address of this machine"),
        (OSError("it cannot be bound"), "it cannot be bound: another process listens there"),
    ],
)
def test_why_nothing_can_listen_is_said_with_what_to_do(error: OSError, said: str) -> None:
    assert not_bound(error).count(said) == 1
    assert ("another process" in not_bound(error)) == ("another process" in said)


def test_a_port_that_is_taken_is_somebody_elses() -> None:
    with socket.create_server(("127.0.0.1", 0)) as first, socket.socket() as second, pytest.raises(OSError) as caught:
        second.bind(first.getsockname())
    taken = "Address already in use: another process listens there; stop it, or choose another address"
    assert not_bound(caught.value) == taken
