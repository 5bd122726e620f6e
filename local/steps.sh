# The commands that several stages of run.sh share. Sourced by run.sh, never run.
# shellcheck shell=bash disable=SC2086,SC2154
model=valid.loss.ave.pth

estimate() { # [--check]: what egs/mc_libri2mix is going to make, and whether it fits on the disk
  local read_from=()
  [ -z "$corpus_dir" ] || read_from=(--corpus_dir "$corpus_dir") # that of a download need not be there yet
  python3 local/estimate.py "${read_from[@]}" --fs "${fs:-8000}" \
    --mixtures train="$train_mixtures" labelled="$labelled_mixtures" dev="$dev_mixtures" test="$test_mixtures" \
    --channels "${channels:-4}" --on_the_fly "$on_the_fly" --bank "$bank_scenes" \
    --audio_format "$audio_format" --download "$download" --nj "$nj" --speech_utts "$speech_utts" \
    --asr_rooms "$([ -n "$asr_exp$asr_model" ] || echo "$asr_rooms")" --curve "$curve" --semi_shares "$semi_shares" --more_shares "$more_shares" \
    --joint "$joint" --unsupervised "$unsupervised" \
    --teacher_options "$teacher_options" --student_options "$student_options" \
    --full_options "$full_options" --finetune_options "$finetune_options" --small_options "$small_options" "$@"
}
fetch_corpus() { # before stage data looks at it: what that fetched itself would be a changed input of the next run
  [ "$download$first_stage$again" = true1 ] || return 0
  estimate --check
  python3 local/download_corpus.py --corpus_dir "$corpus_dir" ${download_url:+--base_url "$download_url"}
}
draw_scenes() { # FILE NUMBER SPEECH-SET [options]
  local file=$1 number=$2 from=$3
  shift 3
  python3 -m frontend simulate scenes --config conf/scenes.yaml ${changes:+--changes "$changes"} --speech "$speech/$from" \
    --num "$number" --prefix "$(basename "$file" .jsonl)" --seed "$seed" --out "$data/$file" "$@"
}
mixtures() { # SET NUMBER SPEECH-SET [options]: those of the corpus's own list, or drawn
  local set=$1 number=$2 from=$3
  shift 3
  if [ -f "$speech/$from/pairs" ] && [ "$set" != test_1spk ]; then
    set -- --pairs "$speech/$from/pairs" "$@"
  fi
  draw_scenes "scenes/$set.jsonl" "$number" "$from" ${channels:+--channels "$channels"} "$@"
}
simulate() { # SCENES SPEECH-SET SET [options]
  local scenes=$1 from=$2 set=$3
  shift 3
  python3 -m frontend simulate render --scenes "$data/$scenes" --speech "$speech/$from" --out "$data/$set" --nj "$nj" "$@"
}
at_rate() { # CONFIG: the options that make it one of --fs
  [ -z "$fs" ] || python3 "$root/local/at_rate.py" "$fs" "$1"
}
train() { # NAME CONFIG TRAINING-SET VALIDATION-SET [ESPnet options]
  local output=$exp/$1 config=conf/$2.yaml train_set=$3 valid_set=$4 rate
  rate=$(at_rate "$config")
  # On the fly, workers render the mixtures; a size may ask for more of them.
  [ -z "$bank" ] || [[ " $* " = *" --num_workers "* ]] || set -- "$@" --num_workers "$nj"
  [ -z "$talkers" ] || set -- "$@" --separator_conf num_spk="$([ "$2" = teacher ] && echo $((2 * most)) || echo "$most")"
  shift 4
  python3 -m frontend train separator --config "$config" --train_set "$train_set" --valid_set "$valid_set" \
    --output_dir "$output" --separator_conf n_mics="$mics" --preprocessor_conf array_symmetry="$symmetry" $rate \
    --seed "${train_seed:-$seed}" --ngpu "$ngpu" --num_threads "$nj" "$@"
}
keep_labels() { # SHARE NAME: of the labelled mixtures for training and validation, in {train,dev}_NAME
  local set
  for set in train dev; do
    python3 -m frontend data subset --data "$data/${set/train/$pool}" --out "$labels/${set}_$2" --share "$1" --seed "${train_seed:-$seed}"
  done
}
label() { # MODEL NAME CONFIG: the model's streams of the unlabelled sets become the targets in {train,dev}_NAME
  local set
  for set in train dev; do
    # --reference only scores the targets for the reader; nothing is chosen by it
    python3 -m frontend label --config "conf/$3.yaml" --model "$exp/$1" --data "$data/${set}_unlabelled" \
      --reference "$data/$set" --out "$labels/${set}_$2" --n_talkers "$most" --nj "$nj"
  done
}
train_asr() { # NAME TRAINING-SET VALIDATION-SET [ESPnet options]
  local output=$exp/$1 train_set=$data/$2 valid_set=$data/$3 rate
  rate=$(at_rate "conf/$asr_config.yaml")
  shift 3
  python3 -m frontend train recogniser --config "conf/$asr_config.yaml" --train_set "$train_set" --valid_set "$valid_set" \
    --output_dir "$output" --seed "$seed" --ngpu "$ngpu" --num_threads "$nj" --allow_unknown "${allow_unknown:-false}" \
    $rate $asr_options "$@"
}
separate() { # SET OUTPUT [options]
  local set=$1 output=$2
  shift 2
  python3 -m frontend separate --systems "$systems" --exp "$exp" --data "$set" --out "$output" \
    --n_talkers "$most" --nj "$nj" "$@"
}
recognise() { # OUTPUT SET RECOGNISER [options]: a set's streams, its true images and its dry speech
  local output=$1 set=$2
  shift 2
  python3 -m frontend decode --config conf/decode.yaml --systems "$systems" --exp "$exp" --data "$data/$set" \
    --separated "$exp/separated/$set" --speech "$speech/$set" --out "$output" --nj "$nj" --ngpu "$((ngpu > 0))" \
    $([ "$allow_unknown" != true ] || echo --allow_unknown) "$@"
}
percent() { awk -v share="$1" 'BEGIN { printf "%g", 100 * share }'; } # 0.05 -> 5
shown_configs() { # what the page shows: the files that were read, for any number of microphones
  local file mixed=()
  [[ $talkers != *-* ]] || mixed=(conf/*_mixed.yaml)
  for file in conf/*.yaml; do
    case $file in
      *_mixed.yaml | conf/asr* | conf/joint* | conf/conditions* | conf/meetings* | conf/scenes_noise*) ;;
      *) [[ " ${mixed[*]} " = *" ${file%.yaml}_mixed.yaml "* && $file != conf/systems.yaml ]] || echo "$file" ;;
    esac
  done
  [ -z "${mixed[*]}" ] || printf '%s\n' "${mixed[@]}"
  [ -z "$changes" ] || echo "$changes"
  echo "conf/$asr_config.yaml"
  [ "$joint" = false ] || echo conf/joint.yaml
  echo "conf/size_$size.sh"
}
counts_of() { # FAMILY: its experiments with scores, of any number of microphones
  local path
  for path in "exp/$1" "exp/$1"_*ch; do
    # espeak_3spk_2ch is of the family espeak_3spk, not of espeak.
    [[ ! $path =~ ^exp/"$1"(_[0-9]+ch)?$ || ! -d $path/scores ]] || echo "$path"
  done
}
other_counts() { # the experiments with other numbers of microphones; another training seed is compared with none
  [ -n "$again" ] || counts_of "$family" | grep -vx "$exp" || true
}
conditions() { # the test sets that --mismatch true makes
  python3 -c 'from frontend.simulation.conditions import MATCHED; from frontend.utils.files import read_settings
print(MATCHED, *read_settings("conf/conditions.yaml", "file of conditions"))'
}
there() { # those of the PATHS that are there
  local path
  for path in "$@"; do [ ! -e "$path" ] || echo "$path"; done
}
