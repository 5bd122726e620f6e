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
corpus=espeak         # espeak (made here), fsdd or audiomnist (the latter two with --corpus_dir)
corpus_dir=           # where the corpus lies
channels=             # microphones, instead of conf/scenes.yaml's; 1 adds the single-channel rows to the table
size=full             # full, quick or tiny: how much of everything, conf/size_*.sh
seed=0                # of every random draw
train_seed=           # of training and of the choice of labels, beside a finished run: its data and recogniser are used
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
# internal
recipe_dir=           # set by the recipes' own run.sh
own_corpus=espeak     # whose kept page lies in the recipe's directory itself
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

# Everything that can be wrong with the options is said before anything is written.
first_stage=$(stage_number "$stage")
last_stage=$(stage_number "$stop_stage")
[ "$first_stage" -le "$last_stage" ] || die "--stage $stage comes after --stop_stage $stop_stage"
[ -f "$recipe_dir/conf/size_$size.sh" ] || die "unknown size '$size': expected $recipe_dir/conf/size_$size.sh"
[[ $channels =~ ^([1-9][0-9]*)?$ ]] || die "--channels $channels: expected a number of microphones"
[[ $nj =~ ^[1-9][0-9]*$ ]] || die "--nj $nj: expected a number of processes"
[[ $seed =~ ^[0-9]+$ ]] || die "--seed $seed: expected a number"
[[ $train_seed =~ ^[0-9]*$ ]] || die "--train_seed $train_seed: expected a number"
[[ $curve =~ ^(true|false)$ ]] || die "--curve $curve: expected true or false"
[[ $audio_format =~ ^(wav|flac|flac\.ark)$ ]] || die "--audio_format $audio_format: expected wav, flac or flac.ark"
[[ $asr_train_on =~ ^(speech|separated)$ ]] || die "--asr_train_on $asr_train_on: expected speech or separated"
[[ $joint =~ ^(true|false)$ ]] || die "--joint $joint: expected true or false"
[[ $allow_unknown =~ ^(true|false)?$ ]] || die "--allow_unknown $allow_unknown: expected true or false"
[ -f "$recipe_dir/conf/$asr_config.yaml" ] || die "unknown --asr_config '$asr_config': expected $recipe_dir/conf/$asr_config.yaml"
[ -z "$asr_exp" ] || [ -z "$asr_model" ] || die "--asr_exp and --asr_model: give one of them"
command="./run.sh$([ "$recipe" = egs/mini ] || echo " --recipe $recipe")"
[ "$corpus" = espeak ] || command+=" --corpus $corpus${corpus_dir:+ --corpus_dir $corpus_dir}"
command+="${channels:+ --channels $channels}$([ "$size" = full ] || echo " --size $size")"
command+="$([ "$seed" = 0 ] || echo " --seed $seed")${train_seed:+ --train_seed $train_seed}"
command+="$([ "$asr_config" = asr ] || echo " --asr_config $asr_config")"
command+="${asr_exp:+ --asr_exp $asr_exp}${asr_model:+ --asr_model $asr_model}${allow_unknown:+ --allow_unknown $allow_unknown}"
if [ -n "$corpus_dir" ]; then
  [ -d "$corpus_dir" ] || die "--corpus_dir $corpus_dir: no such directory; expected the folder of the corpus"
  corpus_dir=$(cd "$corpus_dir" && pwd)
fi
if [ -n "$asr_exp" ]; then
  [ -d "$asr_exp" ] || die "--asr_exp $asr_exp: no such directory; expected the output directory of an ESPnet recogniser's training"
  asr_exp=$(realpath --relative-to="$recipe_dir" "$asr_exp") # the page shows it: no names of somebody's home
fi
[ ! -f "$asr_model" ] || asr_model=$(realpath --relative-to="$recipe_dir" "$asr_model")
cd "$recipe_dir"

# Where everything lies: speech is shared by all microphone counts.
base=$corpus$([ "$size" = full ] || echo "_$size")$([ "$seed" = 0 ] || echo "_seed$seed")
name=$base${channels:+_${channels}ch}
speech=data/$base/speech data=data/$name first=exp/$name
# Runs of other training seeds share the data and the recogniser of the first.
again=${train_seed:+_train$train_seed}
labels=$data$again exp=$first$again
# shellcheck source=egs/mini/conf/size_full.sh
. "conf/size_$size.sh"
# Only runs of seed 0 in a size that says so write the page that is kept; the real corpora have one each.
results=exp/$base$again
[ "${kept_page:-false}$seed$again" != true0 ] || results=$([ "$corpus" = "$own_corpus" ] && echo . || echo "$corpus")
# What was once asked for stays in the table and is kept up to date; removing it ends that.
[ ! -d "$exp/joint" ] || joint=true
[ ! -d "$exp/asr_separated" ] || asr_train_on=separated
[ ! -d "$exp/curve" ] || curve=true
if [ "$joint$asr_train_on" != falsespeech ] && [ -n "$asr_exp$asr_model" ]; then
  die "--joint true and --asr_train_on separated start from the recogniser of stage asr: leave --asr_exp and --asr_model out" \
    "(or remove $recipe_dir/$exp/joint and asr_separated of an earlier run)"
fi
if [ -n "$again" ]; then
  [ -z "$asr_exp$asr_model" ] || die "--train_seed takes the recogniser of $first: leave --asr_exp and --asr_model out"
  [ "$joint$asr_train_on" = falsespeech ] || die "--train_seed goes without --joint true and --asr_train_on separated"
  for path in "$data"/{train,test}/wav.scp "$first/asr/config.yaml"; do
    [ -e "$path" ] || die "--train_seed $train_seed: $recipe_dir/$path is not there; run the same command without --train_seed first"
  done
fi
command+="$([ "$curve" = false ] || echo " --curve true")"
command+="$([ "$asr_train_on" = speech ] || echo " --asr_train_on $asr_train_on")$([ "$joint" = false ] || echo " --joint $joint")"
mkdir -p "$exp" || exit 2
lock "$exp"
began=$SECONDS
bin=$("$root/local/install.sh" --extras mini)
export PATH="$bin:$PATH" PYTHONUNBUFFERED=1
given=${asr_exp:+--asr_exp $asr_exp}${asr_model:+--asr_model $asr_model}
[ -z "$given" ] || given=$(python3 "$root/local/recogniser_of.py" "${given%% *}" "${given#* }" conf/{scenes,decode}.yaml) || exit 2
python3 "$root/local/stage.py" note --exp "$exp" --param "command=$command" "seed=$seed" \
  "label_share=$small_share" "setup=$((SECONDS - began))"

train() { # NAME CONFIG TRAINING-SET VALIDATION-SET [ESPnet options]
  local output=$exp/$1 config=conf/$2.yaml train_set=$3 valid_set=$4
  shift 4
  python3 -m frontend.bin.enh_train --config "$config" --train_set "$train_set" --valid_set "$valid_set" \
    --output_dir "$output" --separator_conf n_mics="$mics" --preprocessor_conf array_symmetry="$symmetry" \
    --seed "${train_seed:-$seed}" --ngpu "$ngpu" --num_threads "$nj" "$@"
}
keep_labels() { # SHARE NAME: of the labelled mixtures of train and dev, in {train,dev}_NAME
  for set in train dev; do
    python3 -m frontend.bin.subset --data "$data/$set" --out "$labels/${set}_$2" --share "$1" --seed "${train_seed:-$seed}"
  done
}
label() { # MODEL NAME CONFIG: the model's streams of the unlabelled sets become the targets in {train,dev}_NAME
  for set in train dev; do
    # --reference only scores the targets for the reader; nothing is chosen by it
    python3 -m frontend.bin.pseudo_targets --config "conf/$3.yaml" --model "$exp/$1" --data "$data/${set}_unlabelled" \
      --reference "$data/$set" --out "$labels/${set}_$2" --nj "$nj"
  done
}
train_asr() { # NAME TRAINING-SET VALIDATION-SET [ESPnet options]
  local output=$exp/$1 train_set=$data/$2 valid_set=$data/$3
  shift 3
  python3 -m frontend.bin.asr_train --config "conf/$asr_config.yaml" --train_set "$train_set" --valid_set "$valid_set" \
    --output_dir "$output" --seed "$seed" --ngpu "$ngpu" --num_threads "$nj" --allow_unknown "${allow_unknown:-false}" \
    $asr_options "$@"
}
recognise() { # OUTPUT SET RECOGNISER [options]: a set's streams, its true images and its dry speech
  local output=$1 set=$2
  shift 2
  python3 -m frontend.bin.decode --config conf/decode.yaml --systems "$systems" --exp "$exp" --data "$data/$set" \
    --separated "$exp/separated/$set" --speech "$speech/$set" --out "$output" --nj "$nj" --ngpu "$((ngpu > 0))" \
    $([ "$allow_unknown" != true ] || echo --allow_unknown) "$@"
}
percent() { awk -v share="$1" 'BEGIN { printf "%g", 100 * share }'; } # 0.05 -> 5
there() { # those of the PATHS that are there
  local path
  for path in "$@"; do [ ! -e "$path" ] || echo "$path"; done
}
model=valid.loss.ave.pth

shared=$([ -z "$again" ] || echo "those of $first are used")
off=$shared
if stage data "speech of single talkers, talker-disjoint, with texts" --in local ${corpus_dir:+"$corpus_dir"} --out "$speech" \
    --param "corpus=$corpus" "seed=$seed" "utterances=$speech_utts"; then
  local/data.sh --corpus "$corpus" ${corpus_dir:+--corpus_dir "$corpus_dir"} --out "$speech" --seed "$seed" --nj "$nj" \
    $speech_utts
fi

off=$shared
if stage scenes "who stands where, in which room: text only" --in "$speech" conf/scenes.yaml --out "$data/scenes" \
    --param "seed=$seed" "channels=$channels" "mixtures=$train_mixtures $dev_mixtures $test_mixtures $single_mixtures"; then
  scenes() { # SET NUMBER SPEECH [options]
    local set=$1 number=$2 from=$3; shift 3
    python3 -m frontend.bin.scenes --config conf/scenes.yaml --speech "$speech/$from" --num "$number" --prefix "$set" \
      --seed "$seed" ${channels:+--channels "$channels"} --out "$data/scenes/$set.jsonl" "$@"
  }
  scenes train "$train_mixtures" train
  scenes dev "$dev_mixtures" dev
  scenes test "$test_mixtures" test --n_talkers 2
  scenes test_1spk "$single_mixtures" test --n_talkers 1
fi

off=$shared
if stage simulate "images, noise and mixtures of every scene" --in "$data/scenes" --out "$data"/{train,dev,test,test_1spk} \
    "$data"/{train,dev}_unlabelled --param "audio_format=$audio_format"; then
  for set in train dev test test_1spk; do
    python3 -m frontend.bin.simulate --scenes "$data/scenes/$set.jsonl" --speech "$speech/${set%_1spk}" \
      --out "$data/$set" --rir_cache "$data/rirs" --nj "$nj" --audio_format "$audio_format"
    python3 -m frontend.bin.validate_data "$data/$set"
  done
  for set in train dev; do
    python3 -m frontend.bin.subset --data "$data/$set" --out "$data/${set}_unlabelled" --share 1 --unlabelled --seed "$seed"
  done
fi

# What the array is, the scenes say; nothing spatial can be had from one microphone.
read -r mics symmetry few <<<"$(python3 "$root/local/array_of.py" "$data/scenes/train.jsonl")"
systems=conf/systems$few.yaml

if stage teacher "MixIT on mixtures of unlabelled mixtures" --in conf/teacher.yaml "$data"/{train,dev} \
    --out "$exp/teacher" --param "options=$teacher_options"; then
  train teacher teacher "$data"/{train,dev}_unlabelled $teacher_options
fi

if stage pseudo "the teacher labels the unlabelled mixtures" --in "conf/pseudo$few.yaml" "$data"/{train,dev} "$exp/teacher/$model" \
    --out "$labels"/{train,dev}_pseudo; then
  label teacher pseudo "pseudo$few"
fi

if stage student "PIT on the teacher's labels" --in conf/student.yaml "$labels"/{train,dev}_pseudo "$exp/teacher/$model" \
    --out "$exp/student" --param "options=$student_options"; then
  train student student "$labels"/{train,dev}_pseudo $student_options
fi

if stage finetune "the student on the few true labels" --in conf/student.yaml "$data"/{train,dev} "$exp/student/$model" \
    --out "$labels"/{train,dev}_small "$exp/student_ft" --param "options=$finetune_options" "small_share=$small_share"; then
  keep_labels "$small_share" small
  train student_ft student "$labels"/{train,dev}_small --init_param "$exp/student/$model" $finetune_options
fi

if stage distill "the fine-tuned student labels the mixtures for a fresh one" --in "conf/distill$few.yaml" conf/student.yaml \
    "$data"/{train,dev} "$labels"/{train,dev}_small "$exp/student_ft/$model" --out "$labels"/{train,dev}_distill \
    "$exp"/{distilled,distilled_ft} \
    --param "options=$student_options $finetune_options"; then
  label student_ft distill "distill$few"
  train distilled student "$labels"/{train,dev}_distill $student_options
  train distilled_ft student "$labels"/{train,dev}_small --init_param "$exp/distilled/$model" $finetune_options
fi

if stage baselines "supervised training on the few labels and on all" --in conf/student.yaml \
    "$data"/{train,dev} "$labels"/{train,dev}_small --out "$exp"/supervised_{small,full} \
    --param "options=$student_options $small_options"; then
  train supervised_small student "$labels"/{train,dev}_small $small_options
  train supervised_full student "$data"/{train,dev} $student_options
fi

off=$([ "$curve" = true ] || echo "--curve true runs it")
if stage curve "fine-tuning, distillation and supervised training on other shares of the labels" --in "conf/distill$few.yaml" \
    conf/student.yaml "$data"/{train,dev} "$exp/student/$model" --out "$exp/curve" \
    --param "options=$student_options $finetune_options $small_options" "shares=$semi_shares $more_shares"; then
  for share in $semi_shares $more_shares; do
    at=$(percent "$share")
    keep_labels "$share" "$at"
    case " $semi_shares " in *" $share "*)
      train "curve/student_ft_$at" student "$labels"/{train,dev}_"$at" --init_param "$exp/student/$model" $finetune_options
      label "curve/student_ft_$at" "distill_$at" "distill$few"
      train "curve/distilled_$at" student "$labels"/{train,dev}_distill_"$at" $student_options
      train "curve/distilled_ft_$at" student "$labels"/{train,dev}_"$at" --init_param "$exp/curve/distilled_$at/$model" $finetune_options
      train "curve/supervised_$at" student "$labels"/{train,dev}_"$at" $small_options ;;
    *) train "curve/supervised_$at" student "$labels"/{train,dev}_"$at" $student_options ;;
    esac
  done
fi

off=$([ -z "$asr_exp$asr_model" ] || echo "another recogniser was given")$([ -z "$again" ] || echo "that of $first is used")
if stage asr "a recogniser of single talkers, in rooms of their own" --in "$speech"/{train,dev} conf/scenes.yaml "conf/$asr_config.yaml" \
    --out "$data/scenes_asr" "$data"/asr_{train,dev}{,_rooms1,_rooms2} "$exp/asr" \
    --param "seed=$seed" "options=$asr_options" "rooms=$asr_rooms" "audio_format=$audio_format" "allow_unknown=$allow_unknown"; then
  for set in train dev; do
    # One microphone, new rooms, each talker heard alone: nothing overlaps, and no mixture of a labelled set is heard.
    for talkers in 1 2; do
      number=$([ "$set" = train ] && echo "${asr_rooms% *}" || echo "${asr_rooms#* }")
      python3 -m frontend.bin.scenes --config conf/scenes.yaml --speech "$speech/$set" --num "$number" \
        --prefix "asr${talkers}_$set" --seed "$seed" --channels 1 --n_talkers "$talkers" --out "$data/scenes_asr/$set$talkers.jsonl"
      python3 -m frontend.bin.simulate --scenes "$data/scenes_asr/$set$talkers.jsonl" --speech "$speech/$set" \
        --out "$data/asr_${set}_rooms$talkers" --nj "$nj" --audio_format "$audio_format"
    done
    python3 -m frontend.bin.asr_data --speech "$speech/$set" --rooms "$data/asr_${set}_rooms1" \
      --rooms "$data/asr_${set}_rooms2" --out "$data/asr_$set"
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
    python3 -m frontend.bin.separate_systems --systems "$systems" --exp "$exp" --data "$data/$set" \
      --out "$exp/separated/$set" --only student --nj "$nj"
    recognise "$exp/decoded_$set" "$set" --asr "$exp/asr" --only student
    # Label-free systems are judged by it too: it hears no mixture of the labelled set.
    python3 -m frontend.bin.asr_data --separated --data "$data/$set" --without "$labels/${set}_small" \
      --streams "$exp/separated/$set/student" --decoded "$exp/decoded_$set/student" --out "$data/asr_${set}_separated"
  done
  train_asr asr_separated asr_train_separated asr_dev_separated --token_list "$exp/asr/tokens.txt" --init_param "$exp/asr/$model"
fi

off=$([ "$joint" = true ] || echo "--joint true runs it")
if stage joint "separator and recogniser fine-tuned together on the few labels" --in conf/joint.yaml \
    "$labels"/{train,dev}_small "$exp"/{student_ft,asr}/{config.yaml,"$model"} --out "$exp/joint" \
    --param "options=$joint_options" "allow_unknown=$allow_unknown"; then
  python3 -m frontend.bin.joint_train --config conf/joint.yaml --separator "$exp/student_ft" --asr "$exp/asr" \
    --train_set "$labels/train_small" --valid_set "$labels/dev_small" --output_dir "$exp/joint" \
    --seed "$seed" --ngpu "$ngpu" --num_threads "$nj" --allow_unknown "${allow_unknown:-false}" $joint_options
fi

if stage separate "the test sets by every system, trained or blind" --in "$systems" "$data"/{test,test_1spk} \
    "$exp"/{teacher,student,student_ft,distilled,distilled_ft,supervised_small,supervised_full}/"$model" \
    $(there "$exp"/{joint,curve/*}/"$model") --keep --out "$exp"/separated/{test,test_1spk}; then
  for set in test test_1spk; do
    python3 -m frontend.bin.separate_systems --systems "$systems" --exp "$exp" --data "$data/$set" \
      --out "$exp/separated/$set" --nj "$nj" $([ "$set" = test ] || echo --models)
  done
fi

if stage score "SI-SNR, SDR, STOI, PESQ, over-separation" --in "$exp"/separated/{test,test_1spk} "$data"/{test,test_1spk} --keep --out "$exp/scores"; then
  python3 -m frontend.bin.score --data "$data/test" --separated "$exp/separated/test" --single_data "$data/test_1spk" \
    --single_separated "$exp/separated/test_1spk" --out "$exp/scores" --nj "$nj"
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
    python3 -m frontend.bin.wer --data "$data/test" --decoded "$exp/decoded$which" --out "$exp/wer$which" --seed "$seed" --nj "$nj"
  done
fi

# All microphone counts that were run stand in one table.
tested=$([ -n "$again" ] || there exp/"$base"{,_[0-9]*ch}/scores | xargs -rn1 dirname)
tested=${tested:-$exp}
labelled=${tested//exp\//data\/} # where their pseudo-targets are
labelled=${labelled//\/scores/}
page=$(head -n 1 <<<"$tested")/report
configs=$(printf '%s\n' conf/*.yaml | grep -v '^conf/asr\|^conf/joint'; echo "conf/$asr_config.yaml"
  [ "$joint" = false ] || echo conf/joint.yaml; echo "conf/size_$size.sh")
if stage report "the table, and a page to listen to" --in $configs $(printf '%s/scores ' $tested) \
    $(there $(printf -- '%s/wer %s/wer_separated ' $tested $tested)) \
    --overwrite "$results"/{RESULTS.md,results.json,curves.png,cpwer_sisnri.png} "$page"; then
  python3 -m frontend.bin.report --systems conf/systems.yaml --out "$results" $([[ $size != quick && $size != tiny ]] || echo --quick) \
    $(printf -- '--exp %s ' $tested) $(printf -- '--config %s ' $configs) --listen "$page" \
    $(there $(for set in $labelled; do echo "$set"/train_{pseudo,distill}/quality.json; done) | sed 's/^/--quality /')
elif [ "$last_stage" -ge "$stage_at" ]; then # complete: show what there is
  python3 -m frontend.bin.report --show "$results"
fi
end_stage
