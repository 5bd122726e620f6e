#!/usr/bin/env bash
# From nothing to the table: speech, rooms, mixtures, MixIT teacher, pseudo-targets, PIT student,
# fine-tuning, distillation, baselines, recogniser, separation, scores, decoding, word errors, report.
#
#   ./run.sh                                   the embedded default, egs/mini
#   ./run.sh --quick                           the same stages on less; its numbers mean nothing
#   ./run.sh --corpus fsdd --corpus_dir DIR    real recorded digits instead of synthetic speech
#   ./run.sh --stage student --stop_stage score
#
# Every stage skips what is complete, goes on where it was cut off, and says so
# when its inputs have changed. Stages are named or numbered; --list shows them.

# Some options are several words, or none.
# shellcheck disable=SC2046,SC2086
driver=${BASH_SOURCE[0]}
root=$(cd "$(dirname "$driver")" && pwd)
driver=$root/run.sh

# options
recipe=egs/mini       # the recipe to run
corpus=espeak         # espeak (made here), fsdd or audiomnist (the latter two with --corpus_dir); recipes have their own
corpus_dir=           # where the corpus lies
fs=                   # Hz, 8000 or 16000, instead of conf/scenes.yaml's; not for the corpora of egs/mini
channels=             # microphones, instead of conf/scenes.yaml's; 1 adds the single-channel rows to the table
talkers=              # of a mixture, instead of two: 3 or 4, or 2-3 for either; as many outputs of the student
size=full             # full, half, quick or tiny: how much of everything, conf/size_*.sh
seed=0                # of every random draw
train_seed=           # of training and of the choice of labels, beside a finished run: its data and recogniser are used
unsupervised=false    # true: no true label trains anything but the recogniser; no row needs one
curve=false           # true: further shares of the labels are rows too, conf/size_*.sh names them
stage=1               # first stage, name or number
stop_stage=report     # last stage, name or number
nj=$(nproc)           # processes (data, separation, scores) or threads (training) at once
ngpu=0                # GPUs for training, and one of them for decoding
audio_format=wav      # of the simulated audio: wav, flac or flac.ark
asr_config=asr        # the recogniser to train: conf/NAME.yaml; asr_gpu is larger
asr_exp=              # a trained ESPnet recogniser, a directory, instead of stage asr
asr_model=            # one of espnet_model_zoo, by its tag (or a packed zip), instead of stage asr
asr_train_on=speech   # separated: a second recogniser, trained on the student's streams, has a column too
allow_unknown=        # true: count words that the recogniser has no token for as errors, instead of stopping
joint=false           # true: separator and recogniser are also fine-tuned together, a row of its own
mismatch=false        # true: test sets of other arrays and rooms, conf/conditions.yaml, and a page about them
on_the_fly=false      # true: training mixtures are rendered when they are read, from a bank of rooms; none is written
librispeech=          # egs/mc_libri2mix: the folder with train-clean-360, train-clean-100, dev-clean, test-clean
download=false        # egs/mc_libri2mix: true fetches what that folder lacks from openslr.org
librimix_metadata=    # egs/mc_libri2mix: LibriMix's CSV files, instead of drawing the pairs
noise_dir=            # egs/mc_libri2mix: recorded noise, such as wham_noise
dry_run=false         # egs/mc_libri2mix: true prints what would be made, its size and time, and ends
# internal
download_url=         # a mirror of openslr.org/resources/12
recipe_dir=           # set by the recipes' own run.sh
own_corpus=espeak     # whose kept page lies in the recipe's directory itself
own_size=full         # what the recipe does unless told otherwise
# end of options

# shellcheck source=local/common.sh
. "$root/local/common.sh"
parse_options "$@"
if [ -z "$recipe_dir" ]; then # called by a person: the recipe sets its variables and calls back
  if [ ! -x "$root/$recipe/run.sh" ] || [ "$root/$recipe/run.sh" -ef "$driver" ]; then
    die "no recipe '$recipe': expected $root/$recipe/run.sh"
  fi
  exec "$root/$recipe/run.sh" "$@"
fi

# shellcheck source=local/options.sh
. "$root/local/options.sh"
# shellcheck source=local/steps.sh
. "$root/local/steps.sh"
check_options
resolve_paths
cd "$recipe_dir"
set_paths
check_together
command=$(without_homes "$(shown_command)")
began=$SECONDS
bin=$("$root/local/install.sh" --extras mini)
export PATH="$bin:$PATH" PYTHONUNBUFFERED=1
if [ "$dry_run" = true ]; then estimate || exit 2; exit 0; fi
check_installed
mkdir -p "$exp" || exit 2
lock "$exp"
set_changes
given=${asr_exp:+--asr_exp $asr_exp}${asr_model:+--asr_model $asr_model}
[ -z "$given" ] || given=$(python3 "$root/local/recogniser_of.py" "${given%% *}" "${given#* }" "$([ -n "$fs" ] && echo "$changes" || echo conf/scenes.yaml)" conf/decode.yaml) || exit 2
python3 "$root/local/stage.py" note --exp "$exp" --param "command=$command" "seed=$seed" \
  "train_seed=${train_seed:-$seed}" "label_share=$small_share" "setup=$((SECONDS - began))"

[ "$mismatch" = false ] || python3 -m frontend simulate conditions --check --config conf/scenes.yaml ${changes:+--changes "$changes"} \
  --conditions conf/conditions.yaml --n_talkers "${talkers:-2}" ${channels:+--channels "$channels"}
shared=$([ -z "$again" ] || echo "those of $first are used")
fetch_corpus
off=$shared shared_in=$(dirname "$speech")
if stage data "speech of single talkers, talker-disjoint, with texts" --in local ${corpus_dir:+"$corpus_dir"} \
    ${librimix_metadata:+"$librimix_metadata"} ${noise_dir:+"$noise_dir"} --out "$speech" --param "corpus=$corpus" "seed=$seed" \
    "utterances=$speech_utts" ${librimix_metadata:+"metadata=$librimix_metadata"} \
    ${noise_dir:+"noise=$noise_dir" "noise_files=${noise_files:-}"}; then
  [ ! -f local/estimate.py ] || estimate --check
  local/data.sh --corpus "$corpus" ${corpus_dir:+--corpus_dir "$corpus_dir"} ${fs:+--fs "$fs"} --out "$speech" --seed "$seed" \
    --nj "$nj" $speech_utts ${librimix_metadata:+--librimix_metadata "$librimix_metadata"} \
    ${noise_dir:+--noise_dir "$noise_dir" --noise_files "$noise_files"}
fi

bank=$([ "$on_the_fly" = false ] || echo "--bank $bank_scenes")
off=$shared
if stage scenes "who stands where, in which room: text only" --in "$speech" conf/scenes.yaml $changes --out "$data/scenes" \
    --param "seed=$seed" "channels=$channels" ${talkers:+"talkers=$talkers"} \
    "mixtures=$train_mixtures $dev_mixtures $test_mixtures $single_mixtures${labelled_mixtures:+ $labelled_mixtures}" \
    ${bank:+"bank=$bank"}; then
  mixtures train "$train_mixtures" train ${talkers:+--talkers "$talkers"} $bank
  [ "$pool" = train ] || mixtures "$pool" "$labelled_mixtures" "$pool" ${talkers:+--talkers "$talkers"} $bank
  mixtures dev "$dev_mixtures" dev ${talkers:+--talkers "$talkers"}
  mixtures test "$test_mixtures" test --n_talkers "${talkers:-2}"
  mixtures test_1spk "$single_mixtures" test --n_talkers 1
fi

off=$shared
sets=$([ "$pool" = train ] || echo "$pool ")"train dev test test_1spk"
# The texts are of the speech, whose audio is rendered again where it changed.
if stage simulate "images, noise and mixtures of every scene" --in "$data/scenes" "$speech" --keep --out $(printf "$data/%s " $sets) \
    "$data"/{train,dev}_unlabelled --param "audio_format=$audio_format" ${bank:+"virtual=$on_the_fly"}; then
  for set in $sets; do
    if [ -n "$bank" ] && [[ $set != dev && $set != test* ]]; then # read by trainings alone: nothing is written
      simulate "scenes/$set.jsonl" "$set" "$set" --rir_cache "$data/rirs" --n_talkers "$most" --on_the_fly
      continue
    fi
    simulate "scenes/$set.jsonl" "${set%_1spk}" "$set" --rir_cache "$data/rirs" --n_talkers "$most" --audio_format "$audio_format"
    python3 -m frontend data check "$data/$set"
  done
  for set in train dev; do
    python3 -m frontend data subset --data "$data/$set" --out "$data/${set}_unlabelled" --share 1 --unlabelled --seed "$seed"
  done
fi

# What the array is, the scenes say; nothing spatial can be had from one microphone.
read -r mics symmetry few <<<"$(python3 "$root/local/array_of.py" "$data/scenes/train.jsonl")"
systems=conf/systems$few.yaml
# Where two or three talk, labels have to leave a target silent, and the student has to learn it.
kind=$few student=student
if [[ $talkers = *-* && -z $few ]]; then
  kind=_mixed systems=$exp/systems.yaml
  [ ! -f conf/student_mixed.yaml ] || student=student_mixed
  { grep -v '^oracle:' conf/systems.yaml; cat conf/systems_mixed.yaml; } >"$systems"
fi
rule=pseudo$kind

if stage teacher "MixIT on mixtures of unlabelled mixtures" --in conf/teacher.yaml "$data"/{train,dev} \
    --out "$exp/teacher" --param "options=$teacher_options"; then
  train teacher teacher "$data"/{train,dev}_unlabelled $teacher_options
fi

if stage pseudo "the teacher labels the unlabelled mixtures" --in "conf/$rule.yaml" "$data"/{train,dev} "$exp/teacher/$model" \
    --out "$labels"/{train,dev}_pseudo; then
  label teacher pseudo "$rule"
fi

if stage student "PIT on the teacher's labels" --in "conf/$student.yaml" "$labels"/{train,dev}_pseudo "$exp/teacher/$model" \
    --out "$exp/student" --param "options=$student_options"; then
  train student "$student" "$labels"/{train,dev}_pseudo $student_options
fi

unlabelled=$([ "$unsupervised" = false ] || echo "--unsupervised true uses no labels")
off=$unlabelled
if stage finetune "the student on the few true labels" --in "conf/$student.yaml" "$data"/{train,dev} "$exp/student/$model" \
    --out "$labels"/{train,dev}_small "$exp/student_ft" --param "options=$finetune_options" "small_share=$small_share"; then
  keep_labels "$small_share" small
  train student_ft "$student" "$labels"/{train,dev}_small --init_param "$exp/student/$model" $finetune_options
fi

off=$unlabelled
if stage distill "the fine-tuned student labels the mixtures for a fresh one" --in "conf/distill$kind.yaml" "conf/$student.yaml" \
    "$data"/{train,dev} "$labels"/{train,dev}_small "$exp/student_ft/$model" --out "$labels"/{train,dev}_distill \
    "$exp"/{distilled,distilled_ft} \
    --param "options=$student_options $finetune_options"; then
  label student_ft distill "distill$kind"
  train distilled "$student" "$labels"/{train,dev}_distill $student_options
  train distilled_ft "$student" "$labels"/{train,dev}_small --init_param "$exp/distilled/$model" $finetune_options
fi

off=$unlabelled
if stage baselines "supervised training on the few labels and on all" --in "conf/$student.yaml" \
    "$data"/{train,dev} "$labels"/{train,dev}_small --out "$exp"/supervised_{small,full} \
    --param "options=$full_options $small_options"; then
  train supervised_small "$student" "$labels"/{train,dev}_small $small_options
  train supervised_full "$student" "$data/$pool" "$data/dev" $full_options
fi

off=$([ "$curve" = true ] || echo "--curve true runs it")
if stage curve "fine-tuning, distillation and supervised training on other shares of the labels" --in "conf/distill$kind.yaml" \
    "conf/$student.yaml" "$data"/{train,dev} "$exp/student/$model" --out "$exp/curve" \
    --param "options=$student_options $full_options $finetune_options $small_options" "shares=$semi_shares $more_shares"; then
  for share in $semi_shares $more_shares; do
    at=$(percent "$share")
    keep_labels "$share" "$at"
    case " $semi_shares " in *" $share "*)
      train "curve/student_ft_$at" "$student" "$labels"/{train,dev}_"$at" --init_param "$exp/student/$model" $finetune_options
      label "curve/student_ft_$at" "distill_$at" "distill$kind"
      train "curve/distilled_$at" "$student" "$labels"/{train,dev}_distill_"$at" $student_options
      train "curve/distilled_ft_$at" "$student" "$labels"/{train,dev}_"$at" --init_param "$exp/curve/distilled_$at/$model" $finetune_options
      train "curve/supervised_$at" "$student" "$labels"/{train,dev}_"$at" $small_options ;;
    *) train "curve/supervised_$at" "$student" "$labels"/{train,dev}_"$at" $full_options ;;
    esac
  done
fi

off=$([ -z "$asr_exp$asr_model" ] || echo "another recogniser was given")$([ -z "$again" ] || echo "that of $first is used")
if stage asr "a recogniser of single talkers, in rooms of their own" --in "$speech"/{"$pool",dev} conf/scenes.yaml $changes \
    "conf/$asr_config.yaml" --out "$data/scenes_asr" "$data"/asr_{train,dev}{,_rooms1,_rooms2} "$exp/asr" \
    ${read_aloud:+"$data/read_aloud"} --param "seed=$seed" "options=$asr_options" "rooms=$asr_rooms" "audio_format=$audio_format" \
    "allow_unknown=$allow_unknown" ${read_aloud:+"read_aloud=$read_aloud"}; then
  aloud=()
  if [ -n "$read_aloud" ]; then
    python3 local/read_aloud.py --text "$speech/$pool/text" --num "$read_aloud" --out "$data/read_aloud" ${fs:+--fs "$fs"} \
      --seed "$seed" --nj "$nj"
    aloud=(--speech "$data/read_aloud/train")
  fi
  for set in train dev; do
    # One microphone, new rooms, each talker heard alone: nothing overlaps, and no mixture of a labelled set is heard.
    from=${set/train/$pool}
    for number in 1 2; do
      draw_scenes "scenes_asr/$set$number.jsonl" "$(cut -d' ' -f"$([ "$set" = train ] && echo 1 || echo 2)" <<<"$asr_rooms")" "$from" \
        --prefix "asr${number}_$set" --channels 1 --n_talkers "$number"
      simulate "scenes_asr/$set$number.jsonl" "$from" "asr_${set}_rooms$number" --audio_format "$audio_format"
    done
    python3 -m frontend data recogniser --speech "$speech/$from" "${aloud[@]}" --rooms "$data/asr_${set}_rooms1" \
      --rooms "$data/asr_${set}_rooms2" --out "$data/asr_$set"
    aloud=() # train comes first; what is validated on is real
  done
  train_asr asr asr_train asr_dev
fi
asr=${asr_exp:-$first/asr}
recogniser=(--asr "$asr") recogniser_files=()
[ -z "$asr_model" ] || recogniser=(--asr_model "$asr_model")
[ -n "$given" ] || recogniser_files=("$asr"/{config.yaml,"$model"})

off=$([ "$asr_train_on" = separated ] || echo "--asr_train_on separated runs it")
if stage retrain "a second recogniser, of the student's streams" --in "$systems" "conf/$asr_config.yaml" conf/decode.yaml \
    "$data"/{train,dev} "$labels"/{train,dev}_small "$speech"/{train,dev} "$exp"/{student,asr}/"$model" "$exp"/asr/{config.yaml,tokens.txt} \
    --param "options=$asr_options" "allow_unknown=$allow_unknown" \
    --out "$exp"/separated/{train,dev} "$exp"/decoded_{train,dev} "$data"/asr_{train,dev}_separated "$exp/asr_separated"; then
  for set in train dev; do
    separate "$data/$set" "$exp/separated/$set" --only student
    recognise "$exp/decoded_$set" "$set" --asr "$exp/asr" --only student
    # Label-free systems are judged by it too: it hears no mixture of the labelled set.
    python3 -m frontend data recogniser --separated --data "$data/$set" $([ "$pool" != train ] || echo "--without $labels/${set}_small") \
      --streams "$exp/separated/$set/student" --decoded "$exp/decoded_$set/student" --out "$data/asr_${set}_separated"
  done
  train_asr asr_separated asr_train_separated asr_dev_separated --token_list "$exp/asr/tokens.txt" --init_param "$exp/asr/$model"
fi

off=$([ "$joint" = true ] || echo "--joint true runs it")
if stage joint "separator and recogniser fine-tuned together on the few labels" --in conf/joint.yaml \
    "$labels"/{train,dev}_small "$exp"/{student_ft,asr}/{config.yaml,"$model"} --out "$exp/joint" \
    --param "options=$joint_options" "allow_unknown=$allow_unknown"; then
  python3 -m frontend train joint --config conf/joint.yaml --separator "$exp/student_ft" --asr "$exp/asr" \
    --train_set "$labels/train_small" --valid_set "$labels/dev_small" --output_dir "$exp/joint" \
    --seed "$seed" --ngpu "$ngpu" --num_threads "$nj" --allow_unknown "${allow_unknown:-false}" $joint_options
fi

if stage separate "the test sets by every system, trained or blind" --in "$systems" "$data"/{test,test_1spk} \
    "$exp"/{teacher,student}/"$model" \
    $([ -n "$unlabelled" ] || echo "$exp"/{student_ft,distilled,distilled_ft,supervised_small,supervised_full}/"$model") \
    $(there "$exp"/{joint,curve/*}/"$model") --keep --out "$exp"/separated/{test,test_1spk}; then
  for set in test test_1spk; do
    separate "$data/$set" "$exp/separated/$set" $([ "$set" = test ] || echo --models)
  done
fi

if stage score "SI-SNR, SDR, STOI, PESQ, over-separation" --in "$exp"/separated/{test,test_1spk} "$data"/{test,test_1spk} --keep --out "$exp/scores"; then
  quickly=() # what compares training seeds reads SI-SNR; PESQ and STOI take longer than all else
  [ -z "$again" ] || quickly=(--measures "")
  python3 -m frontend score --data "$data/test" --separated "$exp/separated/test" --single_data "$data/test_1spk" \
    --single_separated "$exp/separated/test_1spk" --out "$exp/scores" --nj "$nj" "${quickly[@]}"
fi

retrained=$([ "$asr_train_on" = speech ] || echo _separated)
if stage decode "streams, mixtures, true images and dry speech to words" --in "$systems" conf/decode.yaml "$exp/separated/test" \
    "$data/test" "$speech/test" "${recogniser_files[@]}" $(there "$exp"/joint/asr/{config.yaml,"$model"}) \
    ${retrained:+"$exp/asr_separated/$model"} --param "recogniser=$given" "allow_unknown=$allow_unknown" \
    --keep --out "$exp"/decoded ${retrained:+"$exp/decoded_separated"}; then
  recognise "$exp/decoded" test "${recogniser[@]}"
  [ -z "$retrained" ] || recognise "$exp/decoded_separated" test --asr "$exp/asr_separated" --shared
fi

if stage wer "cpWER of every system, with alignments" --in "$data/test" "$exp/decoded" ${retrained:+"$exp/decoded_separated"} \
    --keep --out "$exp/wer" ${retrained:+"$exp/wer_separated"}; then
  for which in "" $retrained; do
    python3 -m frontend wer --data "$data/test" --decoded "$exp/decoded$which" --out "$exp/wer$which" --seed "$seed" --nj "$nj"
  done
fi

off=$([ "$mismatch" = true ] || echo "--mismatch true runs it")
if stage conditions "test sets of other arrays, rooms and noise, by the student and AuxIVA" --in conf/{conditions,scenes}.yaml $changes \
    "$systems" "$speech/test" "$exp/student/$model" --param "seed=$seed" "num=$test_mixtures" "channels=$channels" \
    ${talkers:+"talkers=$talkers"} --keep --out "$data/conditions" "$exp/mismatch"; then
  python3 -m frontend simulate conditions --config conf/scenes.yaml ${changes:+--changes "$changes"} --conditions conf/conditions.yaml \
    --speech "$speech/test" --num "$test_mixtures" --seed "$seed" --n_talkers "${talkers:-2}" ${channels:+--channels "$channels"} \
    --out "$data/conditions" --rir_cache "$data/rirs" --nj "$nj" --audio_format "$audio_format"
  for name in $(conditions); do
    separate "$data/conditions/$name" "$exp/mismatch/$name/separated" --only "student,student+mvdr,student+iva+mask,auxiva"
    python3 -m frontend score --data "$data/conditions/$name" --separated "$exp/mismatch/$name/separated" \
      --out "$exp/mismatch/$name/scores" --measures "" --nj "$nj"
  done
fi

off=$([ "$mismatch" = true ] || echo "--mismatch true runs it")
others=$(other_counts)
if stage mismatch "what the student loses there, and with other numbers of microphones" --in conf/conditions.yaml "$systems" \
    $([ -n "$off" ] || printf "$exp/mismatch/%s/scores " $(conditions)) $(printf '%s/scores ' "$exp" $others) \
    --overwrite "$results"/{MISMATCH.md,mismatch.json}; then
  python3 -m frontend report --conditions conf/conditions.yaml --exp "$exp" --systems "$systems" --out "$results" \
    ${others:+$(printf -- '--microphones %s ' $others)}
fi

# All microphone counts that were run stand in one table.
tested=$([ -n "$again" ] || counts_of "$family")
tested=${tested:-$exp}
labelled=${tested//exp\//data\/} # where their pseudo-targets are
labelled=${labelled//\/scores/}
page=$(head -n 1 <<<"$tested")/report
configs=$(shown_configs)
if stage report "the table, and a page to listen to" --in $configs $(printf '%s/scores ' $tested) \
    $(there $(printf -- '%s/wer %s/wer_separated ' $tested $tested)) \
    --overwrite "$results"/{RESULTS.md,results.json,curves.png,cpwer_sisnri.png} "$page"; then
  python3 -m frontend report --systems "${systems/_1ch/}" --out "$results" $([[ $size != quick && $size != tiny ]] || echo --quick) \
    $(printf -- '--exp %s ' $tested) $(printf -- '--config %s ' $configs) --listen "$page" \
    $(there $(for set in $labelled; do echo "$set"/train_{pseudo,distill}/quality.json; done) | sed 's/^/--quality /')
elif [ "$last_stage" -ge "$stage_at" ]; then # complete: show what there is
  python3 -m frontend report --show "$results"
fi
end_stage
