#!/usr/bin/env bash
# Stand in for `apptainer exec --home FOLDER [--bind PATH]... IMAGE COMMAND...`: the command runs in IMAGE, a folder with a
# root file system (what Apptainer calls a sandbox), as root, in mount and process namespaces of its own, with FOLDER, /tmp
# and the bound paths of this machine and with the variables that IMAGE/environment.sh sets.
set -euo pipefail

binds=(/tmp)
while [ $# -gt 0 ]; do
  case $1 in
    --version) echo "apptainer version 1.3.0"; exit ;;
    --home) home=$2; binds+=("$2"); shift 2 ;;
    --bind) binds+=("$2"); shift 2 ;;
    exec | --quiet | --silent) shift ;;
    *) break ;;
  esac
done
image=$(realpath "$1")
shift

inside='
set -euo pipefail
image=$1 home=$2 count=$3
shift 3
mount --make-rprivate /
for path in "${@:1:count}"; do
  [ -d "$path" ] && mkdir -p "$image$path" || { mkdir -p "$image${path%/*}"; touch "$image$path"; }
  mount --rbind "$path" "$image$path"
done
shift "$count"
mount --rbind /dev "$image/dev"
mount -t proc proc "$image/proc"
exec chroot "$image" /bin/bash -c ". /environment.sh; cd \"\$0\"; export HOME=\"\$0\"; exec \"\$@\"" "$home" "$@"
'
exec unshare --mount --pid --fork --kill-child -- bash -c "$inside" bash "$image" "$home" "${#binds[@]}" "${binds[@]}" "$@"
