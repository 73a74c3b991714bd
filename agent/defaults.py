"""What settings of an agent say when they say nothing, and words that they have in common.

Owns: those that others than ``config`` need, which loads much.
"""

DEFAULT_PORTS = (20_000, 31_999)
PULL_STALL_S = 120.0
AT_BRIDGE = "bridge"
"""As ``--address`` and ``--dns``: this machine's own address in the Docker engine's bridge network."""
