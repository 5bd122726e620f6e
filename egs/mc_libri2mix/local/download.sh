#!/usr/bin/env bash
# Fetch from OpenSLR 12 the subsets of LibriSpeech that a folder lacks: resumed where an earlier try was cut off, compared
# with their MD5 sums, unpacked whole or not at all. An archive that lies there already is used; it is deleted in the end.
#   local/download.sh DIR [URL]
set -euo pipefail
root=${1%/} url=${2:-https://www.openslr.org/resources/12}
die() { echo "download.sh: error: $*" >&2; exit 2; }
fetch() { # SUBSET: its archive, whole and checked
  local archive=$root/$1.tar.gz sum
  [ ! -f "$archive" ] || return 0
  echo "$url/$1.tar.gz -> $archive"
  wget -nv -c --tries=5 --waitretry=5 -O "$archive.part" "$url/$1.tar.gz" ||
    die "$url/$1.tar.gz: not fetched (check network and URL, then run the same command again to go on)"
  sum=$(grep -E " [*]?(\./)?$1\.tar\.gz$" "$root/.md5sum.txt" | cut -c-32) ||
    die "$url/md5sum.txt: expected a line for $1.tar.gz, found none (check the URL)"
  echo "$sum  $archive.part" | md5sum -c --status - || {
    mv "$archive.part" "$archive.corrupt"
    die "$url/$1.tar.gz: expected the MD5 sum $sum, found another; kept as $archive.corrupt (delete it; run again)"
  }
  mv "$archive.part" "$archive"
}
unpack() { # SUBSET: whole or absent
  local archive=$root/$1.tar.gz aside=$root/.$1.unpacking
  rm -rf "$aside"; mkdir "$aside"
  if ! tar -xzf "$archive" -C "$aside" || [ ! -d "$aside/LibriSpeech/$1" ]; then
    rm -rf "$aside"
    die "$archive: expected LibriSpeech/$1 in it, found a damaged or another archive (delete it; run again)"
  fi
  find "$aside/LibriSpeech" -maxdepth 1 -type f -exec mv -n -t "$root" {} + # SPEAKERS.TXT ...
  mv "$aside/LibriSpeech/$1" "$root/$1"
  rm -rf "$aside" "$archive"
}
case ${root##*/} in train-clean-* | dev-clean | test-clean) die "$root: expected the folder to put ${root##*/} into (give the one above)" ;; esac
mkdir -p "$root"
for subset in train-clean-360 train-clean-100 dev-clean test-clean; do
  [ ! -d "$root/$subset" ] || continue
  [ -s "$root/.md5sum.txt" ] || wget -q --tries=3 -O "$root/.md5sum.txt" "$url/md5sum.txt" ||
    die "$url/md5sum.txt: expected a list of checksums, found none (check network and URL)"
  fetch "$subset"; unpack "$subset"
done
rm -f "$root/.md5sum.txt"
