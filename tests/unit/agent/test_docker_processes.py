"""What is read of a container's processes, and when they are not believed to be the container's."""

from __future__ import annotations

from pathlib import Path

from agent.drivers import docker_processes

CONTAINER = "c0ffee" * 10


def process(
    proc: Path, pid: int, *, command: bytes = b"sleep\0001\000", children: str = "", group: str = CONTAINER
) -> None:
    (proc / str(pid) / "task" / str(pid)).mkdir(parents=True)
    (proc / str(pid) / "cgroup").write_text(f"4:pids:/docker/{group}\n")
    (proc / str(pid) / "cmdline").write_bytes(command)
    (proc / str(pid) / "task" / str(pid) / "children").write_text(children)


def test_an_init_whose_command_is_not_executed_yet_is_one_command_and_then_two(tmp_path: Path) -> None:
    process(tmp_path, 10, command=b"init\000--\000sleep\000", children="11 ")
    process(tmp_path, 11, command=b"init\000--\000sleep\000")
    assert len(docker_processes.commands(10, tmp_path)) == 1
    (tmp_path / "11" / "cmdline").write_bytes(b"sleep\000")
    assert len(docker_processes.commands(10, tmp_path)) == 2


def test_a_dead_child_is_no_command_and_an_ended_container_has_none(tmp_path: Path) -> None:
    process(tmp_path, 10, command=b"init\000", children="11 12 ")
    process(tmp_path, 11, command=b"")
    assert docker_processes.commands(10, tmp_path) == {b"init\000"}
    assert docker_processes.commands(99, tmp_path) == set()


def test_a_number_means_nothing_where_another_process_has_it(tmp_path: Path) -> None:
    process(tmp_path, 10)
    process(tmp_path, 11, group="another")
    assert docker_processes.is_of(10, CONTAINER, tmp_path)
    assert not docker_processes.is_of(11, CONTAINER, tmp_path)
    assert not docker_processes.is_of(12, CONTAINER, tmp_path)
    assert not docker_processes.is_of(0, CONTAINER, tmp_path)
    assert not docker_processes.is_of(10, "", tmp_path)
