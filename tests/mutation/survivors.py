"""``SURVIVORS``: mutants that no test can or should kill, each with its reason.

The one rule: a reason says why nobody could see the difference (an equivalent mutant), or why seeing it would be no
promise. Whatever else survives is a missing test. A line names the function and what was changed in it, as
``scripts/mutation`` prints it, so it outlives moved lines.
"""

from __future__ import annotations

SURVIVORS: dict[str, dict[str, str]] = {}
