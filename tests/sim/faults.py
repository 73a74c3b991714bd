"""``Faults``: what goes wrong in a run, one thing after the other, until its time is over; and making all well again.

Owns: choosing, and the operator's rules: a disk is only wiped (or damaged) while every other peer's is admitted and
whole. Leaves how each thing is done to ``peer``, ``wires`` and ``faulty_disk``. The one rule: each fault is a method
named after its entry in ``schedule.FAULTS``; a new one needs these two and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from orchestrator.contract.errors import RaftsmanError
from orchestrator.contract.model import str_map
from orchestrator.state import commands as cmd
from orchestrator.state.features import CHECKED_CHANGES
from tests.sim.agents import SimAgent
from tests.sim.faulty_disk import DISK_ERRORS, STEPS, Trap
from tests.sim.peer import Life, SimPeer
from tests.sim.world import World

MOST_PEERS = 9
"""Machines in one run, removed ones included."""
AFTER_SNAPSHOT = ("snapshots:fsync_dir", "journal:write", "journal:fdatasync", "journal:create")
"""Where power goes between a snapshot's rename and what the journal makes of it."""


class Faults:
    def __init__(self, world: World, agents: Sequence[SimAgent]) -> None:
        self._world = world
        self._agents = agents
        self._rng = world.new_rng()
        self._election_s = world.schedule.config.election_max_s
        self.wipes = 0
        self.changes: list[asyncio.Task[None]] = []
        self.done: dict[str, int] = {}

    async def run(self) -> None:
        world, rng = self._world, self._rng
        schedule = world.schedule
        names, weights = list(schedule.faults), list(schedule.faults.values())
        until = world.loop.time() + schedule.faults_s
        while world.loop.time() < until:
            await asyncio.sleep(rng.expovariate(1 / schedule.pause_s))
            world.witness.require()
            self._repair()
            name = rng.choices(names, weights)[0]
            world.trace("fault", name)
            self.done[name] = self.done.get(name, 0) + 1
            await getattr(self, f"_{name}")()

    def _repair(self) -> None:
        """What comes back by itself or by an operator while other things go wrong."""
        world, rng = self._world, self._rng
        for peer in self._in_service():
            if peer.corrupt and rng.random() < 0.5 and self._may_lose(peer):
                self._replace_disk(peer)
            elif not peer.up and not peer.corrupt and rng.random() < 0.4:
                peer.start()
        if rng.random() < 0.25:
            world.trace("heal")
            world.wires.heal()
            world.wires.loss = 0.0
        for peer in world.peers.values():
            if rng.random() < 0.2:
                peer.slow_disk_s = peer.slow_thread_s = 0.0

    def _replace_disk(self, peer: SimPeer) -> None:
        """What the message about damage tells the operator to do."""
        self._world.trace("new disk", peer.peer_id)
        self._world.retire_disk(peer)
        self.wipes += 1
        peer.kill(silent=False)
        peer.new_disk()
        peer.configured = sorted({*self._world.members(), peer.peer_id})
        peer.cut_at_install = self._world.meddler.on and self._rng.random() < 0.3
        peer.start()

    def _someone(self) -> SimPeer:
        """Some peer; often the leader, where most is at stake."""
        leader = self._world.leader()
        if leader is not None and self._rng.random() < 0.4:
            return leader
        return self._rng.choice(self._in_service())

    def _other(self, peer: SimPeer) -> SimPeer:
        return self._rng.choice([other for other in self._in_service() if other is not peer])

    def _in_service(self) -> list[SimPeer]:
        return [peer for peer in self._world.peers.values() if not peer.retired]

    # ------------------------------------------------------------------ processes

    async def _kill(self) -> None:
        self._someone().kill(silent=False)

    async def _power(self) -> None:
        self._someone().crash()

    async def _power_all(self) -> None:
        for peer in self._in_service():
            peer.crash()
        for peer in self._in_service():
            if not peer.corrupt and self._rng.random() < 0.8:
                peer.start()

    async def _pause(self) -> None:
        peer = self._someone()
        if peer.process is not None:
            peer.process.pause(self._rng.uniform(0.5, 3.0) * self._election_s)

    # ------------------------------------------------------------------ disks

    async def _trap(self) -> None:
        rng = self._rng
        if rng.random() < 0.3:  # between a snapshot and what the journal makes of it
            trap = Trap(rng.choice(AFTER_SNAPSHOT), after="snapshots:rename")
        else:
            trap = Trap(rng.choice(STEPS), skip=rng.choice((0, 0, 1, 3)))
        self._someone().disk.trap = trap

    async def _disk_error(self) -> None:
        step = self._rng.choice([name for name in STEPS if not name.endswith("unlink")])
        self._someone().disk.trap = Trap(step, skip=self._rng.choice((0, 0, 2)), error=self._rng.choice(DISK_ERRORS))

    async def _slow_disk(self) -> None:
        self._someone().slow_disk_s = self._rng.choice((0.01, 0.05, 0.5)) * self._election_s

    async def _slow_thread(self) -> None:
        self._someone().slow_thread_s = self._rng.choice((0.1, 1.0, 3.0)) * self._election_s

    def _may_lose(self, peer: SimPeer) -> bool:
        """An operator gives up one disk at a time, while all the others are whole and in the newest epoch, and those
        that run and know it of each other are a majority without it: what `raftsman peers reset` asks them."""
        members = [self._world.peers[name] for name in self._world.members()]
        others = [other for other in members if other is not peer]
        sure = [other for other in others if all(other.counts(one) for one in others)]
        return all(self._is_whole(other) for other in others) and len(sure) > len(members) // 2

    def _is_whole(self, peer: SimPeer) -> bool:
        return peer.admitted and not peer.corrupt and not peer.flipped and peer.epoch == self._world.epoch

    async def _flip(self) -> None:
        peer = self._rng.choice(self._in_service())
        if not self._may_lose(peer) or peer.corrupt:
            return
        files = [path for path in peer.disk.files() if peer.disk.size(path)]
        if files:
            path = self._rng.choice(files)
            peer.kill(silent=False)
            peer.disk.flip(path, self._rng.randrange(peer.disk.size(path)), 1 << self._rng.randrange(8))
            peer.flipped = True
            self._world.trace("flip", path)

    async def _wipe(self) -> None:
        peer = self._someone()
        if self._may_lose(peer):
            self._replace_disk(peer)

    # ------------------------------------------------------------------ the network

    async def _isolate(self) -> None:
        self._world.wires.isolate(self._someone().peer_id, list(self._world.peers))

    async def _partition(self) -> None:
        names = [peer.peer_id for peer in self._in_service()]
        self._rng.shuffle(names)
        size = self._rng.randint(1, len(names) - 1)
        for one in names[:size]:
            for other in names[size:]:
                self._world.wires.cut_direction(one, other)
                self._world.wires.cut_direction(other, one)

    async def _one_way(self) -> None:
        peer = self._someone()
        other = self._other(peer)
        if self._rng.random() < 0.5:
            peer, other = other, peer
        self._world.wires.cut_direction(peer.peer_id, other.peer_id)

    async def _break(self) -> None:
        for _ in range(self._rng.choice((1, 1, 3))):
            peer = self._someone()
            self._world.wires.break_between(peer.peer_id, self._other(peer).peer_id)

    async def _loss(self) -> None:
        self._world.wires.loss = self._rng.choice((0.01, 0.05, 0.2))

    async def _slow_link(self) -> None:
        peer = self._someone()
        other = self._other(peer)
        if self._rng.random() < 0.5:
            peer, other = other, peer
        self._world.wires.slow[peer.peer_id, other.peer_id] = self._rng.choice((0.1, 1.0, 4.0)) * self._election_s

    async def _lag(self) -> None:
        """Several rejected heartbeats on a slow link are answered by as many resends, and the link breaks in the middle
        of them."""
        world, rng = self._world, self._rng
        leader = world.leader()
        if leader is None:
            return
        peer = self._other(leader)
        world.wires.isolate(peer.peer_id, list(world.peers))
        await asyncio.sleep(rng.uniform(1.0, 5.0) * self._election_s)
        world.wires.heal()
        peer.cut_at_install = rng.random() < 0.4
        heartbeat_s = world.schedule.config.heartbeat_s
        for pair in ((leader.peer_id, peer.peer_id), (peer.peer_id, leader.peer_id)):
            world.wires.slow[pair] = rng.uniform(0.5, 3.0) * heartbeat_s
        await asyncio.sleep(rng.uniform(0.1, 1.0) * self._election_s)
        world.wires.break_between(leader.peer_id, peer.peer_id)

    async def _flap(self) -> None:
        """The followers pause until the leader has given up, but its sessions live on; mostly it is elected again."""
        world, rng = self._world, self._rng
        leader = world.leader()
        if leader is None:
            return
        late = self._other(leader)
        world.wires.slow[late.peer_id, leader.peer_id] = rng.uniform(2.0, 6.0) * self._election_s
        await asyncio.sleep(rng.uniform(0.2, 1.0) * self._election_s)
        for peer in world.peers.values():
            if peer not in (leader, late) and peer.process is not None:
                peer.process.pause(rng.uniform(1.0, 1.5) * self._election_s)
        await asyncio.sleep(rng.uniform(1.5, 3.0) * self._election_s)

    async def _depose(self) -> None:
        """A leader goes on taking writes alone, while the others elect, commit and compact; then it comes back."""
        world, rng = self._world, self._rng
        leader = world.leader()
        if leader is None:
            return
        world.wires.isolate(leader.peer_id, list(world.peers))
        await asyncio.sleep(rng.uniform(1.0, 4.0) * self._election_s)
        world.wires.heal()
        if rng.random() < 0.5:
            await asyncio.sleep(rng.uniform(0.0, 0.5))
            other = self._other(leader)
            world.wires.break_between(other.peer_id, leader.peer_id)

    # ------------------------------------------------------------------ other peers

    async def _change(self) -> None:
        """Add, remove or replace a peer, as ``api.peers`` does it; nobody waits for the outcome."""
        world, rng = self._world, self._rng
        members = [world.peers[name] for name in world.members()]
        leader = world.leader()
        if leader is None or len(world.peers) >= MOST_PEERS - 1:
            return
        if not all(peer.admitted and not peer.corrupt and not peer.flipped for peer in members):
            return  # an operator repairs first
        for _ in range(rng.choice((1, 1, 2))):
            gone = rng.choice(members).peer_id if len(members) > 3 or rng.random() < 0.7 else ""
            new = world.add_peer().peer_id if len(members) < 4 or rng.random() < 0.4 else ""
            self.changes.append(world.loop.create_task(self._change_peers(leader, gone, new)))
        await asyncio.sleep(rng.uniform(0.0, 2.0) * self._election_s)

    async def _change_peers(self, leader: SimPeer, gone: str, new: str) -> None:
        world = self._world

        async def change(life: Life) -> None:
            log, state = life.log, life.machine.state
            await log.read_barrier(timeout_s=2.0)
            addresses = {peer: address for peer, address in log.peers.items() if peer != gone}
            disks = {peer: disk for peer, disk in state.admitted.items() if peer != gone}
            known = str_map(state.admitted) if state.feature_level >= CHECKED_CHANGES else ()
            if new:
                addresses[new] = f"{new}:7400"
                disks[new] = await log.rehearse(new, addresses[new])
            command = cmd.ChangePeers(
                expected_epoch=state.epoch, addresses=str_map(addresses), incarnations=str_map(disks), known=known
            )
            await life.proposer.propose(command, timeout_s=2.0)

        await asyncio.sleep(self._rng.uniform(0.05, 0.5))  # the newcomer has to start
        world.holes.changing()
        world.changing += 1
        try:
            await leader.call(change, timeout_s=6.0)
        except RaftsmanError as error:
            world.trace("not changed", error.reason)
        else:
            world.trace("changed", f"-{gone}", f"+{new}")
        finally:
            world.changing -= 1

    # ------------------------------------------------------------------ clocks and agents

    async def _wall_clock(self) -> None:
        self._someone().wall_offset_ms = self._rng.choice((-60_000, -1000, 500, 5000, 60_000))

    async def _agent_away(self) -> None:
        agent = self._rng.choice(self._agents)
        bound_s = self._world.schedule.lost_after_ms / 1000
        agent.away_until = self._world.loop.time() + self._rng.uniform(0.2, 2.5) * bound_s
        if self._rng.random() < 0.2:
            agent.failing += 1

    # ------------------------------------------------------------------ the end

    async def stop(self) -> None:
        """No fault is left; damaged disks are replaced one at a time."""
        world = self._world
        world.quiet = True
        world.trace("faults over")
        world.meddler.on = False
        world.wires.heal()
        world.wires.loss = 0.0
        latest = max(peer.wall_offset_ms for peer in world.peers.values())
        for agent in self._agents:
            agent.away_until = 0.0
        for peer in world.peers.values():
            peer.disk.trap = None
            peer.cut_at_install = False
            peer.slow_disk_s = peer.slow_thread_s = 0.0
            peer.wall_offset_ms = latest
            if peer.process is not None:
                peer.process.resume()
        deadline = world.loop.time() + world.schedule.settle_s
        await asyncio.gather(*self.changes)
        # Newcomers, too: a change whose outcome nobody knew may still make one a member.
        for peer in self._in_service():
            if not peer.up and not peer.corrupt:
                peer.start()
        while not all(world.peers[name].running for name in world.members()):
            world.witness.require()
            for peer in self._in_service():
                if peer.corrupt and self._may_lose(peer):
                    self._replace_disk(peer)
                elif not peer.up and not peer.corrupt:
                    peer.start()
            if world.loop.time() > deadline:
                world.witness.violation(
                    "a peer does not come back: "
                    + ", ".join(
                        f"{peer.peer_id} {peer.corrupt or ('up' if peer.up else 'down')}"
                        for peer in world.peers.values()
                    )
                )
            await asyncio.sleep(0.05)
