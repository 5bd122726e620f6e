# Shared by the drivers: strict mode, log, option parsing, stages. Sourced, never run.
# shellcheck shell=bash
set -euo pipefail

log() { echo "$(date '+%H:%M:%S') $*"; }
# Pages show commands: of an absolute path, no names of somebody's home.
without_homes() { sed -E 's#(^| )/[^ ]*/#\1.../#g' <<<"$1"; }
die() { echo "${0##*/}: error: $*" >&2; exit 2; }

# The driver declares its options once, as `name=default  # what it means` between
# the lines "# options" and "# end of options"; help and parsing read them there.
# Those after a line "# internal" are for our own scripts: accepted, not shown.
options_block() { sed -n '/^# options/,/^# end of options/p' "$driver"; }
shown_options() { options_block | sed '/^# internal/,$d' | grep '^[a-z_]*='; }
names_of() { sed -n 's/^\([a-z_]*\)=.*/\1/p'; }
# The stages are the driver's lines `if stage NAME "sentence" ...`; their numbers are their order.
declared_stages() { sed -n 's/^if stage \([a-z_]*\) .*/\1/p' "$driver"; }

closest() { # WORD, candidates on standard input
  python3 -c 'import difflib, sys
close = difflib.get_close_matches(sys.argv[1], sys.stdin.read().split(), n=1)
print(f" (did you mean {close[0]}?)" if close else "", end="")' "$1"
}

print_help() {
  local line name
  awk 'NR > 1 { if (!/^#/) exit; if (!/shellcheck/) { sub(/^# ?/, ""); print } }' "$driver"
  printf '\noptions:\n'
  shown_options | while read -r line; do
    name=${line%%=*} # nothing is parsed yet: the values are the defaults
    printf '  %-32s%s\n' "--$name${!name:+ [${!name}]}" "${line#*# }"
  done
  printf '  %-32s%s\n' "--quick, --list, --help" "less of everything; the stages; this text"
}

print_stages() {
  local number=0
  sed -n 's/^if stage \([a-z_]*\) "\([^"]*\)".*/\1\t\2/p' "$driver" | while IFS=$'\t' read -r name sentence; do
    number=$((number + 1)); printf '%3d  %-10s %s\n' "$number" "$name" "$sentence"
  done
}

parse_options() {
  local argument name
  for argument in "$@"; do
    case $argument in --help | -h) print_help; exit 0 ;; esac
  done
  while [ $# -gt 0 ]; do
    case $1 in
      --list) print_stages; exit 0 ;;
      --quick) size=quick; shift ;;
      --*)
        name=${1#--}
        options_block | names_of | grep -qxF -- "$name" ||
          die "unknown option $1$( (shown_options | names_of; echo quick list help) | closest "$name"); --help lists them"
        [ $# -ge 2 ] || die "option $1 needs a value; --help lists them"
        printf -v "$name" %s "$2"; shift 2 ;;
      *) die "unexpected argument '$1': options start with --; --help lists them" ;;
    esac
  done
}

stage_number() { # NAME or N -> N
  local number
  case $1 in
    *[!0-9]*) number=$(declared_stages | grep -nxF -- "$1" | cut -d: -f1 || true) ;;
    *) number=$(declared_stages | awk -v n="$1" 'NR == n { print n }') ;;
  esac
  [ -n "$number" ] || die "unknown stage '$1'$(declared_stages | closest "$1"); --list shows them"
  echo "$number"
}

# stage NAME SENTENCE [what stage.py begin takes]
# is true if the stage is asked for and has something to do. It ends the stage before it.
# With a reason in $off, the stage is passed over. With a directory in $shared_in, experiments share its output:
# its record lies there, and no two make it at a time.
stage_at=0 stage_open='' stage_record='' off='' shared_in=''
stage() {
  local name=$1 sentence=$2 status=0 reason=$off place=$shared_in
  shift 2
  off='' shared_in=''
  end_stage
  stage_at=$((stage_at + 1))
  [ "$stage_at" -ge "$first_stage" ] && [ "$stage_at" -le "$last_stage" ] || return 1
  [ -z "$reason" ] || { log "stage $stage_at $name: off, $reason"; return 1; }
  [ -z "$place" ] || await "$place"
  python3 "$root/local/stage.py" begin "$name" --exp "$exp" ${place:+--record "$place/stages"} "$@" || status=$?
  case $status in
    0) log "stage $stage_at $name: $sentence"; stage_open=$name stage_record=${place:+$place/stages} ;;
    10) log "stage $stage_at $name: complete, nothing to do"; exec 7>&-; return 1 ;;
    *) exit "$status" ;;
  esac
}

end_stage() {
  # Called from `if stage`, where the shell does not stop at a failure by itself.
  [ -z "$stage_open" ] ||
    python3 "$root/local/stage.py" end "$stage_open" --exp "$exp" ${stage_record:+--record "$stage_record"} || exit 2
  stage_open='' stage_record=''
  exec 7>&- # what await holds
}

# What experiments share, one makes and the others wait for.
await() { # DIRECTORY
  mkdir -p "$1" || exit 2
  command -v flock >/dev/null || return 0
  exec 7>"$1/.lock"
  flock -n 7 || { log "waiting for another run, which makes what is shared in $1"; flock 7; }
}

# Two runs in one directory would overwrite each other. What a killed run left
# working still holds the lock.
lock() { # DIRECTORY
  command -v flock >/dev/null || return 0
  exec 9>"$1/.lock"
  # What was killed just now may need a moment to end.
  flock -w 10 9 || die "$1 is in use by another run (or by what a killed run left working); wait for it or stop it first"
}
