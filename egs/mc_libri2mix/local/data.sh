#!/usr/bin/env bash
# LibriSpeech -> speech sets OUT/{train,labelled,dev,test}. From the recipe directory: local/data.sh --help
#
# With --download true the subsets that --corpus_dir lacks are fetched first: gone on with where an earlier try
# was cut off, compared with their MD5 sums, unpacked whole or not at all. An archive is deleted once it is
# unpacked; one that lies in the folder already is used.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PYTHONPATH="$here/../../..${PYTHONPATH:+:$PYTHONPATH}"

download=false corpus_dir='' base_url=https://www.openslr.org/resources/12
subsets=(train-clean-360 train-clean-100 dev-clean test-clean)
options=("$@")
for ((k = 0; k + 1 < $#; k++)); do
  case ${options[k]} in
    --download) download=${options[k + 1]} ;;
    --corpus_dir) corpus_dir=${options[k + 1]%/} ;;
    --base_url) base_url=${options[k + 1]} ;;
  esac
done

die() {
  echo "data.sh: error: $*" >&2
  exit 2
}

fetch() { # SUBSET: its archive, whole and checked, in --corpus_dir
  local archive=$corpus_dir/$1.tar.gz sum
  [ ! -f "$archive" ] || return 0
  echo "$base_url/$1.tar.gz -> $archive"
  wget -nv -c --tries=5 --waitretry=5 -O "$archive.part" "$base_url/$1.tar.gz" ||
    die "$base_url/$1.tar.gz: not fetched (check network and URL, then run the same command again to go on)"
  sum=$(grep -E " [*]?(\./)?$1\.tar\.gz$" "$corpus_dir/.md5sum.txt" | cut -c-32) ||
    die "$base_url/md5sum.txt: expected a line for $1.tar.gz, found none (check the URL)"
  echo "$sum  $archive.part" | md5sum -c --status - || {
    mv "$archive.part" "$archive.corrupt"
    die "$base_url/$1.tar.gz: expected the MD5 sum $sum, found another; kept as $archive.corrupt (delete it; run again)"
  }
  mv "$archive.part" "$archive"
}

unpack() { # SUBSET: --corpus_dir/SUBSET, whole or absent
  local archive=$corpus_dir/$1.tar.gz aside=$corpus_dir/.$1.unpacking
  rm -rf "$aside"
  mkdir "$aside"
  if ! tar -xzf "$archive" -C "$aside" || [ ! -d "$aside/LibriSpeech/$1" ]; then
    rm -rf "$aside"
    die "$archive: expected LibriSpeech/$1 in it, found a damaged or another archive (delete it; run again)"
  fi
  find "$aside/LibriSpeech" -maxdepth 1 -type f -exec mv -n -t "$corpus_dir" {} + # SPEAKERS.TXT ...
  mv "$aside/LibriSpeech/$1" "$corpus_dir/$1"
  rm -rf "$aside" "$archive"
}

if [ "$download" = true ] && [ -n "$corpus_dir" ]; then
  for subset in "${subsets[@]}"; do
    [ "${corpus_dir##*/}" != "$subset" ] || die "$corpus_dir: expected the folder to put $subset into (give the one above)"
  done
  mkdir -p "$corpus_dir"
  for subset in "${subsets[@]}"; do
    [ ! -d "$corpus_dir/$subset" ] || continue
    [ -s "$corpus_dir/.md5sum.txt" ] || wget -q --tries=3 -O "$corpus_dir/.md5sum.txt" "$base_url/md5sum.txt" ||
      die "$base_url/md5sum.txt: expected a list of checksums, found none (check network and URL)"
    fetch "$subset"
    unpack "$subset"
  done
  rm -f "$corpus_dir/.md5sum.txt"
fi
exec python "$here/libri_data.py" "$@"
