"""Keys of a job file that only containers have: what they mean, what is refused, and that a dump loses nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.contract.containers import container_settings, has_processes, in_place, shares_network, variables_of
from orchestrator.contract.errors import InvalidError
from orchestrator.contract.model import (
    ContainerSpec,
    FileSpec,
    GroupSpec,
    LogSpec,
    MountSpec,
    PullPolicy,
    RegistryAuth,
    TaskRole,
    TmpfsSpec,
    Ulimit,
)
from orchestrator.jobfile.dump import dump
from orchestrator.jobfile.file import load

FULL = """
name: web
image: ghcr.io/a/web:1
pull_policy: always
auth: {username: bot, password_variable: registry/token, server: ghcr.io}
env_file: [base, shop/web]
hostname: web-1
labels: {team: blue}
init: false
pids_limit: 100
ulimits: {nofile: 1024, core: "0:10", nproc: unlimited, stack: {soft: 1, hard: 2}}
shm_size: 128Mi
read_only: true
tmpfs: [/run, "/scratch:size=16Mi,mode=0750,uid=1000,gid=100", {target: /x, size: 1Mi, mode: 1777}, "/y:mode=700"]
logging: {driver: json-file, options: {max-size: 10m, max-file: 3}}
files:
  /etc/app/a.conf: |
    listen 80
  /etc/app/b.conf: {variable: app/b, mode: 0600}
resources: {cpu: 100m, cpu_max: 2, memory: 64Mi, memory_max: 128Mi}
network_mode: backend
cap_add: [cap_net_raw, CHOWN, chown]
cap_drop: [all]
volumes: [data:/data, {source: more, target: /more, sub_path: a/b, read_only: true}, /etc:/host]
"""


def test_every_key_arrives_in_the_spec_and_survives_a_dump() -> None:
    spec = load(FULL)
    (group,) = spec.groups
    (task,) = group.tasks
    assert task.container == ContainerSpec(
        pull_policy=PullPolicy.ALWAYS,
        auth=RegistryAuth(username="bot", password_variable="registry/token", server="ghcr.io"),
        env_files=("base", "shop/web"),
        hostname="web-1",
        labels=(("team", "blue"),),
        no_init=True,
        pids_limit=100,
        ulimits=(
            Ulimit(name="nofile", soft=1024, hard=1024),
            Ulimit(name="core", soft=0, hard=10),
            Ulimit(name="nproc", soft=-1, hard=-1),
            Ulimit(name="stack", soft=1, hard=2),
        ),
        shm_size_mib=128,
        read_only=True,
        tmpfs=(
            TmpfsSpec(target="/run"),
            TmpfsSpec(target="/scratch", size_mib=16, mode=0o750, uid=1000, gid=100),
            TmpfsSpec(target="/x", size_mib=1, mode=0o1777),
            TmpfsSpec(target="/y", mode=0o700),
        ),
        logging=LogSpec(options=(("max-file", "3"), ("max-size", "10m"))),
        files=(
            FileSpec(target="/etc/app/a.conf", content="listen 80\n"),
            FileSpec(target="/etc/app/b.conf", variable="app/b", mode=0o600),
        ),
        cap_add=("CHOWN", "NET_RAW"),
        cap_drop=("ALL",),
        cpu_max_millis=2000,
        memory_max_mib=128,
    )
    assert task.mounts == (
        MountSpec(source="data", target="/data", read_only=False),
        MountSpec(source="more", target="/more", sub_path="a/b"),
        MountSpec(source="/etc", target="/host"),
    )
    assert group.network_mode == "backend"
    assert variables_of(task) == ("app/b", "base", "registry/token", "shop/web")
    assert load(dump(spec)) == spec


def test_what_is_not_said_is_not_in_the_spec() -> None:
    (task,) = load("name: a\nimage: b\nnetwork_mode: bridge\npull_policy: missing\ninit: true\n").groups[0].tasks
    assert task.container is None
    assert load("name: a\nimage: b\nnetwork_mode: bridge\n") == load("name: a\nimage: b\n")


def test_groups_with_roles() -> None:
    spec = load(
        "name: a\ntasks:\n  one: {image: x, role: init}\n  two: {image: x, role: sidecar}\n  three: {image: x}\n"
    )
    assert [task.role for task in spec.groups[0].tasks] == [TaskRole.INIT, TaskRole.SIDECAR, TaskRole.MAIN]
    assert shares_network(spec.groups[0])
    assert load(dump(spec)) == spec


BAD = [
    ("pull_policy: allways", "3:14: pull_policy: expected one of missing, always, never; got 'allways'; did you mean"),
    ("pull: always", "unknown key 'pull'; did you mean 'pull_policy'?"),
    ("auth: {username: a, password: hunter2}", "a password does not belong in a job file: put it into a variable"),
    ("auth: {password_variable: a}", "expected exactly one of 'username' and 'username_variable'"),
    ("env_file: ./.env", "expected the name of a variable"),
    ("hostname: a_b", "expected a host name such as 'web-1'"),
    ("labels: {raftsman.job: x}", "labels beginning with raftsman. are set by Raftsman itself"),
    ("ulimits: {nofle: 3}", "3:18: ulimits.nofle: no such limit 'nofle'; did you mean 'nofile'?"),
    ("ulimits: {nofile: '9:3'}", "the soft limit 9 must not be above the hard limit 3"),
    ("ulimits: {nofile: lots}", "expected a limit such as 65536, '1024:4096' (soft:hard) or unlimited"),
    ("tmpfs: /run:mode=7", "expected a file mode such as 0750 or 1777, got '7'"),
    ("tmpfs: /run:mode=0888", "expected a file mode such as 0750 or 1777"),
    ("tmpfs: /run:noexec", "expected a tmpfs such as '/run' or '/run:size=64Mi,mode=0750'"),
    ("tmpfs: '/run:uid=1,uid=2'", "expected a tmpfs such as '/run' or '/run:size=64Mi,mode=0750'"),
    ("tmpfs: /run:uid=root", "expected a whole number"),
    ("tmpfs: {target: /run, gid: -1}", "its gid must be from 0 to 2147483647, not -1"),
    ("tmpfs: /", "expected an absolute path without '..', got '/'"),
    ("logging: sysloog", "no such log driver 'sysloog'; did you mean 'syslog'?"),
    ("logging: {options: {max_size: 3m}}", "json-file takes max-size and max-file; did you mean 'max-size'?"),
    ("logging: {options: {max-size: 10MB}}", "expected a size such as 10m, got '10MB'"),
    ("files: {/a: {}}", "expected exactly one of 'content' and 'variable'"),
    ("files: {/a: {content: x, mode: 9}}", "expected a file mode such as 0644"),
    ("files: {a: x}", "expected an absolute path of a file"),
    ("read_only: true\nfiles: {/a: x}", "a file needs a directory of its own"),
    ("tmpfs: /run\nfiles: {/run/a: x}", "lies in the tmpfs '/run', which is empty when the container starts"),
    ("volumes: [/etc:/x]\nfiles: {/x/a: x}", "lies in the volume '/x', which is read-only"),
    ("files: {/proc/a: x}", "would not be seen: when a container starts, the engine has its own there"),
    ("files: {//dev/shm/a: x}", "would not be seen"),
    ("files: {/etc/resolv.conf: x}", "would not be seen"),
    ("files: {/run/raftsman/a: x}", "/run/raftsman is where a container finds its agent"),
    ("volumes: [data:/run/raftsman]", "/run/raftsman is where a container finds its agent"),
    ("tmpfs: /run/raftsman/", "/run/raftsman is where a container finds its agent"),
    ("volumes: ['my vol:/x']", "expected the name of a volume"),
    ("volumes: [{source: a, target: /x, sub_path: ../b}]", "expected a relative path without '..'"),
    ("volumes: [a:/x, b:/x]", "'/x' is mounted twice"),
    ("volumes: [a:/x, b:/x/]", "'/x/' is mounted twice"),
    ("volumes: [a:/x]\ntmpfs: //x", "'//x' is mounted twice"),
    ("volumes: [{source: a, target: '/x:y'}]", "an engine cannot mount what has ':' in its path"),
    ("volumes: [{source: '/srv/a:b', target: /x}]", "an engine cannot mount what has ':' in its path"),
    ("tmpfs: /run/\nfiles: {/run/a: x}", "lies in the tmpfs '/run', which is empty when the container starts"),
    ("files: {/a/b: x, //a/./b: y}", "files.//a/./b: is there twice"),
    ("resources: {cpu: 2, cpu_max: 1}", "resources.cpu_max: must be at least 'cpu'"),
    ("resources: {memory: 2Gi, memory_max: 1Gi}", "resources.memory_max: must be at least 'memory'"),
    ("network_mode: 'a b'", "expected bridge, host, none or the name of a network"),
    ("cap_add: [NET_AMDIN]", "cap_add[0]: no such capability 'NET_AMDIN'; did you mean 'NET_ADMIN'?"),
    ("cap_add: [CHOWN]\ncap_drop: [CAP_CHOWN]", "CHOWN is in 'cap_add', too"),
    ("cap_add: [CHOWN]\nprivileged: true", "a privileged container has every capability"),
    ("network_mode: none\nports: [80]", "with 'network_mode: none' nothing can listen"),
    ("network_mode: host\nports: [80]", "no port leads into the container: say 'static: 80'"),
    ("role: init", "a group needs a main task"),
]


@pytest.mark.parametrize(("text", "expected"), BAD, ids=[text.partition("\n")[0][:40] for text, _ in BAD])
def test_what_cannot_be_is_refused_with_its_place(text: str, expected: str) -> None:
    with pytest.raises(InvalidError) as caught:
        load(f"name: web\nimage: nginx\n{text}\n")
    assert expected in caught.value.message
    assert "hunter2" not in caught.value.message


@pytest.mark.parametrize(
    "key", ["read_only: true", "shm_size: 64Mi", "volumes: [a:/b]", "privileged: true", "cap_add: [CHOWN]"]
)
def test_a_process_is_told_that_it_cannot_have_what_takes_a_container(key: str) -> None:
    name = key.partition(":")[0]
    with pytest.raises(InvalidError, match=f"the process driver has no '{name}', for that takes a container"):
        load(f"name: web\ncommand: run\n{key}\n")


def test_limits_of_a_process_are_told_at_their_place() -> None:
    with pytest.raises(InvalidError, match=r"3:25: resources\.memory_max: the process driver has no 'memory_max'"):
        load("name: web\ncommand: run\nresources: {memory_max: 1Gi}\n")


def test_one_network_has_one_hostname() -> None:
    tasks = "  one: {image: x, hostname: a}\n  two: {image: x, hostname: b}\n"
    with pytest.raises(InvalidError, match="share a network and so a hostname"):
        load(f"name: a\ntasks:\n{tasks}")
    assert load(f"name: a\nnetwork_mode: host\ntasks:\n{tasks}").groups[0].network_mode == "host"


def test_only_sizes_change_in_place() -> None:
    def group(text: str) -> GroupSpec:
        return load(f"name: a\nimage: x\n{text}\n").groups[0]

    small = group("resources: {cpu: 1, memory: 64Mi}")
    large = group("count: 5\nresources: {cpu: 2, memory: 1Gi, memory_max: 2Gi}")
    assert in_place(small, large)
    assert not in_place(small, group("resources: {cpu: 1, memory: 64Mi, disk: 1Gi}"))
    process = load("name: a\ncommand: run\n").groups[0]
    assert in_place(process, load("name: a\ncommand: run\nresources: {memory: 1Gi}\n").groups[0])
    assert (has_processes(process), has_processes(small)) == (True, False)
    other = replace(small, tasks=(replace(small.tasks[0], driver="somebody-elses"),))
    assert in_place(other, other) is False


def test_the_settings_that_were_asked_for_are_named_as_users_write_them() -> None:
    (task,) = load(FULL).groups[0].tasks
    assert {"volumes", "env_file", "resources.cpu_max", "resources.memory_max"} <= set(container_settings(task))
