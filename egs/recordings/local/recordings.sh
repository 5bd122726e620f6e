#!/usr/bin/env bash
# From a folder of multi-channel recordings to separated streams and a report, without any reference:
# chunks where somebody talks, MixIT teacher, pseudo-targets, PIT student, separation of the whole recordings.
#
#   egs/recordings/run.sh --recordings DIR --init_model egs/mini/exp/espeak --geometry circular
#   egs/recordings/run.sh --recordings DIR --transcripts ref.stm --asr_exp egs/mini/exp/espeak/asr
#
# A recording is a file of several channels, or one file a channel: NAME_ch1.wav, NAME.CH1.wav, NAME-1.wav ...

# Some options are several words, or none.
# shellcheck disable=SC2046,SC2086
recipe_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
root=$(cd "$recipe_dir/../.." && pwd)
driver=$recipe_dir/local/recordings.sh

# options
recordings=           # the folder, or a table 'id file' (Kaldi's wav.scp)
tag=                  # name of the results, data/TAG and exp/TAG; default: that of the folder or, without its ending, the table
geometry=none         # circular, linear, none (unknown), or a file with a line 'x y z' for each channel
channel_pattern=      # regular expression (name)(channel) for files of one channel with other names
fs=8000               # rate of training and separation in Hz; recordings of higher rates are lowered to it
talkers=2             # streams of the student: how many talk at most at once
rttm=                 # who talks when (RTTM, STM or SegLST); default: the energy says where the chunks are
segments=             # the same as Kaldi's segments file
init_model=           # start from the teacher and the student in this directory, an experiment of another recipe
transcripts=          # STM or SegLST of the recordings: cpWER is counted
asr_exp=              # a trained ESPnet recogniser, for --transcripts
size=cpu              # cpu, quick or tiny: how long to train, conf/size_*.sh
seed=0                # of every random draw
stage=1               # first stage, name or number
stop_stage=report     # last stage, name or number
nj=$(nproc)           # processes or threads at once
ngpu=0                # GPUs for training
# internal
out_dir=.             # where data and exp go, seen from the recipe
# end of options

# shellcheck source=local/common.sh
. "$root/local/common.sh"
command="egs/recordings/run.sh $*"
parse_options "$@"
for option in out_dir stage stop_stage nj; do # what changes no result is not shown
  command=${command/ --$option ${!option}/}
done
command=$(without_homes "$command")

# Everything that can be wrong with the options is said before anything is written.
first_stage=$(stage_number "$stage")
last_stage=$(stage_number "$stop_stage")
[ "$first_stage" -le "$last_stage" ] || die "--stage $stage comes after --stop_stage $stop_stage"
[ -f "$recipe_dir/conf/size_$size.sh" ] || die "unknown size '$size': expected $recipe_dir/conf/size_$size.sh"
[[ "$fs $nj $seed $ngpu" =~ ^[1-9][0-9]*\ [1-9][0-9]*\ [0-9]+\ [0-9]+$ ]] ||
  die "--fs $fs --nj $nj --seed $seed --ngpu $ngpu: expected numbers"
[[ $talkers =~ ^[234]$ ]] || die "--talkers $talkers: expected 2 to 4"
[ -n "$recordings" ] || die "--recordings is missing: the folder with your recordings; --help lists the options"
[ -z "$rttm" ] || [ -z "$segments" ] || die "--rttm and --segments: give one of them"
[ "${transcripts:+1}" = "${asr_exp:+1}" ] || die "--transcripts and --asr_exp belong together: give both or none"
for option in recordings rttm segments init_model transcripts asr_exp; do
  [ -z "${!option}" ] || [ -e "${!option}" ] || die "--$option ${!option}: expected a file or directory, found none"
  [ -z "${!option}" ] || printf -v "$option" %s "$(realpath "${!option}")"
done
geometry_file=()
[ ! -e "$geometry" ] || { geometry=$(realpath "$geometry"); geometry_file=("$geometry"); }
for part in ${init_model:+teacher student}; do
  [ -f "$init_model/$part/config.yaml" ] || die "--init_model $init_model: expected a trained $part in it, found no $part/config.yaml"
done
ending=$([ ! -f "$recordings" ] || grep -o '\.[^./]*$' <<<"$recordings" || true) # folders have none: v1.0
tag=${tag:-$(basename "$recordings" "$ending" | tr -c 'A-Za-z0-9\n' _)}
[[ $tag =~ ^[A-Za-z0-9_.-]+$ ]] || die "--tag '$tag': expected letters, digits, dots, dashes and underscores"
[ "$size" = cpu ] || tag+=_$size
cd "$recipe_dir"
data=$out_dir/data/$tag exp=$out_dir/exp/$tag model=valid.loss.ave.pth
# shellcheck source=egs/recordings/conf/size_cpu.sh
. "conf/size_$size.sh"
mkdir -p "$exp" || exit 2; lock "$exp"
bin=$("$root/local/install.sh" --extras mini)
export PATH="$bin:$PATH" PYTHONUNBUFFERED=1
[ -z "$asr_exp" ] || echo "fs: $fs" >"$exp/rate.yaml" # the recogniser's must be the same
given=$([ -z "$asr_exp" ] || python3 "$root/local/recogniser_of.py" --asr_exp "$asr_exp" "$exp/rate.yaml" conf/decode.yaml) || exit 2
python3 "$root/local/stage.py" note --exp "$exp" --param "command=$command" "seed=$seed" "size=$size" "talkers=$talkers"

train() { # NAME OUTPUTS TRAINING-SET VALIDATION-SET [ESPnet options]
  local network=$1 outputs=$2 train_set=$3 valid_set=$4; shift 4
  python3 -m frontend train separator --config "conf/$network.yaml" --train_set "$train_set" --valid_set "$valid_set" \
    --output_dir "$exp/$network" --separator_conf n_mics="$mics" --separator_conf num_spk="$outputs" \
    --preprocessor_conf array_symmetry="$symmetry" --preprocessor_conf fs="$fs" \
    $stft ${init_model:+--init_param "$init_model/$network/$model"} --seed "$seed" --ngpu "$ngpu" --num_threads "$nj" "$@"
}
[ -z "$init_model" ] || teacher_options=$teacher_adapt_options student_options=$student_adapt_options
# Windows of 32 ms, half overlapping, at any rate.
stft=$(for part in encoder decoder; do echo "--${part}_conf n_fft=$((fs * 32 / 1000)) --${part}_conf hop_length=$((fs * 16 / 1000))"; done)

if stage data "the recordings, checked, as a Kaldi data directory" --in "$recordings" "${geometry_file[@]}" --out "$data/whole" \
    --param "fs=$fs" "geometry=$geometry" "channel_pattern=$channel_pattern"; then
  python3 -m frontend data recordings --recordings "$recordings" --out "$data/whole" --fs "$fs" --geometry "$geometry" \
    ${channel_pattern:+--channel_pattern "$channel_pattern"} --nj "$nj"
fi
end_stage # the recordings are made, whatever is found below
[ ! -f "$data/whole/array" ] || read -r mics symmetry _ <"$data/whole/array"
if [ -n "$init_model" ] && [ -f "$data/whole/array" ]; then # before the long work
  for each in "teacher $((2 * talkers))" "student $talkers"; do
    python3 -m frontend train separator --check --model "$init_model/${each% *}" --config "conf/${each% *}.yaml" \
      --array "$data/whole/array" --outputs "${each#* }"
  done
fi
if [ -n "$transcripts" ] && [ -f "$data/whole/wav.scp" ]; then # likewise
  python3 -m frontend wer --check --transcripts "$transcripts" --scp "$data/whole/wav.scp"
fi

if stage chunks "training and validation chunks where somebody talks" --in "$data/whole" ${rttm:+"$rttm"} ${segments:+"$segments"} \
    --out "$data"/{train,dev}_unlabelled --param "seed=$seed" "min_speech=$min_speech"; then
  python3 -m frontend data chunks --data "$data/whole" --out "$data"/{train,dev}_unlabelled ${rttm:+--rttm "$rttm"} \
    ${segments:+--segments "$segments"} --min_speech "$min_speech" --seed "$seed" --nj "$nj"
fi

if stage teacher "MixIT on mixtures of chunks" --in conf/teacher.yaml "$data"/{train,dev}_unlabelled \
    ${init_model:+"$init_model/teacher/$model"} --out "$exp/teacher" --param "options=$teacher_options" "talkers=$talkers" \
    "seed=$seed" "symmetry=${symmetry:-}" "fs=$fs"; then
  train teacher $((2 * talkers)) "$data"/{train,dev}_unlabelled $teacher_options
fi

if stage pseudo "the teacher labels the chunks" --in conf/pseudo.yaml "$data"/{train,dev}_unlabelled "$exp/teacher/$model" \
    --out "$data"/{train,dev}_pseudo; then
  for set in train dev; do
    python3 -m frontend label --config conf/pseudo.yaml --model "$exp/teacher" --data "$data/${set}_unlabelled" \
      --n_talkers "$talkers" --out "$data/${set}_pseudo" --nj "$nj"
  done
fi

if stage student "PIT on the teacher's labels" --in conf/student.yaml "$data"/{train,dev}_pseudo \
    ${init_model:+"$init_model/student/$model"} --out "$exp/student" --param "options=$student_options" \
    "seed=$seed" "symmetry=${symmetry:-}" "fs=$fs"; then
  train student "$talkers" "$data"/{train,dev}_pseudo $student_options
  # What it started from has a row of its own.
  [ -z "$init_model" ] || ln -sfn "$init_model/student" "$exp/start"
fi

if stage separate "the whole recordings by every system, in windows" --in conf/systems.yaml "$data/whole" \
    "$exp"/{teacher,student}/"$model" --keep --out "$exp/separated"; then
  python3 -m frontend separate --systems conf/systems.yaml --exp "$exp" --data "$data/whole" \
    --out "$exp/separated" --n_talkers "$talkers" --nj "$nj"
fi

off=$([ -n "$transcripts" ] || echo "--transcripts and --asr_exp run it")
if stage recognise "what is said in every stream, and cpWER" --in "$exp/separated" conf/decode.yaml \
    ${transcripts:+"$transcripts"} --param "recogniser=$given" --keep --out "$exp"/{words,wer}; then
  python3 -m frontend decode --asr "$asr_exp" --config conf/decode.yaml --data "$data/whole" \
    --separated "$exp/separated" --out "$exp/words"
  python3 -m frontend wer --ref "$transcripts" --decoded "$exp/words" --out "$exp/wer"
fi

wer=${transcripts:+$exp/wer} # an earlier run's would be of other streams
if stage report "what can be known without references" --in conf/systems.yaml "$exp/separated" "$data/dev_unlabelled" \
    ${wer:+"$wer"} --overwrite "$exp"/{REPORT.md,report.json}; then
  python3 -m frontend report --recordings --data "$data/whole" --separated "$exp/separated" --dev "$data/dev_unlabelled" \
    --teacher "$exp/teacher" ${init_model:+--start "$init_model/teacher"} --systems conf/systems.yaml \
    ${wer:+--wer "$wer"} --out "$exp" --talkers "$talkers" --seed "$seed" --nj "$nj"
fi
end_stage
