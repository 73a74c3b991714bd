#!/usr/bin/env bash
# What the full test run needs beside Python, installed where the machine lets us (Debian, root): a static busybox for
# images without a registry, Chromium for the status page, what drills hurt links and disks with. Where it cannot, the tests
# that need it say so and skip.
set -u
want=()
[ -x /bin/busybox ] || [ -x /usr/bin/busybox ] || want+=(busybox-static)
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || want+=(chromium)
command -v docker >/dev/null && docker info >/dev/null 2>&1 && { command -v debootstrap >/dev/null || want+=(debootstrap); }
# Administrators' tools are in sbin, which users do not always search.
has() { command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ] || [ -x "/sbin/$1" ]; }
has iptables || want+=(iptables)
has strace || want+=(strace)
has mkfs.ext4 || want+=(e2fsprogs)
{ has mount && has losetup; } || want+=(mount)
has_image() { docker image inspect "$1" || docker pull -q "$1"; }
image() { # before pytest collects: tests ask then whether the engine has it
  command -v docker >/dev/null && docker info >/dev/null 2>&1 && command -v busybox >/dev/null || return 0
  scripts/lib/test_image.sh >/dev/null || echo "test: could not make the engine's test image" >&2
  # Bases for the compose tests' images take minutes where no registry answers: they are made while other tests run. The
  # compose tests wait for these scripts, so they have no less priority than tests.
  if [ "$(id -u)" = 0 ]; then
    {
      has_image python:3.11-slim || scripts/make_base
      has_image docker:27-dind || scripts/make_dind_base
    } >/dev/null 2>&1 </dev/null &
  fi
}
if [ ${#want[@]} -eq 0 ]; then
  image
  exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "test: installing ${want[*]}" >&2
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${want[@]}"; } >/dev/null 2>&1 ||
    echo "test: could not install ${want[*]}" >&2
else
  echo "test: not installed: ${want[*]}" >&2
fi
image
exit 0
