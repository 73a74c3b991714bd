# Sourced by the scripts: makes .venv in the project's root when it is absent or older than the lock.
# `ensure_venv run` installs what running needs, `ensure_venv dev` also the checkers and test tools.
ensure_venv() {
  local kind=$1 lock stamp
  lock=requirements.lock
  [ "$kind" = dev ] && lock=requirements-dev.lock
  stamp=.venv/.installed-$kind
  if [ -f "$stamp" ] && cmp -s "$lock" "$stamp" && [ pyproject.toml -ot "$stamp" ]; then return 0; fi
  (
    # Two scripts may start at once on a fresh clone.
    flock 9
    if [ -f "$stamp" ] && cmp -s "$lock" "$stamp" && [ pyproject.toml -ot "$stamp" ]; then exit 0; fi
    if [ ! -x .venv/bin/python ]; then
      echo "raftsman: making .venv (once)" >&2
      "${PYTHON:-python3}" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        { echo "raftsman: Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11" >&2; exit 1; }
      "${PYTHON:-python3}" -m venv .venv
    fi
    echo "raftsman: installing pinned dependencies from $lock" >&2
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r "$lock"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
    # Also where PYTHONDONTWRITEBYTECODE is set: `raftsman ps` would compile its modules each time.
    .venv/bin/python -m compileall -q orchestrator agent raftsman
    cp "$lock" "$stamp"
  ) 9>.venv.lock
}
