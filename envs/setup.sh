#!/usr/bin/env bash
# Make .venv, this checkout's interpreter: a light environment over the packages of requirements.lock, which are installed
# once for all checkouts in a cached environment named by the lock's hash. Does nothing where both are there.
#
#   VIDEO_VAE_ENV_CACHE   where cached environments lie [~/.cache/video-vae]
#   PYTHON                the interpreter to build with [the first Python >= 3.11 in PATH]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

NEED_GB=10 # 7 stay
cache=${VIDEO_VAE_ENV_CACHE:-${XDG_CACHE_HOME:-${HOME:-$PWD}/.cache}/video-vae}
hash=$({ sha256sum requirements.lock 2>/dev/null || shasum -a 256 requirements.lock; } | cut -c1-16)
env=$cache/env-$hash
light="$(cat envs/link.py requirements.lock | cksum | tr -d ' ') $env $PWD"

say() { printf 'env: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
cached() { [ "$(cat "$env/.complete" 2>/dev/null)" = "$hash" ] && "$env/bin/python" -c '' 2>/dev/null; }
linked() { [ "$(cat .venv/.complete 2>/dev/null)" = "$light" ] && .venv/bin/python -c '' 2>/dev/null; }

find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' 2>/dev/null; then
      printf '%s' "$candidate"
      return
    fi
  done
  die "Python 3.11 or newer is needed, found $(python3 --version 2>/dev/null || echo none); install one, or name it: make env PYTHON=/path/to/python3.12"
}

check_disk() {
  local free_gb
  free_gb=$(df -Pk "$cache" | awk 'NR == 2 { print int($4 / 1048576) }')
  [ "$free_gb" -ge "$NEED_GB" ] ||
    die "$cache has $free_gb GB free, the packages need $NEED_GB GB; free some, or set VIDEO_VAE_ENV_CACHE to another disk"
}

pip_quiet() { PIP_USER=0 TMPDIR=$env/tmp "$env/bin/python" -m pip --disable-pip-version-check --no-input --no-cache-dir "$@"; }

check_registry() {
  awk '{ print } !/\\$/ { exit }' requirements.lock >"$env/tmp/first.txt"
  pip_quiet --retries 1 --timeout 20 download -q --no-deps --require-hashes -r "$env/tmp/first.txt" -d "$env/tmp/first" >"$env/pip.log" 2>&1 ||
    die "no package registry could be reached ($(grep -m1 '^ERROR' "$env/pip.log" || tail -n1 "$env/pip.log")); check the network, or set PIP_INDEX_URL to a mirror"
}

# Some machines make pip print thousands of warnings: its output goes to a file, a line now and then to the terminal.
install() {
  local total pip_pid shown=$SECONDS
  total=$(grep -c '^[A-Za-z0-9]' requirements.lock)
  pip_quiet install --progress-bar off --no-deps --require-hashes -r requirements.lock >"$env/pip.log" 2>&1 &
  pip_pid=$!
  trap 'kill "$pip_pid" 2>/dev/null || true' EXIT
  trap 'exit 130' INT TERM
  while kill -0 "$pip_pid" 2>/dev/null; do
    sleep 1
    if [ $((SECONDS - shown)) -ge 10 ]; then
      shown=$SECONDS
      if grep -q '^Installing collected packages' "$env/pip.log"; then
        say "$(find "$env"/lib*/python3*/site-packages -maxdepth 1 -name '*.dist-info' | wc -l) packages installed, $SECONDS s"
      else
        say "$(grep -c '^Collecting ' "$env/pip.log") of at most $total packages fetched, $SECONDS s"
      fi
    fi
  done
  trap - EXIT INT TERM
  wait "$pip_pid" || {
    grep '^ERROR' "$env/pip.log" | head -n 3 >&2 || true
    die "pip failed; all it said is in $env/pip.log"
  }
}

build() {
  local python
  python=$(find_python)
  "$python" -c 'import ensurepip, venv' 2>/dev/null ||
    die "$python lacks the venv module; install it (Debian: apt-get install python3-venv)"
  rm -rf "$env" # half-built: a finished one has its stamp
  check_disk
  say "installing the packages of requirements.lock into $env (once, some minutes)"
  "$python" -m venv "$env" || die "$python cannot make an environment in $env"
  mkdir -p "$env/tmp"
  check_registry
  install
  rm -rf "$env/tmp"
  "$env/bin/python" -c 'import snakemake, torch, torchvision' || die "the installed packages do not import; remove $env and try again"
  printf '%s' "$hash" >"$env/.complete"
  say "done in $SECONDS s"
}

if ! cached; then
  mkdir -p "$cache" 2>/dev/null && [ -w "$cache" ] ||
    die "$cache cannot be written; set VIDEO_VAE_ENV_CACHE to a folder on a disk with $NEED_GB GB free"
  if command -v flock >/dev/null; then
    exec 9>"$cache/env-$hash.lock"
    flock -n 9 || { say "another process installs the same packages, waiting for it"; flock 9; }
  fi
  cached || build 9>&-
fi
if ! linked; then
  [ -L .venv ] || [ ! -e .venv ] || [ -f .venv/.complete ] ||
    die "$PWD/.venv was not made by make env; move it away"
  exec 8<envs/link.py
  ! command -v flock >/dev/null || flock 8
  linked || "$env/bin/python" envs/link.py "$PWD" "$light" 8<&-
fi
