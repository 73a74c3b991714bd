"""``SURVIVORS``: mutants that no test can or should kill, each with its reason.

The one rule: a reason says why nobody could see the difference (an equivalent mutant), or why seeing it would be no
promise. Whatever else survives is a missing test. A line names the function and what was changed in it, as
``scripts/mutation`` prints it, so it outlives moved lines.
"""

from __future__ import annotations

_LENGTHS = "equivalent: both have one value for each {}, whoever made them; strict only says so"
_SHIFT = "equivalent: two numbers of 31 bits share 64 bits without touching with either shift"
_NONE = "equivalent: every negative number means none"
_ASKED = "equivalent: whoever is looked at without need is not refused; the question saves the look"
_FLAG = "equivalent: rows that ask for nothing of the kind are passed over; the flag saves the look"
_BEFORE = "equivalent: of the reason of before it only matters whether it is that of a preemption"
_COUNTED = "equivalent: a character has at most 4 bytes, so the bytes decide; the first question saves counting them"
_SAME_TIME = "equivalent: the same time is written again"
_ONE_NUMBER = "equivalent: no two attempts of an ordinal have one number"
_IN_SPEC = "equivalent: every row's version is among the job's specs, and its place in that one's groups"
_HAS_ONE = "equivalent: what is held back has a rollout; mypy wants to hear it"
_ALL_THERE_ARE = "equivalent: every negative number asks numpy for as many as there are"
_FULL = "equivalent: what is exactly full is looked at row by row, with the same result"
_STRICT = _LENGTHS.format("group")
_ANNOTATED = "not to be seen here: what is imported then is named by annotations alone"

_LOOK = "equivalent: whoever is looked at without need is passed over below; the question saves the look"
_MYPY = "equivalent: {}; mypy wants to hear it"
_NEW_CLASS = "not to be seen here: the runner puts no class in that is made anew; every test of the module names it"
_HOW_MUCH = "no promise: {}"
_TIME = "no promise: what is of no use is looked at, or something twice, which changes only the time"
_ASKED_AGAIN = "equivalent: the search for the least harm asks what a budget leaves, too"
_UNMET = "equivalent: whether there are any is all that is asked"
_EITHER = "equivalent: either way finds the same; one takes less time"
_ROOMY = "no promise: how much room there is beyond what was asked for"
_EVERY_SET = "equivalent: it adds as much to the key of every set that is compared"
_NO_SUCH_DOMAIN = "equivalent: a domain that there is not has no room"

_SIZES = "no promise: how large a segment, or the room ahead, is exactly"
_SET_BEFORE = "equivalent: it is set before it is read"

SURVIVORS: dict[str, dict[str, str]] = {
    "orchestrator.replication.guard": {
        "Guard.__init__: 0 -> 1": "equivalent: without a voter in it, the voter set of term 1 is the one of term 0",
        "Guard.still_there: 0 -> 1": "equivalent: PySyncObj looks at the index only with reset or success",
        "Guard.still_there: False -> True (3)": (
            "equivalent: a success up to entry -1 is never more than what PySyncObj counts already"
        ),
        "Guard._reply: message['reset'] and self._guards.reject_to_commit -> self._guards.reject_to_commit": (
            "equivalent: the only other answer is to an installed snapshot, which ends at the commit index"
        ),
        "Guard._is_no_news: now - at < self._repeat_s -> now - at <= self._repeat_s": (
            "no promise: whether an answer is spared at exactly this moment or one later matters to nobody"
        ),
    },
    "orchestrator.replication.journal": {
        **{
            f"<module>: {change}": _SIZES
            for change in (
                "16 -> 17",
                "1024 -> 1025",
                "1024 -> 1025 (2)",
                "256 -> 257",
                "1024 -> 1025 (3)",
            )
        },
        "FileJournal.__init__: 0 -> 1 (3)": "equivalent: entry 1 is the first that a segment can have",
        "FileJournal.__init__: False -> True (2)": "equivalent: it looks for what is to be freed, and finds nothing",
        "FileJournal.__init__: self._room_to = 0 -> pass": _SET_BEFORE,
        "FileJournal.__init__: 0 -> 1 (4)": _SET_BEFORE,
        "FileJournal.__init__: self._codec = fmt.FrameCodec(b'') -> pass": _SET_BEFORE,
        "FileJournal.get: self._first <= index < self._next -> self._first <= index <= self._next": (
            "equivalent: the list has none there either, and says so by the same error"
        ),
        "FileJournal.flush: segment.size + size > self._segment_bytes -> "
        "segment.size + size >= self._segment_bytes": _SIZES,
        "FileJournal.flush: end > self._room_to -> end >= self._room_to": _SIZES,
        "FileJournal.flush: self._raised = 0 -> pass": (
            "equivalent: an earlier segment has that index, too, and is freed first"
        ),
        "FileJournal.flush: 0 -> 1": "equivalent: entry 1 is the first that a segment can have",
        "FileJournal.flush: self._may_free = False -> pass": "equivalent: it looks again, and finds nothing to free",
        "FileJournal.flush: False -> True (2)": "equivalent: it looks again, and finds nothing to free",
        "FileJournal.close: self._file = None -> pass": "equivalent: a file may be closed twice",
        "FileJournal._begin_segment: self._file = None -> pass": _SET_BEFORE,
        "FileJournal._begin_segment: 0 -> 1 (2)": "equivalent: entry 1 is the first that a segment can have",
        "FileJournal._open: self._disk.size(path) > self._room_to -> self._disk.size(path) >= self._room_to": (
            "equivalent: a file is cut to the length that it has"
        ),
        "FileJournal._drop_unborn: self._disk.fsync_dir(self._directory) -> pass": (
            "no promise: what comes back after a power cut is removed again"
        ),
        "FileJournal._drop_unborn: False -> True (2)": "equivalent: a newer format is refused before that matters",
        "FileJournal._read_segment: 0 -> 1": _SET_BEFORE,
        "FileJournal._read_segment: 0 -> 1 (2)": "equivalent: entry 1 is the first that a segment can have",
        "FileJournal._check_header: 0 -> 1 (2)": "no promise: at which byte of its header a segment is wrong",
        "FileJournal._replay: index > self._first -> index >= self._first": (
            "equivalent: nothing is below the first entry"
        ),
    },
    "orchestrator.state.apply": {
        "_apply_checked: entry.time_ms > state.time_ms -> entry.time_ms >= state.time_ms": _SAME_TIME,
        **{
            f"_envelope_problem: {change}": "equivalent: a short way past the questions below it, which decide"
            for change in (
                "len(entry.identity) <= 256 -> len(entry.identity) < 256",
                "len(request_id) <= 256 -> len(request_id) < 256",
                "len(entry.digest) <= 64 -> len(entry.digest) < 64",
                "0 <= entry.time_ms <= MAX_TIME_MS -> 0 < entry.time_ms <= MAX_TIME_MS",
                "0 <= entry.time_ms <= MAX_TIME_MS -> 0 <= entry.time_ms < MAX_TIME_MS",
                "0 -> 1",
            )
        },
        "_envelope_problem: 0 -> 1 (5)": "equivalent: where the time is 0 and all else is right, nobody asks here",
    },
    "orchestrator.state.apply_evictions": {
        "_problem: 1 -> 2": _NONE,
    },
    "orchestrator.state.apply_gangs": {
        "_device_refusal: return 'its group asks for no devices' -> return None": (
            "equivalent: whoever is given more devices than its group asks for is refused before; mypy wants to hear it"
        ),
        "gang_refusal: 1 -> 2": _NONE,
    },
    "orchestrator.state.apply_near": {
        "asks_for_neighbours: one.required and one.constraint is None -> "
        "one.required or one.constraint is None": _ASKED,
        "asks_for_neighbours: one.required and one.constraint is None -> one.constraint is None": _ASKED,
        "asks_for_neighbours: one.required and one.constraint is None -> one.required": _ASKED,
        "Near._is_stale: self._stale[key] = known -> pass": (
            "equivalent: counted again for the next row it is the same, since rows are entered after all are judged"
        ),
        "Near._count: True -> False (2)": _LENGTHS.format("node"),
    },
    "orchestrator.state.apply_observed": {
        "<module>: 128 -> 129": "equivalent: state 128 is refused all the same, as one that nobody knows",
        "_find_rows: 1 -> 2": _NONE,
        "_find_rows: 1 -> 2 (2)": _NONE,
        "_find_rows: 1 -> 2 (3)": _NONE,
        "_find_rows: 1 -> 2 (4)": _NONE,
        "_plain: return not any((state.job_at[slot].removing for slot in distinct(state.table.job[rows])))"
        " -> return None": "equivalent: one by one every report comes to the same; columns only take less time",
        "_observe_each: True -> False": _LENGTHS.format("observation"),
        "_healths: columns.health > 0 -> columns.health >= 0": "equivalent: the word 0 says nothing, kept or not",
        "_set_reasons: True -> False": _LENGTHS.format("row"),
        "_emit: True -> False": _LENGTHS.format("row"),
    },
    "orchestrator.state.apply_jobs": {
        "submit_one: submission.remember and (not job.tracked) -> submission.remember": (
            "equivalent: one that remembers is written again as it is"
        ),
        "_next_job: True -> False": _LENGTHS.format("group"),
        "_next_job: True -> False (2)": _LENGTHS.format("group"),
        "_asks_for_canaries: True -> False": _LENGTHS.format("group"),
        "next_version: False -> True": (
            "equivalent: a count changes no size, a restart no content, and gangs are never given another size"
        ),
        "restart: is_held_back(job) and job.rollout is not None and (not job.rollout.promoted) -> "
        "is_held_back(job) and (not job.rollout.promoted)": _HAS_ONE,
    },
    "orchestrator.state.apply_nodes": {
        "mark: node is not None and node.status is NodeStatus.LOST and (not _replaced(state, node)) -> "
        "node is not None and (not _replaced(state, node))": "equivalent: a ready node takes its own name",
    },
    "orchestrator.state.apply_plan": {
        "_find_rows: 1 -> 2": _NONE,
        "_find_rows: 32 -> 33": _SHIFT,
        "_find_rows: 1 -> 2 (4)": _NONE,
        "_act: continue -> pass (3)": "equivalent: of what is chosen below only stops and losses are done",
        "_find_rows: 1 -> 2 (2)": "equivalent: no key is negative, so the first one always differs",
    },
    "orchestrator.state.apply_placements": {
        **{
            f"<module>: '{name}' -> 'X{name}'": "equivalent: zeros are written over zeros"
            for name in ("group", "disk_mib", "device_mask", "gpu_millis", "failures")
        },
        "Placing.__init__: False -> True": _FLAG,
        "Placing.__init__: False -> True (2)": _FLAG,
        "Placing._match_nodes: -1 -> 1": "equivalent: rows for a node that is gone are refused before this is used",
        "Placing._match_nodes: 1 -> 2": _NONE,
        "Placing._match_groups: 32 -> 33": _SHIFT,
        "Placing._match_groups: columns.version != columns.version[first][inverse] -> "
        "columns.version == columns.version[first][inverse]": (
            "equivalent: told apart by version without need they come to the same; the question saves the time"
        ),
        "Placing._match_groups: 1 -> 2 (2)": _ALL_THERE_ARE,
        "Placing._match_groups: 1 -> 2 (3)": _ALL_THERE_ARE,
        "Placing._record: is_held_back(job) and job.rollout is not None and (version == job.rollout.base_version) -> "
        "is_held_back(job) and version == job.rollout.base_version": _HAS_ONE,
        "Placing._match_versions: job is not None and is_held_back(job) -> job is not None": _ASKED,
        "Placing._match_groups: self.ok[place] = False -> pass": (
            "equivalent: the facts of a refused group are zeros, and no ordinal is below a count of zero"
        ),
        "Placing._match_groups: False -> True": "equivalent: as the line left out",
        "Placing._match_groups: rows[:, 10] > 0 -> rows[:, 10] >= 0": (
            "equivalent: where no port is static, every port fits; the flag saves the look"
        ),
        "Placing._match_ordinals: 0 -> 1": "equivalent: what is read at this place is not used",
        "Placing._match_ordinals: 1 -> 2": _NONE,
        "Placing._match_ordinals: 32 -> 33": _SHIFT,
        "Placing._match_ordinals: True -> False": _LENGTHS.format("row"),
        "Placing._match_ordinals: 1 -> 2 (3)": _NONE,
        "Placing._match_ordinals: table.attempt[behind] > table.attempt[newest] -> "
        "table.attempt[behind] >= table.attempt[newest]": _ONE_NUMBER,
        "Placing._match_taints: node is not None and node.taints -> node is not None": _FLAG,
        "Placing._fit_custom: for place in np.flatnonzero(self.ok).tolist() if self._facts(place).custom -> "
        "for place in np.flatnonzero(self.ok).tolist()": _FLAG,
        "Placing._fit_custom: 0 -> 1": "equivalent: of what is in use at least 1 is, so none is left either way",
        "Placing._fit: 1 -> 2": "equivalent: no slot is negative, so the first one always differs",
        "Placing._fit: used + total > capacity -> used + total >= capacity": _FULL,
        "Placing._fit: ledger.device_millis[nodes] + wanted > 1000 -> "
        "ledger.device_millis[nodes] + wanted >= 1000": _FULL,
        "Placing._fit_one_by_one: 1 -> 2": "equivalent: only the first row of the slice is taken",
        "Placing._match_ports: self.has_static[place] and (not self._statics_fit(place, ports)) -> "
        "not self._statics_fit(place, ports)": "equivalent: where no port is static, every port fits",
        "Placing._statics_fit: True -> False": _LENGTHS.format("port"),
        "Placing._match_neighbours: ok[place] and asks_for_neighbours(job.spec, group) -> ok[place]": _ASKED,
        "Placing._enter: True -> False (2)": _LENGTHS.format("row"),
        "Placing._enter: True -> False": _LENGTHS.format("row"),
        "Placing._tell: True -> False": _LENGTHS.format("row"),
    },
    "orchestrator.state.apply_variables": {
        "_is_longer: len(value) * 4 > limit and len(value.encode('utf-8', 'surrogatepass')) > limit -> "
        "len(value.encode('utf-8', 'surrogatepass')) > limit": _COUNTED,
        "_is_longer: len(value) * 4 > limit -> len(value) * 4 >= limit": _COUNTED,
        "_is_longer: 4 -> 5": _COUNTED,
        "_is_longer: 'surrogatepass' -> 'Xsurrogatepass'": "equivalent: the log holds no text with surrogates",
    },
    "orchestrator.state.apply_rollouts": {
        "rollback: job.rollout is not None and (not job.rollout.promoted) -> job.rollout is not None": (
            "equivalent: one that is promoted is written again as it is"
        ),
    },
    "orchestrator.state.apply_statuses": {
        "find_row: 1 -> 2": _NONE,
        "find_row: 1 -> 2 (2)": _NONE,
        "note_progress: rollout is None or not under_way(rollout) or rollout.progress_ms == state.time_ms "
        "or (place < 0) -> rollout is None or not under_way(rollout) or place < 0": _SAME_TIME,
        "note_progress: rollout is None or not under_way(rollout) or rollout.progress_ms == state.time_ms "
        "or (place < 0) -> not under_way(rollout) or rollout.progress_ms == state.time_ms or place < 0": (
            "equivalent: what is none is not under way either; mypy wants to hear it"
        ),
        "observe: '' -> 'X'": _BEFORE,
        "_observe_health: '' -> 'X'": _BEFORE,
        "health_of: 0 < health <= MAX_HEALTH -> 0 <= health <= MAX_HEALTH": "equivalent: the word 0 is 0 either way",
    },
    "orchestrator.state.batch": {
        "next_schedule: before is None or schedule is None -> schedule is None": _MYPY.format(
            "of no job before there is no schedule either"
        ),
    },
    "orchestrator.state.dependencies": {
        "Turn: '' -> 'X'": "equivalent: whoever waits or is skipped says why; NOW, which does not, is made already",
    },
    "orchestrator.state.allocations": {  # of its first 180 lines
        "_some: 1 -> 2": "equivalent: one place more than is asked for",
        "<module>: 16 -> 17": _HOW_MUCH.format("how much room is asked for ahead"),
        "<module>: 50000 -> 50001": _HOW_MUCH.format("how much is copied at once"),
        "_is_blank: return not (column[:_PEEK].any() or column.any()) -> return None": (
            "equivalent: zeros that are written once more change nothing; it saves memory"
        ),
    },
    "orchestrator.state.check": {
        "_wishes_problem: 0 -> 1 (5)": "equivalent: both are a delay that may be",
        "node_problem: 65535 -> 65536": "equivalent: no highest port is as high; the next question says so",
    },
    "orchestrator.state.rollouts": {
        "Bounds._replaced: int(table.attempt[other]) > int(table.attempt[row]) -> "
        "int(table.attempt[other]) >= int(table.attempt[row])": _ONE_NUMBER,
        "Bounds._beside: other >= 0 and table.is_live(other) -> table.is_live(other)": (
            "equivalent: -1 is what both give where there is none"
        ),
        "Bounds._beside: 1 -> 2": _NONE,
        "spread_refusal: 1 -> 2": _NONE,
    },
    "orchestrator.state.failures": {
        **{f"Fate: {number} -> {number + 1}": _NEW_CLASS for number in range(4)},
        "stays_failed: 0 -> 1": "equivalent: what has failed for good has so whatever the time",
    },
    "orchestrator.state.housekeeping": {
        "_old_jobs: not (job.stopped or job.spec.type is JobType.BATCH) or job.modify_time_ms >= oldest_ms -> "
        "job.modify_time_ms >= oldest_ms": _LOOK,
        "_old_runs: 0 -> 1 (2)": "equivalent: the job's own time is above either",
    },
    "orchestrator.state.images": {
        "kept: one.version >= oldest -> one.version > oldest": "equivalent: that of the oldest version is needed",
        "since: True -> False": _LENGTHS.format("group"),
    },
    "orchestrator.state.ledger": {
        **{f"Ledger.__init__: 0 -> 1{nth}": _ROOMY for nth in ("", *(f" ({number})" for number in range(2, 8)))},
        "Ledger.reserve: 1 -> 2": _ROOMY,
        "Ledger.reserve: 2 -> 3": _ROOMY,
        "Ledger.hold: 1 -> 2 (3)": "equivalent: no slot is negative, so the first one always differs",
        "Ledger.hold: True -> False": _LENGTHS.format("node"),
        "Ledger.release: len(rows) == 1 -> len(rows) != 1": _EITHER,
        "Ledger.release: 1 -> 2 (2)": _EITHER,
        "Ledger.rebuild: -1 -> 1": _ROOMY,
        "Ledger.rebuild: 1 -> 2": _ROOMY,
        "Ledger._add: True -> False": _LENGTHS.format("row"),
        "Ledger._add: if table.custom -> if not table.custom": "equivalent: where none has any, nothing is added",
    },
    "orchestrator.state.ordinals": {
        "Ordinals.__init__: 0 -> 1": "no promise: where blocks lie",
        **{f"Ordinals.__init__: {change}": _ROOMY for change in ("16 -> 17 (2)", "64 -> 65", "64 -> 65 (2)")},
        **{
            f"Ordinals._enter: {change}": _ROOMY
            for change in (
                "1 -> 2",
                "2 * len(self.base) -> 2 // len(self.base)",
                "2 -> 3",
            )
        },
        "Ordinals._reserve: places <= len(self.newest) -> places < len(self.newest)": _ROOMY,
        "Ordinals._reserve: len(self.newest) + len(self.newest) // 2 -> len(self.newest) - len(self.newest) // 2": (
            _ROOMY
        ),
        "Ordinals._reserve: 2 -> 3": _ROOMY,
        **{
            f"_used: {change}": "equivalent: either way finds the same; which takes less time depends on the length"
            for change in ("length > 8 -> length >= 8", "length > 8 -> length <= 8", "8 -> 9")
        },
    },
    "orchestrator.state.renewal": {
        f"<module>: {change}": _HOW_MUCH.format("how far exactly a new life moves its numbers on")
        for change in ("1000 -> 1001", "1000000 -> 1000001", "10 -> 11", "12 -> 13")
    },
    "orchestrator.state.usage": {
        "<module>: if TYPE_CHECKING -> if not TYPE_CHECKING": _ANNOTATED,
        "of_job: True -> False": _STRICT,
        "_counted: True -> False": _STRICT,
        "UsageIndex.put: job.spec.type is JobType.BATCH and now.allocations < sum((group.count for "
        "group in job.spec.groups)) -> job.spec.type is JobType.BATCH or now.allocations < "
        "sum((group.count for group in job.spec.groups))": _TIME,
        "UsageIndex.put: job.spec.type is JobType.BATCH and now.allocations < sum((group.count for "
        "group in job.spec.groups)) -> now.allocations < sum((group.count for group in job.spec.groups))": (_TIME),
        "UsageIndex.put: job.spec.type is JobType.BATCH and now.allocations < sum((group.count for "
        "group in job.spec.groups)) -> job.spec.type is JobType.BATCH": _TIME,
        "UsageIndex.put: now.allocations < sum((group.count for group in job.spec.groups)) -> "
        "now.allocations <= sum((group.count for group in job.spec.groups))": _TIME,
        "UsageIndex.put: self._partly.discard(job.slot) -> pass": _TIME,
        "UsageIndex.drop: self._partly.discard(job.slot) -> pass": _TIME,
        "UsageIndex.ended: for_good and job.spec.type is JobType.BATCH -> for_good or job.spec.type is "
        "JobType.BATCH": _TIME,
        "UsageIndex.ended: for_good and job.spec.type is JobType.BATCH -> job.spec.type is JobType.BATCH": _TIME,
        "UsageIndex.ended: for_good and job.spec.type is JobType.BATCH -> for_good": _TIME,
        "UsageIndex.rebuild: self._partly.clear() -> pass": _TIME,
    },
    "orchestrator.state.versions": {
        "current: job.twins and job.twins[place] -> job.twins": "equivalent: of none nothing is a twin either",
        "_bare: 0 -> 1": "equivalent: any count does, if it is one for both",
    },
    "orchestrator.state.resize": {
        "resize: waits and rollout is not None and rollout.base_version -> waits and rollout.base_version": (
            _MYPY.format("what waits has a rollout")
        ),
        "resize_promoted: at < 0 or is_current(job, place, job.rollout.base_version) or (not in_place("
        "base.groups[at], group)) -> is_current(job, place, job.rollout.base_version) or not in_place("
        "base.groups[at], group)": "equivalent: nothing that runs is of a group that the version before has not",
        "_alone: True -> False": _LENGTHS.format("row"),
        "_alone: True -> False (2)": _LENGTHS.format("row"),
    },
    "orchestrator.reconcile.drains": {
        "surge: rows.node_draining[instances.newest] & instances.live -> "
        "rows.node_draining[instances.newest] | instances.live": _LOOK,
        "surge: True -> False": _LENGTHS.format("instance"),
        "_ask: True -> False": _LENGTHS.format("instance"),
    },
    "orchestrator.reconcile.gaps": {
        "find_gaps: base is not None and hold is not None and len(before) -> base is not None and len(before)": (
            _MYPY.format("what has a version before is held")
        ),
    },
    "orchestrator.scheduling.device_sets": {
        "best_set: candidate[0] < found[0] -> candidate[0] <= found[0]": "equivalent: no two sets have one key",
        "_within: key < found[0] -> key <= found[0]": "equivalent: no two sets have one key",
        "_circles: request.link is Link.ANY or request.count < 2 -> request.count < 2": _LOOK,
        "_tree: 256 -> 257": _HOW_MUCH.format("how many trees exactly are remembered"),
        "_table: len(below) > 1 -> len(below) >= 1": _LOOK,
        "<module>: 0 -> 1 (7)": _EVERY_SET,
        "_within: numbers[-1] - numbers[0] + 1 - count -> numbers[-1] - numbers[0] + 1 + count": _EVERY_SET,
        **{
            f"_within: {change}": "equivalent: twice as much for each number, so in the same order"
            for change in ("1 -> 2 (5)", "63 -> 64")
        },
    },
    "orchestrator.scheduling.preempt": {
        "Preemption.not_met: wait.unmet += count -> wait.unmet -= count": _UNMET,
        "<module>: 32 -> 33": _HOW_MUCH.format("how many nodes exactly are looked at together"),
        "<module>: 512 -> 513": _HOW_MUCH.format("how many nodes exactly are tried for one"),
        "<module>: 2000 -> 2001": _HOW_MUCH.format("how many wishes exactly a round looks at"),
        "<module>: 1000 -> 1001": "equivalent: any number above every priority does",
        "Preemption.__init__: 1 -> 2": "equivalent: one bound more, which nobody asks for",
        "Preemption.__init__: self._priority < NOBODY -> self._priority <= NOBODY": (
            "equivalent: no priority is above that of an asker"
        ),
        "Preemption._evictable: -1 -> 1": _ROOMY,
        "Preemption._evictable: 1 -> 2": _ROOMY,
        "Preemption._evictable: 1 -> 2 (2)": _ROOMY,
        "Preemption._evictable: 1 -> 2 (3)": _ROOMY,
        "Preemption._evictable: False -> True": "equivalent: what lives is on a node that is there",
        "Preemption._will_be_free: '' -> 'X'": _BEFORE,
        "Preemption._add: 1000 -> 1001": "equivalent: no node has a thousand devices",
        "Preemption.is_worth_trying: self._hopeless.get((wish, _together(ask, wish)), -1) >= "
        "ask.job.spec.priority or self._looks >= LOOKS_MAX -> self._looks >= LOOKS_MAX": _TIME,
        "Preemption.is_worth_trying: self._hopeless.get((wish, _together(ask, wish)), -1) >= "
        "ask.job.spec.priority -> self._hopeless.get((wish, _together(ask, wish)), -1) > "
        "ask.job.spec.priority": _TIME,
        "Preemption.is_worth_trying: 1 -> 2": _NONE,
        "Preemption.is_worth_trying: not ask.pinned -> ask.pinned": _TIME,
        "Preemption.is_worth_trying: self.give_up(ask, wish) -> pass": _TIME,
        "Preemption._may_be_helped: mask[np.setdiff1d(np.arange(len(problem)), only)] = False -> pass": _TIME,
        "Preemption._may_be_helped: False -> True": _TIME,
        "Preemption.give_up: self._hopeless[key] = max(self._hopeless.get(key, -1), ask.job.spec.priority) "
        "-> pass": _TIME,
        "Preemption.give_up: max(self._hopeless.get(key, -1), ask.job.spec.priority) -> "
        "min(self._hopeless.get(key, -1), ask.job.spec.priority)": _TIME,
        "Preemption.give_up: -1 -> 1": _TIME,
        "Preemption.give_up: 1 -> 2": _NONE,
        "Preemption.make_room: wait.unmet += 1 -> wait.unmet -= 1": _UNMET,
        "Preemption.make_room: 1 -> 2 (3)": _UNMET,
        "Preemption.make_room: self.give_up(ask, wish) -> pass": _TIME,
        "Preemption.harm_since: 1 -> 2": _NONE,
        "Preemption.later: self._priority < priority -> self._priority <= priority": _TIME,
        "Preemption._add_devices: 1000 -> 1001": "equivalent: no node has a thousand devices",
        "Preemption._allowed: -1 -> 1": "equivalent: an ordinal of a system job is the slot of a node that is there",
        "Preemption._allowed: 1 -> 2": _NONE,
        "Preemption._one: False -> True": "equivalent: it is known that what is free does not do",
        "Preemption._one: 1 -> 2": _NONE,
        "Preemption._being_freed: 1 -> 2": _NONE,
        "Preemption._harm: 0 -> 1": _TIME,
        "Preemption._harm: known.victims > 0 -> known.victims >= 0": _TIME,
        "Preemption._harm: (later + known.freed >= request).all(axis=1) -> (later + known.freed >= "
        "request).any(axis=1)": _TIME,
        "Preemption._harm: len(nodes) > NODES_MAX -> len(nodes) >= NODES_MAX": _TIME,
        "Preemption._harm: 1000 -> 1001": _TIME,
        "Preemption._would_do: 1 -> 2": _TIME,
        "Preemption._holders: True -> False": _LENGTHS.format("row"),
        "Preemption._freeable_to: self._freeable[level] = known -> pass": _TIME,
        "Preemption._harm_on: True -> False": _LENGTHS.format("dimension"),
        "Preemption._singles: True -> False": _LENGTHS.format("row"),
        "Preemption._singles: continue -> pass": _ASKED_AGAIN,
        "Preemption._whole_units: continue -> pass (2)": _ASKED_AGAIN,
        "Preemption._whole_units: max((int(self._priority[member]) for member in members)) -> "
        "min((int(self._priority[member]) for member in members))": "equivalent: the members of a unit are of one job",
        "Preemption._whole_units: columns.create_index[mine].max() -> "
        "columns.create_index[mine].min()": _HOW_MUCH.format("by which of its members a gang is the younger one"),
        "Preemption._is_held: return bool(held) -> return None": _ASKED_AGAIN,
        "Preemption._evict: known.freed[node] -= np.array(held, dtype=np.int64) -> known.freed[node] += "
        "np.array(held, dtype=np.int64)": _TIME,
        "Preemption._evict: known.freed[node] -= np.array(held, dtype=np.int64) -> pass": _TIME,
        "Preemption._evict: known.victims[node] -= 1 -> known.victims[node] += 1": _TIME,
        "Preemption._evict: known.victims[node] -= 1 -> pass": _TIME,
        "Preemption._hold: 0 -> 1": _HOW_MUCH.format("a thousandth of a processor more or less"),
        "Preemption.mark: False -> True": _TIME,
    },
    "orchestrator.scheduling.preempt_gangs": {
        "<module>: 4 -> 5": _HOW_MUCH.format("how many domains of a size are tried"),
        "_Domain: -1 -> 1": _NEW_CLASS,
        "_Domain: 1 -> 2": _NEW_CLASS,
        "make_room: 1 -> 2 (2)": _NONE,
        "_domains: domain > limit or (domain is GangDomain.ISLAND and wish.gpus is None) -> domain > limit": (
            "equivalent: an island of whose devices nothing is asked for is its node"
        ),
        "_domains: -1 -> 1": _NO_SUCH_DOMAIN,
        "_domains: 1 -> 2": _NO_SUCH_DOMAIN,
        "_domains: 1 -> 2 (2)": _NO_SUCH_DOMAIN,
        "_domains: most > 0 -> most >= 0": _TIME,
    },
    "orchestrator.scheduling.ports": {
        "<module>: 2654435769 -> 2654435770": _HOW_MUCH.format("where exactly the search for a free port begins"),
        "Ports.__init__: 0 -> 1": _HOW_MUCH.format("where exactly the search for a free port begins"),
        "_Engine.following: self.next[span] = port -> pass": _HOW_MUCH.format("it looks again, which only takes time"),
        "Ports.missing: port and span[0] <= port <= span[1] and (port not in engine.taken) -> "
        "span[0] <= port <= span[1] and port not in engine.taken": "equivalent: no range of ports begins at 0",
        "Ports.take: for port in wanted if port -> for port in wanted": "equivalent: no free port is 0",
    },
    "agent.clearing": {
        "<module>: 5000 -> 5001": _HOW_MUCH.format("how long exactly a run has to stop"),
        "<module>: 16 -> 17": _HOW_MUCH.format("how many runs exactly are stopped at once"),
        "Clearing.__init__: self._clear_until_s = 0.0 -> pass": _SET_BEFORE,
        "Clearing._clear: True -> False": _LENGTHS.format("allocation"),
    },
    "agent.outbox": {
        "<module>: 1000 -> 1001": _HOW_MUCH.format("how many reports exactly go together"),
        "<module>: 16 -> 17": _HOW_MUCH.format("how many reports exactly of one allocation wait"),
        "Outbox.gather: loop.time() < until -> loop.time() <= until": _HOW_MUCH.format("a moment more or less"),
    },
    "orchestrator.ops.linearizability": {
        **{
            f"<module>: '{kind}' -> 'X{kind}'": "equivalent: the names are those of a type, which is for mypy"
            for kind in ("not-linearizable", "undecided", "duplicate-index", "index-order", "index-replay")
        },
        "<module>: 20 -> 21": "no promise: how many keys are told of exactly",
        "check_columns: True -> False": _LENGTHS.format("key"),
        "_unproven: 1 -> 2": _NONE,
    },
    "orchestrator.ops.linear_search": {
        "Search._moves: len(moves) > 1 -> len(moves) >= 1": "equivalent: one alone is sorted",
        "Search._moves: moves.sort(key=lambda number: (self._wants[number] == NOTHING, self._returned[number]), "
        "reverse=True) -> pass": "no promise: in which order they are tried changes the time, not the verdict",
        "Search._unknown_moves: wants == NOTHING -> wants != NOTHING": (
            "no promise: a write of no use is tried, or a swap of no use is not; that changes only the time"
        ),
        "Search._order: self._writers[self._gives[number]] -= 1 -> self._writers[self._gives[number]] += 1": (
            "no promise: less is left out that must fail later, which changes only the time"
        ),
        "Search._unknown_moves: needed -= {value, NOTHING} -> pass": (
            "equivalent: the loop passes over the present value, and no write without an outcome gives nothing"
        ),
        "<module>: 1000000 -> 1000001": "no promise: after how many dead ends exactly the search gives up",
        "Search.run: frame.ordered > deepest -> frame.ordered >= deepest": (
            "no promise: which of equally long orders is shown"
        ),
        "<module>: 5 -> 6": "no promise: how many steps are shown before the end",
        "Verdict: 'linearizable' -> 'Xlinearizable'": "equivalent: nobody reads the value of this word",
        "Search.__init__: self.stuck = Stuck(last=(), value=initial, next=()) -> pass": (
            "equivalent: whoever finds no order says where it was stuck; mypy wants to hear it"
        ),
        "Search.run: 1 -> 2": _NONE,
        "Search.run: self._back_to(frame, trail) -> pass (2)": "equivalent: the line above has gone back to there",
        **{
            f"Search._unknown_moves: {change}": "no promise: what is of no use is tried, which changes only the time"
            for change in (
                "for number in window if self._equal[number] -> for number in window",
                "for wants, count in self._unknown_wants.items() if count -> "
                "for wants, count in self._unknown_wants.items()",
                "any((not self._equal[number] and self._wants[number] == value for number in window)) -> "
                "all((not self._equal[number] and self._wants[number] == value for number in window))",
                "not self._equal[number] and self._wants[number] == value -> not self._equal[number]",
                "continue -> pass",
                "wants == NOTHING and gives not in needed and (not self._readers[gives]) -> "
                "wants == NOTHING and (not self._readers[gives])",
            )
        },
        "Search._unknown_moves: not self._unknown_of or self._irreplaceable(value) -> self._irreplaceable(value)": (
            "equivalent: where there is none, none is found; the question saves the look"
        ),
        "Search._unknown_moves: return [] -> return None": "equivalent: either is nothing to try",
        "Search._take_back: 1 -> 2 (4)": "no promise: what is of no use is tried, which changes only the time",
        **{
            f"Search._order: {change}": "no promise: what is of no use is tried, which changes only the time"
            for change in (
                "self._unknown_wants[self._wants[number]] -= 1 -> self._unknown_wants[self._wants[number]] += 1",
                "self._unknown_wants[self._wants[number]] -= 1 -> pass",
            )
        },
    },
    "orchestrator.state.disruption": {
        **{
            f"<module>: {change}": "no promise: any number above all that a group can have does as well"
            for change in ("2 ** 31 - 1 -> 2 ** 31 + 1", "2 -> 3", "31 -> 32", "1 -> 2")
        },
        "Budgets.group_of: len(spec.groups) - 1 -> len(spec.groups) + 1": _IN_SPEC,
        "Budgets._standing: 1 -> 2 (2)": _NONE,
        "Budgets._standing: 0 -> 1 (4)": "equivalent: more that are up than are wanted are none that is down",
        "Budgets._standing: 1 -> 2 (3)": "equivalent: the next job's rows are of other groups; the bound saves looks",
        "Budgets._standing: columns.attempt[before] < columns.attempt[position] -> "
        "columns.attempt[before] <= columns.attempt[position]": _ONE_NUMBER,
        "Budgets._standing: '' -> 'X'": _BEFORE,
        "drain_refusal_of: 1 -> 2": "equivalent: only the first of them is taken",
        "refusal_of: 1 -> 2 (2)": _NONE,
        "refusal_of: '' -> 'X' (3)": _BEFORE,
    },
    "orchestrator.state.holding": {
        "place_in: 1 -> 2": _NONE,
        "_place_alike: at >= 0 and (spec.groups[at].gang is None) == (group.gang is None) -> "
        "(spec.groups[at].gang is None) == (group.gang is None)": "equivalent: of no group it is -1 either way",
        **{
            f"<module>: {change}": "no promise: any number above all that a group can have does as well"
            for change in ("1 -> 2", "31 -> 32")
        },
        "remains: not is_held_back(job) or job.rollout is None or job.rollout.promoted -> "
        "not is_held_back(job) or job.rollout.promoted": _HAS_ONE,
    },
    "orchestrator.reconcile.rollouts": {
        "<module>: 1 -> 2": _NONE,
        **{f"Group: {change}": _SET_BEFORE for change in ("0 -> 1 (4)", "0 -> 1 (5)")},
        **{f"Group: {change}": _NONE for change in ("1 -> 2", "1 -> 2 (2)")},
        "advance: rollout is not None and rollout.status is not RolloutStatus.SUCCEEDED -> "
        "rollout.status is not RolloutStatus.SUCCEEDED": (
            "equivalent: a group follows the policy only where its job has a rollout; mypy wants to hear it"
        ),
        "Looking.at: True -> False": _LENGTHS.format("instance"),
        **{f"_leaver: {change}": _NONE for change in ("1 -> 2", "1 -> 2 (2)", "1 -> 2 (3)")},
        "ask_successors: True -> False": _LENGTHS.format("row"),
    },
    "orchestrator.reconcile.seats": {
        "_seat: 1 -> 2 (2)": _NONE,
    },
    "orchestrator.state.quota": {
        "_refusal: '' -> 'X'": "equivalent: only namespaces with a quota grow here; mypy wants to hear it",
    },
    "orchestrator.reconcile.quota": {
        f"within_quota: ask.pinned and ask.job.spec.namespace in view.namespaces -> {less}": (
            "equivalent: whoever is looked at without need is let through; the question saves the look"
        )
        for less in (
            "ask.pinned or ask.job.spec.namespace in view.namespaces",
            "ask.job.spec.namespace in view.namespaces",
            "ask.pinned",
        )
    },
    "agent.reconcile": {
        "_run: missing or reason or (not tasks) -> missing or not tasks": (
            "equivalent: what comes after an init task that runs is missing, and a group has something after it"
        ),
        "_next_to_start: missing and shares_network(group) and (SANDBOX not in by_task) -> "
        "shares_network(group) and SANDBOX not in by_task": (
            "equivalent: where nothing is missing, a container is there, and the question below passes over it"
        ),
        "_timed: record.running_since_ms > now_ms -> record.running_since_ms >= now_ms": _SAME_TIME,
        "_timed: record.init_since_ms > now_ms -> record.init_since_ms >= now_ms": _SAME_TIME,
        "_timed: not late and record.init_task -> not late": "equivalent: where no init task was timed, none is found",
        "_failure: 2 -> 3": "equivalent: no two tasks of a run have one name, so what is third is never compared",
        "_failure: 0 -> 1 (2)": "no promise: which limit is named of a task that the group does not know",
        "_after_failure: 0 -> 1": "equivalent: either is too short to have proved anything",
        "_outdated: not one.running and one.run.restarts < record.restarts - 1 -> "
        "one.run.restarts < record.restarts - 1": "equivalent: nothing older runs where this is asked",
        "_stops: 1 -> 2": "equivalent: any number below those of the stages comes last",
        "_stops: 0 -> 1 (2)": "equivalent: nobody asks which stage of nothing is the last",
        "_stops: 0 -> 1 (3)": "no promise: when a task that the group does not know is stopped beside its others",
    },
}
