#!/usr/bin/env bash
# Makes jaxinv's environment on first use, then runs an experiment or the tests in it.
#
# An environment is complete once it holds the stamp, written last: a checksum of pyproject.toml,
# the checkout's path and the extras installed. All that is said here goes to stderr; stdout
# belongs to the experiment. Exit status 1: the set-up failed; 2: a wrong argument.
# Runs with bash 3.2 (macOS) and later.
set -euo pipefail

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
say() { printf 'jaxinv: %s\n' "$*" >&2; }
die() { # exit status, message
  local status=$1
  shift
  say "$*"
  exit "$status"
}

venv=${JAXINV_VENV:-$root/.venv}
case $venv in # a shell leaves a ~ in quotes to us
  '~' | '~/'*)
    [[ -n ${HOME:-} ]] || die 2 "JAXINV_VENV=$venv: ~ is the home folder, and HOME is not set"
    venv=$HOME${venv#'~'}
    ;;
  '~'*) die 2 "JAXINV_VENV=$venv: expected a path; of a home folder, ~/ alone" ;;
esac
[[ $venv == /* ]] || venv=$PWD/$venv
venv=${venv%/}
python=$venv/bin/python
stamp=$venv/jaxinv-stamp
ours=$venv/jaxinv-made # this script made the environment and so may remake it
lock=$venv.lock
me=$HOSTNAME:$$
log=
child=

# --- what there is to run ------------------------------------------------------------------------

experiments() { # their names on one line
  local file names=
  for file in "$root"/experiments/[!_]*.py; do
    [[ -e $file ]] || continue
    file=${file##*/}
    names+=" ${file%.py}"
  done
  printf '%s' "${names# }"
}

summary() { # the first line of the docstring of experiment $1
  awk '/^r?"""/ { sub(/^r?"""/, ""); sub(/""".*/, ""); print; exit }' "$root/experiments/$1.py"
}

help() {
  local name
  printf 'Usage: ./launch.sh EXPERIMENT [flags] | sweep EXPERIMENT [flags] | setup |'
  printf ' test [pytest arguments] | help\n'
  printf '\nExperiments (./launch.sh EXPERIMENT --help lists the flags of one):\n'
  for name in $(experiments); do printf '  %-14s %s\n' "$name" "$(summary "$name")"; done
  cat <<'TEXT'

Other verbs:
  sweep          run an experiment for all combinations of values that its flags are given with
                 commas between, as in ./launch.sh sweep whitebox --split=all --seed=0,1,2; the same
                 command goes on after a kill (./launch.sh sweep --help tells all)
  setup          make the environment and run nothing
  test           run the tests, from the checkout's folder; with --all the slow ones, too
  help           this text

Environment variables:
  JAXINV_VENV    folder of the environment (default: .venv beside launch.sh)
  JAXINV_EXTRAS  extras to install, as in cuda,prepare; empty for none (default: cuda or tpu
                 where there is such a device)
  PYTHON         the Python to make the environment with (3.11 or later)
  JAXINV_CACHE   folder for decoded datasets (default: the user's cache folder)
  TFDS_DATA_DIR  folder with prepared TensorFlow datasets

Environment variables of sweeps:
  JOBS           runs at once (default: one on each core, with NVIDIA GPUs one on two
                 cores, as far as there is memory)
  EXECUTOR       local (default), or slurm: one job array, a task for each run
  PARTITION, TIME, GPUS, SBATCH_OPTIONS
                 of SLURM's jobs: partition, time limit, GPUs of each run, more options of sbatch
TEXT
}

# --- what the environment should hold ------------------------------------------------------------

wanted_extras() { # a list as in cuda,test; $1 is one that the caller needs, or empty
  local extras=
  if [[ -n ${JAXINV_EXTRAS+given} ]]; then
    extras=$JAXINV_EXTRAS
  elif [[ $(stamped_extras) == *,cuda,* ]] || nvidia-smi -L >/dev/null 2>&1; then
    extras=cuda # the stamp is asked first, for nvidia-smi can take seconds
  elif [[ -n ${TPU_NAME:-} || -e /dev/accel0 ]]; then
    extras=tpu
  fi
  extras+=,${1:-}
  extras=${extras#,}
  printf '%s' "${extras%,}"
}

check_extras() { # pip only warns of an unknown extra, and the device would go unused
  local extra known
  known=$(awk '/^\[/ { inside = /^\[project.optional-dependencies\]/ }
    inside && / = \[/ { printf " %s", $1 }' "$root/pyproject.toml")
  for extra in ${1//,/ }; do
    [[ "$known " == *" $extra "* ]] ||
      die 2 "JAXINV_EXTRAS: there is no extra '$extra'; allowed are$known"
  done
}

source_id() { printf '%s %s' "$(cksum <"$root/pyproject.toml")" "$root"; }

stamped_extras() { # as ,cuda,test, or nothing
  if [[ -e $stamp ]]; then sed -n 2p "$stamp"; fi
}

is_complete() { # whether the environment holds this checkout with the extras $1
  local extra stamped
  [[ -x $python && -e $stamp ]] || return 1
  stamped=$(<"$stamp")
  [[ $stamped == "$(source_id)"$'\n'* ]] || return 1
  for extra in ${1//,/ }; do
    [[ $stamped == *,"$extra",* ]] || return 1
  done
}

is_active() { # whether the `python` on the PATH has this checkout and the modules $@ already
  [[ -z ${JAXINV_VENV:-} && ! -e $venv ]] || return 1
  python -P -c '
import importlib.util, os, sys
init, *modules = sys.argv[1:]
specs = [importlib.util.find_spec(name) for name in ["jaxinv", "jax", "flax", *modules]]
sys.exit(not (all(specs) and os.path.realpath(specs[0].origin) == init))
' "$root/jaxinv/__init__.py" "$@" >/dev/null 2>&1
}

# --- making it -----------------------------------------------------------------------------------

clean_up() {
  [[ $(readlink "$lock") != "$me" ]] || rm -f "$lock"
  [[ -z $log ]] || rm -f "$log"
}

interrupted() { # exit status
  if [[ -n $child ]]; then
    kill "$child" 2>/dev/null || true
    wait "$child" || true
  fi
  exit "$1"
}

is_dead() { # whether the lock's holder $1 is gone; only this machine's processes can be asked
  [[ $1 == "$me" ]] || { [[ $1 == "$HOSTNAME":* ]] && ! kill -0 "${1##*:}" 2>/dev/null; }
}

cannot_write() { die 1 "cannot write to $(dirname "$venv"): set JAXINV_VENV to a folder elsewhere"; }

take_lock() { # a symbolic link, because it appears in one step with its content: the holder
  local holder waited=0
  # The second look: another start may have seen the same dead holder and removed our lock for it.
  until ln -s "$me" "$lock" 2>/dev/null && sleep 0.3 && [[ $(readlink "$lock") == "$me" ]]; do
    holder=$(readlink "$lock" || true)
    if is_dead "$holder"; then
      rm -f "$lock"
      continue
    fi
    ((waited < 3)) || [[ -n $holder ]] || cannot_write
    [[ -z $holder ]] || ((waited != 1)) || say "waiting for the set-up by $holder (if there is none, remove $lock)"
    waited=$((waited + 1))
    sleep 0.5
  done
}

new_log() { # where TMPDIR cannot be used, in the folder that all systems have
  local folder
  for folder in "${TMPDIR:-/tmp}" /tmp; do
    log=$(mktemp "${folder%/}/jaxinv-setup.XXXXXX" 2>/dev/null) || continue
    [[ $folder == "${TMPDIR:-/tmp}" ]] || unset TMPDIR # installers heed it, too
    return 0
  done
  die 1 "no file can be made in ${TMPDIR:+TMPDIR=$TMPDIR, nor in }/tmp: set TMPDIR to a folder that can be written"
}

logged() { # runs a command in the background, so that a signal is acted on at once
  local status=0
  "$@" >>"$log" 2>&1 &
  child=$!
  wait "$child" || status=$?
  child=
  return "$status"
}

failed() { # message
  local kept=$log
  log=
  tail -n 20 "$kept" >&2
  die 1 "$1 (see above; all of its output: $kept)"
}

find_python() {
  local candidate
  for candidate in "${PYTHON:-python3}" python3 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
      printf '%s' "$candidate"
      return
    fi
  done
  die 1 'no Python 3.11 or later was found: install one (Debian: apt install python3 python3-venv;' \
    'macOS: brew install python) or name it, PYTHON=/path/to/python'
}

create() { # a new environment at $venv; nothing is left of one that fails
  local base
  mkdir -p "$venv"
  : >"$ours"
  if command -v uv >/dev/null; then
    logged uv venv --allow-existing --python "${PYTHON:->=3.11}" "$venv" && return
    rm -rf "$venv"
    failed 'uv could not make an environment'
  fi
  base=$(find_python) || { rm -rf "$venv" && exit 1; }
  logged "$base" -m venv "$venv" && return
  rm -rf "$venv"
  "$base" -c 'import ensurepip' 2>/dev/null ||
    die 1 "$base cannot make environments: apt install python3-venv (or that of its version)"
  failed "$base -m venv could not make an environment"
}

prepare_folder() { # makes $venv a usable environment: the one there is, or a new one
  if [[ -e $ours && ! (-e $stamp && -x $python) ]]; then rm -rf "$venv"; fi # was interrupted
  [[ ! -x $python ]] || return 0
  [[ ! -e $venv || -z $(ls -A "$venv" 2>&1) ]] ||
    die 1 "$venv is no Python environment: remove it or set JAXINV_VENV to another folder"
  create
}

install() { # extras
  local installer=("$python" -m pip install)
  if command -v uv >/dev/null; then installer=(uv pip install --python "$python"); fi
  logged "${installer[@]}" -e "$root${1:+[$1]}" || failed 'the installation failed'
}

set_up() { # extras
  local extras=$1
  mkdir -p "$(dirname "$venv")" 2>/dev/null || cannot_write
  take_lock
  if is_complete "$extras"; then return; fi # another start has made it meanwhile
  new_log
  say "setting up $venv${extras:+ with $extras}; this can take some minutes the first time"
  extras=$(tr -sc '[:alnum:]_-' '\n' <<<"$extras,$(stamped_extras)" | sort -u | paste -s -d , -)
  extras=${extras#,}
  prepare_folder
  rm -f "$stamp"
  install "$extras"
  printf '%s\n,%s,\n' "$(source_id)" "$extras" >"$stamp.new"
  mv -f "$stamp.new" "$stamp"
  say "set up in $SECONDS s"
}

ensure_environment() { # an extra that the caller needs, or empty; modules that stand for it
  local extras extra=$1
  shift
  if is_active "$@"; then
    python=python
    return
  fi
  extras=$(wanted_extras "$extra")
  if is_complete "$extras"; then return; fi
  check_extras "$extras"
  trap clean_up EXIT
  trap 'interrupted 129' HUP
  trap 'interrupted 130' INT
  trap 'interrupted 143' TERM
  set_up "$extras"
  clean_up
  trap - EXIT HUP INT TERM
}

# --- the verbs -----------------------------------------------------------------------------------

check_experiment() { # name
  [[ " $(experiments) " == *" $1 "* ]] ||
    die 2 "there is no experiment '$1'; there are: $(experiments)"
}

run_experiment() { # name, flags
  local name=$1
  shift
  check_experiment "$name"
  ensure_environment ''
  exec "$python" "$root/experiments/$name.py" "$@"
}

run_sweep() { # experiment, flags
  [[ ${1:--} == -* ]] || check_experiment "$1" # before an environment is made for nothing
  ensure_environment ''
  exec "$python" -P -m jaxinv.sweeps "$@"
}

run_tests() { # pytest arguments
  ensure_environment test pytest skimage xdist
  cd -- "$root"
  # A process for each core, but no more than memory has room for. The tests of a file share what is
  # expensive, so they stay together, in the order of tests/conftest.py. Arguments that are given come
  # later and win: -n 0 is one.
  exec "$python" -m pytest -n logical --maxprocesses=4 --dist=loadfile --no-loadscope-reorder "$@"
}

verb=${1:-help}
shift $(($# ? 1 : 0))
case $verb in
  setup)
    ensure_environment ''
    say "the environment is ready: $python"
    ;;
  sweep) run_sweep "$@" ;;
  test) run_tests "$@" ;;
  help | -h | --help) help ;;
  *) run_experiment "$verb" "$@" ;;
esac
