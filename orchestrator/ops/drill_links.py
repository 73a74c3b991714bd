"""``Links``: the links between the peers of a throw-away cluster, each direction of which can be cut.

Owns: the iptables rules. Leaves to others: the addresses (``dev_plan.link_address``: peer i dials peer j at 127.1.i.j).
The rules: only packets to those addresses are dropped, and only in a network namespace of the drill's own, so clients,
agents and services (all on 127.0.0.1) notice nothing but what the peers do.

A cut is of messages: the connection that i dialled carries everything that i says to j, calls forwarded to j included;
what j says on the connection that j dialled still arrives, TCP's acknowledgements of it too. Losing those would end
that connection as well, and nothing one-way would be left.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.contract.errors import PreconditionError
from orchestrator.ops.dev_plan import link_address
from orchestrator.ops.drill_namespaces import inside
from orchestrator.ops.drill_tools import run_tool, tool

CHAIN = "raftsman"


class Links:
    """Everything is whole when made. Raises ``MissingError`` where iptables does not work."""

    def __init__(self) -> None:
        if not inside("network"):
            raise PreconditionError("packets are only ever dropped in a network namespace of the drill's own")
        self._iptables = tool("iptables", "iptables")
        self._restore = tool("iptables-restore", "iptables")
        # In INPUT a dropped packet is lost on the way; in OUTPUT the sender would be told.
        run_tool([self._restore, "-w"], stdin=f"*filter\n:{CHAIN} -\n-A INPUT -i lo -j {CHAIN}\nCOMMIT\n")

    def cut(self, ways: Iterable[tuple[str, str]]) -> None:
        """From now on nothing that the first of each pair of peers says reaches the second; all at one moment."""
        rules = "".join(f"{rule}\n" for rule in rules_for(ways))
        run_tool([self._restore, "-w", "-n"], stdin=f"*filter\n{rules}COMMIT\n")

    def silence(self, peer: str, port: int, others: Iterable[str]) -> None:
        """From now on nobody hears the machine of ``peer``, which serves at ``port``: not even that it is gone."""
        rules = "".join(f"{rule}\n" for rule in rules_for_silence(peer, port, others))
        run_tool([self._restore, "-w", "-n"], stdin=f"*filter\n{rules}COMMIT\n")

    def heal(self) -> None:
        """Undo all cuts and silences."""
        run_tool([self._iptables, "-w", "-F", CHAIN])

    def dropped(self) -> int:
        """Packets that the present cuts have swallowed."""
        return dropped_packets(run_tool([self._iptables, "-w", "-n", "-v", "-x", "-L", CHAIN]))


def rules_for(ways: Iterable[tuple[str, str]]) -> list[str]:
    """In the syntax of iptables-restore; one per direction, in a stable order."""
    return [f"-A {CHAIN} -d {link_address(one, other)} -j DROP" for one, other in sorted(set(ways))]


def rules_for_silence(peer: str, port: int, others: Iterable[str]) -> list[str]:
    """What goes to and comes from its port, and what it sends on connections that it dialled."""
    served = [f"-A {CHAIN} -p tcp --{end} {port} -j DROP" for end in ("dport", "sport")]
    return [*served, *rules_for((peer, other) for other in others)]


def dropped_packets(listing: str) -> int:
    """Sum of the packet counters in what ``iptables -nvxL CHAIN`` prints."""
    rows = (line.split() for line in listing.splitlines())
    return sum(int(row[0]) for row in rows if len(row) > 3 and row[0].isdigit() and row[2] == "DROP")


def check() -> None:
    """Raises ``MissingError``. Leaves no rule behind."""
    links = Links()
    links.cut([("p1", "p2")])
    links.dropped()
    run_tool([links._iptables, "-w", "-F"])
    run_tool([links._iptables, "-w", "-X", CHAIN])
