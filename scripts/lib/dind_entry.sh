#!/bin/sh
# The entrypoint of raftsman-dind: makes cgroups and sysctls usable for an engine inside a container, then becomes what it is told.
set -eu
cgroups=/sys/fs/cgroup
if [ -f "$cgroups/cgroup.controllers" ]; then
  # Version 2: a group with processes of its own cannot give controllers to groups below it, so move them down first.
  [ -w "$cgroups/cgroup.subtree_control" ] || mount -o remount,bind,rw "$cgroups"
  mkdir -p "$cgroups/engine"
  while read -r process; do
    echo "$process" >"$cgroups/engine/cgroup.procs" 2>/dev/null || true # it may have ended
  done <"$cgroups/cgroup.procs"
  for controller in $(cat "$cgroups/cgroup.controllers"); do
    echo "+$controller" >"$cgroups/cgroup.subtree_control"
  done
else
  # Version 1: without full privilege each controller is mounted read-only.
  for controller in "$cgroups" "$cgroups"/*; do
    if mountpoint -q "$controller"; then mount -o remount,bind,rw "$controller"; fi
  done
fi
# An engine forwards packets and sets up bridges.
if mountpoint -q /proc/sys; then mount -o remount,bind,rw /proc/sys; fi
# Pid files that a killed engine left behind: their numbers mean other processes now.
rm -f /var/run/docker.pid /var/run/docker/containerd/containerd.pid
exec "$@"
