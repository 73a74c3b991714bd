"""What is wrong in a job file is told with file, line, column, what was expected and the near miss."""

from __future__ import annotations

import pytest

from orchestrator.contract.errors import InvalidError
from orchestrator.jobfile.file import load

GOOD = "name: web\nimage: nginx\n"

# (name, text, what the error must say)
BAD: list[tuple[str, str, str]] = [
    (
        "a-misspelt-key",
        "name: web\n\n\n\nresources: {}\nimge: nginx\n",
        "job.yaml:6:1: unknown key 'imge'; did you mean 'image'?",
    ),
    ("a-word-of-kubernetes", GOOD + "replicas: 3\n", "job.yaml:3:1: unknown key 'replicas'; did you mean 'count'?"),
    ("a-word-of-a-predecessor", GOOD + "env_vars: {}\n", "unknown key 'env_vars'; did you mean 'env'?"),
    ("a-limit-at-the-wrong-level", GOOD + "cpu_limit: 2\n", "did you mean 'cpu_max' within 'resources'?"),
    ("a-key-at-the-wrong-level", GOOD + "cpu: 2\n", "did you mean 'cpu' within 'resources'?"),
    (
        "an-unknown-key-far-from-all",
        GOOD + "zzzzqq: 1\n",
        "unknown key 'zzzzqq' (known: affinity, after, args, auth, cap_add, cap_drop, command,",
    ),
    (
        "an-unknown-key-within",
        GOOD + "resources:\n  cpuu: 1\n",
        "job.yaml:4:3: unknown key 'cpuu'; did you mean 'cpu'?",
    ),
    ("empty", "", "job.yaml:1:1: the file is empty"),
    ("only-a-comment", "# nothing\n", "job.yaml:1:1: the file is empty"),
    ("a-list", "- name: web\n", "job.yaml:1:1: expected keys such as 'name: web', got a list"),
    ("no-name", "image: nginx\n", "job.yaml:1:1: 'name' is missing"),
    ("nothing-to-run", "name: web\n", "job.yaml:1:1: a task needs an image or a command"),
    ("two-documents", GOOD + "---\n" + GOOD, "job.yaml:3:1: a second document begins here"),
    ("not-yaml", "name: [web\n", "not YAML"),
    ("a-tab", "name: web\n\timage: x\n", "job.yaml:2:1: not YAML: a tab"),
    ("a-control-character", "name: w\x01b\n", "not YAML: a character that is not allowed"),
    ("a-python-tag", "name: !!python/object/apply:os.system [ls]\n", "tags such as"),
    (
        "a-twice-written-key",
        GOOD + "count: 1\ncount: 2\n",
        "job.yaml:4:1: key 'count' is there twice (first in line 3)",
    ),
    ("a-merge-of-text", GOOD + "env: {<<: x}\n", "job.yaml:3:11: '<<' takes a mapping, or a list of mappings"),
    ("a-merged-mistake", GOOD + "env: &e {A: {}}\nvariables: {<<: *e}\n", "job.yaml:3:13: variables.A: expected text"),
    (
        "no-cpu",
        GOOD + "resources: {cpu: 0m}\n",
        "job.yaml:3:18: resources.cpu: expected more than 0; leave it out for 100m",
    ),
    ("no-memory", GOOD + "resources: {memory: 0}\n", "resources.memory: expected more than 0; leave it out for 128Mi"),
    (
        "too-long-a-delay",
        GOOD + "restart: {delay: 99h}\n",
        "restart.delay: must be from 0 to 24h, not 356400000 ms",
    ),
    ("a-twice-written-env", GOOD + "env: {A: 1, A: 2}\n", "job.yaml:3:13: key 'A' is there twice"),
    ("a-path-as-name", "name: ../x\nimage: a\n", "job.yaml:1:7: name: expected 1 to 63 lower-case letters"),
    ("a-name-nearly-right", "name: My_App\nimage: a\n", "got 'My_App'; did you mean 'my-app'?"),
    ("a-long-name", f"name: {'a' * 64}\nimage: a\n", "name: expected 1 to 63"),
    ("a-bad-namespace", GOOD + "namespace: a/b\n", "job.yaml:3:12: namespace: expected 1 to 63"),
    (
        "an-unknown-type",
        GOOD + "type: servce\n",
        "type: expected one of service, batch, system; got 'servce'; did you mean 'service'?",
    ),
    ("a-negative-count", GOOD + "count: -1\n", "job.yaml:3:8: count: must be at least 0, got -1"),
    ("an-absurd-count", GOOD + "count: 1000000000000000000000\n", "count: expected a whole number of a sensible size"),
    ("a-large-count", GOOD + "count: 100001\n", "count: must be at most 100000"),
    ("a-broken-count", GOOD + "count: 1.5\n", "count: expected a whole number, got 1.5"),
    ("a-true-count", GOOD + "count: true\n", "count: expected a whole number, got true"),
    (
        "an-unknown-priority-class",
        GOOD + "priority: hihg\n",
        "job.yaml:3:11: priority: expected a number from 0 to 100, or one of low, normal, high, critical; "
        "got 'hihg'; did you mean 'high'?",
    ),
    ("a-broken-priority", GOOD + "priority: 1.5\n", "priority: expected a whole number, got 1.5"),
    (
        "a-budget-in-words",
        GOOD + "disruption: {max_unavailable: few}\n",
        "job.yaml:3:31: disruption.max_unavailable: expected a number of instances such as 1, or a share such as 25%",
    ),
    (
        "a-budget-above-all",
        GOOD + "disruption: 101%\n",
        "disruption.max_unavailable: must be from 0% to 100%, not 101%",
    ),
    ("a-negative-budget", GOOD + "disruption: -1\n", "expected a number of instances such as 1"),
    (
        "a-misspelt-budget",
        GOOD + "disruption: {max_unavailble: 1}\n",
        "job.yaml:3:14: unknown key 'max_unavailble'; did you mean 'max_unavailable'?",
    ),
    ("a-preemptible-number", GOOD + "preemptible: 1\n", "job.yaml:3:14: preemptible: expected true or false, got 1"),
    ("a-priority-above-100", GOOD + "priority: 101\n", "priority: must be at most 100"),
    (
        "a-bad-cpu-unit",
        GOOD + "resources: {cpu: 5x}\n",
        "job.yaml:3:18: resources.cpu: expected cores such as 2, 0.5 or 500m, got '5x'",
    ),
    ("a-negative-cpu", GOOD + "resources: {cpu: -1}\n", "resources.cpu: expected cores such as"),
    ("an-infinite-cpu", GOOD + "resources: {cpu: .inf}\n", "resources.cpu: expected cores"),
    ("a-huge-cpu", GOOD + "resources: {cpu: 10001}\n", "resources.cpu: must be between 1m and 10000 cores"),
    ("a-cpu-with-an-exponent", GOOD + "resources: {cpu: 1e999}\n", "resources.cpu: expected cores"),
    ("a-fine-cpu", GOOD + "resources: {cpu: 0.0001}\n", "finer than 1m"),
    ("memory-without-unit", GOOD + "resources: {memory: 256}\n", "got 256; did you mean 256Mi?"),
    ("memory-in-millibytes", GOOD + "resources: {memory: 256m}\n", "did you mean 256Mi?"),
    ("two-petabytes", GOOD + "resources: {memory: 2Pi}\n", "resources.memory: must be from 1Mi to 1Pi"),
    ("negative-memory", GOOD + "resources: {memory: -5Mi}\n", "resources.memory: expected an amount"),
    ("too-many-gpus", GOOD + "resources: {gpus: 65}\n", "resources.gpus.count: must be at most 64"),
    ("negative-gpus", GOOD + "resources: {gpus: -1}\n", "resources.gpus.count: must be at least 0"),
    (
        "a-share-of-two",
        GOOD + "resources:\n  gpus: {count: 2, share: 0.5}\n",
        "job.yaml:4:27: resources.gpus.share: a share is of one device",
    ),
    (
        "an-island-without-gpus",
        GOOD + "gang: island\n",
        "gang.domain: an island is one of GPUs: ask for gpus, or say 'node'",
    ),
    ("a-system-gang", GOOD + "type: system\ngang: true\n", "a system job runs once on every node: it cannot be a gang"),
    (
        "no-such-domain",
        GOOD + "gang: {domain: rakc}\n",
        "gang.domain: expected one of island, node, rack, zone, cluster",
    ),
    ("no-such-failure", GOOD + "gang: {on_failure: x}\n", "gang.on_failure: expected one of restart, replace"),
    ("a-large-gang", GOOD + "count: 2001\ngang: true\n", "count: a gang has at most 2000 instances"),
    (
        "no-condition",
        GOOD + "resources: {gpus: {compute_capability: new}}\n",
        "resources.gpus.compute_capability: expected a condition such as '>= 8.0', got 'new'",
    ),
    (
        "no-driver-condition",
        GOOD + "resources: {gpus: {driver_version: '>= x'}}\n",
        "resources.gpus.driver_version: expected a condition",
    ),
    ("no-profile", GOOD + "resources: {gpus: {mig: huge}}\n", "resources.gpus.mig: expected a MIG profile such as"),
    (
        "a-link-of-one",
        GOOD + "resources: {gpus: {count: 1, link: island}}\n",
        "resources.gpus.link: a link is between devices",
    ),
    (
        "no-such-link",
        GOOD + "resources: {gpus: {count: 2, link: best}}\n",
        "gpus.link: expected one of any, island, numa",
    ),
    (
        "a-share-of-nothing",
        GOOD + "resources: {gpus: {share: 0}}\n",
        "gpus.share: expected more than 0; leave it out for",
    ),
    ("a-share-above-one", GOOD + "resources: {gpus: {share: 1.5}}\n", "gpus.share: must be from 1m to 1"),
    ("a-port-too-high", GOOD + "ports: [70000]\n", "ports[0].to: must be at most 65535"),
    ("a-port-below-one", GOOD + "ports: [-1]\n", "ports[0]: expected a port such as"),
    ("a-port-of-words", GOOD + "ports: [http]\n", "ports[0]: expected a port such as"),
    ("one-label-twice", GOOD + "ports: [8080, 8080]\n", "ports[1].label: port label '8080' is used twice"),
    ("one-host-port-twice", GOOD + "ports: {a: {static: 80}, b: {static: 80}}\n", "host port 80 is used twice"),
    (
        "an-unknown-protocol",
        GOOD + "ports: {a: {to: 80, protocol: tpc}}\n",
        "expected one of tcp, udp; got 'tpc'; did you mean 'tcp'?",
    ),
    ("a-duration-of-words", GOOD + "restart: {delay: soon}\n", "restart.delay: expected a duration such as 30s"),
    ("many-attempts", GOOD + "restart: {attempts: 1001}\n", "restart.attempts: must be at most 1000"),
    ("an-unknown-mode", GOOD + "restart: {mode: never}\n", "restart.mode: expected one of fail, delay"),
    (
        "an-unknown-signal",
        GOOD + "stop: {signal: SIGTREM}\n",
        "job.yaml:3:16: stop.signal: no such signal 'SIGTREM'; did you mean 'SIGTERM'?",
    ),
    ("a-day-of-stopping", GOOD + "stop: {timeout: 1d}\n", "stop.timeout: must be from 0 to 1h, not 86400000 ms"),
    (
        "an-unclear-constraint",
        GOOD + "constraints: ['zone ~ eu']\n",
        "constraints[0]: expected a constraint such as 'zone = eu'",
    ),
    ("a-comparison-with-words", GOOD + "constraints: ['cores > many']\n", "expected a number to compare with"),
    ("an-empty-env-value", GOOD + "env: {A: }\n", 'env.A: expected text, got nothing; write "" for empty text'),
    ("an-env-name-with-space", GOOD + "env: {'A B': x}\n", "env.A B: expected a name of letters"),
    ("our-own-env", GOOD + "env: {RAFTSMAN_NODE: x}\n", "are set by Raftsman itself"),
    ("env-as-list", GOOD + "env: [A=1]\n", "job.yaml:3:6: env: expected a mapping, got a list"),
    (
        "env-and-variable",
        GOOD + "env: {A: x}\nvariables: {A: y}\n",
        "job.yaml:4:16: variables.A: 'A' is set in 'env' too",
    ),
    ("a-bad-variable-name", GOOD + "variables: {A: ' '}\n", "variables.A: expected 1 to 254 letters"),
    ("an-image-with-spaces", "name: a\nimage: 'ngi nx'\n", "image: expected an image such as 'nginx:1.27'"),
    ("an-open-quote", 'name: a\ncommand: "sh -c \'x"\n', "command: cannot split this into words"),
    ("an-empty-command-word", "name: a\ncommand: ['']\n", "command[0]: must not be empty"),
    ("a-relative-volume", GOOD + "volumes: ['./a:/b']\n", "volumes[0].source: expected the name of a volume"),
    (
        "a-climbing-volume",
        GOOD + "volumes: ['/a/../b:/b']\n",
        "volumes[0].source: expected an absolute path without '..'",
    ),
    ("a-volume-mode", GOOD + "volumes: ['/a:/b:rx']\n", "volumes[0]: expected a volume such as"),
    ("a-user-beyond-all", GOOD + "user: '4294967295'\n", "user: expected a user such as '1000'"),
    ("a-group-beyond-all", GOOD + f"user: '0:{'9' * 60}'\n", "user: expected a user such as '1000'"),
    ("yes-is-not-true", GOOD + "privileged: yes\n", "privileged: expected true or false, got 'yes'"),
    ("process-with-image", GOOD + "driver: process\n", "driver: the process driver runs commands, not images"),
    ("docker-without-image", "name: a\ncommand: [ls]\ndriver: docker\n", "driver: the docker driver needs an image"),
    (
        "system-with-count",
        GOOD + "type: system\ncount: 3\n",
        "job.yaml:4:8: count: a system job runs once on every node",
    ),
    (
        "two-equal-groups",
        "name: a\ngroups:\n- {name: x, image: i}\n- {name: x, image: i}\n",
        "job.yaml:4:10: groups[1].name: group 'x' is there twice",
    ),
    (
        "two-equal-tasks",
        "name: a\ntasks:\n- {name: x, image: i}\n- {name: x, image: i}\n",
        "tasks[1].name: task 'x' is there twice",
    ),
    ("tasks-without-names", "name: a\ntasks:\n- {image: i}\n- {image: i}\n", "job.yaml:3:3: tasks[0].name: is missing"),
    (
        "image-beside-groups",
        "name: a\nimage: x\ngroups: {b: {image: i}}\n",
        "job.yaml:2:1: 'image' belongs to each group where 'groups' is used",
    ),
    ("image-beside-tasks", "name: a\nimage: x\ntasks: {b: {image: i}}\n", "job.yaml:2:1: 'image' belongs to each task"),
    (
        "gpus-in-two-tasks",
        "name: a\ntasks:\n  x: {image: i, resources: {gpus: 1}}\n  y: {image: i, resources: {gpus: 1}}\n",
        "job.yaml:4:35: tasks[1].resources.gpus: only one task of a group may ask for gpus, and 'x' does already",
    ),
    ("deep-nesting", "name: " + "[" * 5000, "nested deeper than 32"),
    ("an-alias-of-itself", "name: web\nenv: &a\n  X: *a\n", "contains itself"),
    ("an-unknown-alias", "name: *nobody\n", "job.yaml:1:7"),
]


@pytest.mark.parametrize(("text", "expected"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_a_bad_job_file_is_refused_with_its_place(text: str, expected: str) -> None:
    with pytest.raises(InvalidError) as caught:
        load(text)
    assert expected in caught.value.message
    assert all(line.startswith("job.yaml:") for line in caught.value.message.split("\n"))


def test_all_mistakes_are_told_at_once_in_order() -> None:
    with pytest.raises(InvalidError) as caught:
        load("name: A B\nimge: x\ncount: x\nresources:\n  cpu: 1q\n", "x.yaml")
    places = [line.split(": ")[0] for line in caught.value.message.split("\n")]
    assert places == ["x.yaml:1:7", "x.yaml:2:1", "x.yaml:3:8", "x.yaml:5:8"]


def test_a_file_over_the_limit_is_refused_unread() -> None:
    with pytest.raises(InvalidError, match="a job file has at most 1048576"):
        load("#" + "x" * 1024 * 1024)


def test_bytes_that_are_not_text_are_placed() -> None:
    with pytest.raises(InvalidError, match=r"job\.yaml:2:8: not UTF-8 text"):
        load(b"name: a\nimage: \xff\n")


def test_many_mistakes_are_cut() -> None:
    with pytest.raises(InvalidError) as caught:
        load("name: a\n" + "".join(f"qqqq{n}: 1\n" for n in range(100)))
    assert caught.value.message.endswith("job.yaml: and 80 more")


def test_billion_laughs_are_stopped() -> None:
    lines = ["name: a", "a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(InvalidError, match="aliases count each time"):
        load("\n".join(lines))
