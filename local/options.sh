# What the options of run.sh may be, and where a run with them lies. Sourced by run.sh, never run.
# shellcheck shell=bash disable=SC2034,SC2154

one_of() { # OPTION PATTERN EXPECTED
  [[ ${!1} =~ ^($2)$ ]] || die "--$1 ${!1}: expected $3"
}
check_options() { # everything that can be wrong with them is said before anything is written
  first_stage=$(stage_number "$stage")
  last_stage=$(stage_number "$stop_stage")
  [ "$first_stage" -le "$last_stage" ] || die "--stage $stage comes after --stop_stage $stop_stage"
  [ -f "$recipe_dir/conf/size_$size.sh" ] || die "unknown size '$size': expected $recipe_dir/conf/size_$size.sh"
  one_of channels "([1-9][0-9]*)?" "a number of microphones"
  one_of talkers "([234]|2-[34]|3-4)?" "2, 3 or 4 talkers, or a range of these: 2-3"
  one_of fs "(8000|16000)?" "8000 or 16000"
  one_of nj "[1-9][0-9]*" "a number of processes"
  one_of ngpu "[0-9]+" "a number of GPUs"
  one_of seed "[0-9]+" "a number"
  one_of train_seed "[0-9]*" "a number"
  one_of audio_format "wav|flac|flac\.ark" "wav, flac or flac.ark"
  one_of asr_train_on "speech|separated" "speech or separated"
  one_of allow_unknown "(true|false)?" "true or false"
  local option
  for option in unsupervised curve mismatch joint on_the_fly download dry_run; do
    one_of "$option" "true|false" "true or false"
  done
  # A recipe whose data preparation takes another rate has the option in one of its programs.
  if [ -n "$fs" ] && [ "$first_stage" = 1 ] && ! grep -qs -e '"--fs"' "$recipe_dir"/local/*.py; then
    die "--fs $fs: the corpora of $recipe_dir are made at the rate of its conf/scenes.yaml;" \
      "leave it out (egs/speechocean762_2mix and egs/mc_libri2mix take it), or bring speech of that rate and give --stage scenes"
  fi
  [ -f "$recipe_dir/conf/$asr_config.yaml" ] || die "unknown --asr_config '$asr_config': expected $recipe_dir/conf/$asr_config.yaml"
  [ -z "$asr_exp" ] || [ -z "$asr_model" ] || die "--asr_exp and --asr_model: give one of them"
  if [ -n "$librispeech$librimix_metadata$noise_dir" ] || [ "$download$dry_run" != falsefalse ]; then
    [ -f "$recipe_dir/local/estimate.py" ] ||
      die "--librispeech, --librimix_metadata, --noise_dir, --download and --dry_run are options of egs/mc_libri2mix/run.sh"
  fi
  if [ -f "$recipe_dir/local/estimate.py" ] && [ "${talkers:-2}" != 2 ]; then
    die "--talkers $talkers: egs/mc_libri2mix mixes the pairs of a list; expected 2 (egs/mini and egs/speechocean762_2mix mix more)"
  fi
  if [ -f "$recipe_dir/local/estimate.py" ] && [ "$librispeech$corpus_dir$train_seed$dry_run$first_stage" = false1 ]; then
    die "--librispeech DIR is missing: the folder that holds train-clean-360 ..., or into which --download true puts them"
  fi
  [ -z "$librispeech" ] || [ -z "$corpus_dir" ] || die "--librispeech and --corpus_dir: give one of them"
  given_dirs="${corpus_dir:+ --corpus_dir $corpus_dir}${librispeech:+ --librispeech $librispeech}"
  given_dirs+="${librimix_metadata:+ --librimix_metadata $librimix_metadata}${noise_dir:+ --noise_dir $noise_dir}"
  corpus_dir=${librispeech:-$corpus_dir}
}

# The command that the page shows: what differs from the defaults.
shown_command() {
  local recipe_name
  recipe_name=$(basename "$recipe_dir")
  [ "$recipe_name" = mini ] && printf ./run.sh || printf %s "egs/$recipe_name/run.sh"
  [ "$corpus" = "$own_corpus" ] || printf %s " --corpus $corpus"
  printf %s "$given_dirs${fs:+ --fs $fs}${channels:+ --channels $channels}${talkers:+ --talkers $talkers}"
  [ "$on_the_fly" = false ] || printf %s " --on_the_fly true"
  [ "$size" = "$own_size" ] || printf %s " --size $size"
  [ "$seed" = 0 ] || printf %s " --seed $seed"
  printf %s "${train_seed:+ --train_seed $train_seed}"
  [ "$asr_config" = asr ] || printf %s " --asr_config $asr_config"
  printf %s "${asr_exp:+ --asr_exp $asr_exp}${asr_model:+ --asr_model $asr_model}${allow_unknown:+ --allow_unknown $allow_unknown}"
  [ "$unsupervised" = false ] || printf %s " --unsupervised true"
  [ "$curve" = false ] || printf %s " --curve true"
  [ "$mismatch" = false ] || printf %s " --mismatch true"
  [ "$asr_train_on" = speech ] || printf %s " --asr_train_on $asr_train_on"
  [ "$joint" = false ] || printf %s " --joint $joint"
}

# Paths as the stages want them: absolute where data is read from, relative where a page shows them.
resolve_paths() {
  local option
  for option in corpus_dir librimix_metadata noise_dir; do
    [ -z "${!option}" ] || [ -d "${!option}" ] || [ "$option$download" = corpus_dirtrue ] ||
      die "--$option ${!option}: no such directory; expected the folder of the corpus"
    [ -z "${!option}" ] || printf -v "$option" %s "$(realpath -m "${!option}")"
  done
  if [ -n "$asr_exp" ]; then
    [ -d "$asr_exp" ] || die "--asr_exp $asr_exp: no such directory; expected the output directory of an ESPnet recogniser's training"
    asr_exp=$(realpath --relative-to="$recipe_dir" "$asr_exp") # the page shows it: no names of somebody's home
  fi
  [ ! -f "$asr_model" ] || asr_model=$(realpath --relative-to="$recipe_dir" "$asr_model")
}

# Where everything lies, seen from the recipe's directory.
set_paths() {
  base=$corpus$([ "$size" = full ] || echo "_$size")${fs:+_$((fs / 1000))k}${noise_dir:+_noise}$([ "$seed" = 0 ] || echo "_seed$seed")
  name=$base${talkers:+_${talkers}spk}$([ "$on_the_fly" = false ] || echo _otf)
  # Rows of a run with labels are not to stand in the table of one without: it is an experiment of its own.
  name+=$([ "$unsupervised" = false ] || echo _unsup)
  family=$name # speech and results are shared by all microphone counts
  name+=${channels:+_${channels}ch}
  speech=data/$base/speech data=data/$name first=exp/$name
  # Runs of other training seeds share the data and the recogniser of the first.
  again=${train_seed:+_train$train_seed}
  labels=$data$again exp=$first$again
  read_aloud=
  # shellcheck source=egs/mini/conf/size_full.sh
  . "conf/size_$size.sh"
  check_size_file
  # The labelled pool may be another set than the unlabelled one.
  pool=train
  [ -z "${labelled_mixtures:-}" ] || pool=labelled
  most=${talkers:-2} # talkers at once
  most=${most#*-}
  # Only runs of seed 0 in a size that says so, with the recipe's own recogniser and all rows, write the page that
  # is kept; the real corpora have one each.
  results=exp/$family$again
  local differs=$seed$again$talkers$fs$noise_dir$on_the_fly$unsupervised$asr_exp$asr_model$asr_config
  if [ "${kept_page:-false}$differs" = true0falsefalseasr ]; then
    results=$([ "$corpus" = "$own_corpus" ] && echo . || echo "$corpus")
  fi
  # What was once asked for stays in the table and is kept up to date; removing it ends that.
  [ ! -d "$exp/joint" ] || joint=true
  [ ! -d "$exp/asr_separated" ] || asr_train_on=separated
  [ ! -d "$exp/curve" ] || curve=true
  [ ! -d "$exp/mismatch" ] || mismatch=true
}

# A size file of one's own that lacks a line would end the run where the line is first wanted.
check_size_file() {
  local setting file=conf/size_$size.sh
  for setting in speech_utts {train,dev,test,single}_mixtures bank_scenes small_share {semi,more}_shares \
    {teacher,student,full,finetune,small,asr,joint}_options asr_rooms; do
    [ -n "${!setting+given}" ] || die "$recipe_dir/$file: expected a line $setting=..., found none; conf/size_tiny.sh has them all"
  done
  [[ $read_aloud =~ ^([2-9]|[1-9][0-9]+)?$ ]] ||
    die "$recipe_dir/$file: read_aloud=$read_aloud: expected a number of utterances, 2 or more; without the line, none are read"
}

check_shares() { # a share without rows would be trained on, and stand nowhere
  local file="conf/systems$([ "$channels" != 1 ] || echo _1ch).yaml" share row
  for share in $semi_shares $more_shares; do
    for row in supervised $([[ " $semi_shares " != *" $share "* ]] || echo student_ft distilled_ft); do
      row+=_$(percent "$share")
      grep -q "^$row:" "$file" ||
        die "conf/size_$size.sh: the share $share needs a row $row in $recipe_dir/$file, found none; add it or leave the share out"
    done
  done
}

# What only the paths tell: options that do not go together with each other or with an earlier run.
check_together() {
  if [ "$joint$asr_train_on" != falsespeech ] && [ -n "$asr_exp$asr_model" ]; then
    die "--joint true and --asr_train_on separated start from the recogniser of stage asr: leave --asr_exp and --asr_model out" \
      "(or remove $recipe_dir/$exp/joint and asr_separated of an earlier run)"
  fi
  [ "$unsupervised" = false ] || [ "$curve$joint$asr_train_on" = falsefalsespeech ] ||
    die "--unsupervised true: --curve true, --joint true and --asr_train_on separated need labels;" \
      "leave them out (or remove $recipe_dir/$exp/{curve,joint,asr_separated} of an earlier run)"
  [ "$curve" = false ] || check_shares
  [ "$channels$mismatch" != 1true ] || die "--mismatch true compares with AuxIVA, which needs two or more microphones: leave it out"
  if [ "$most" -gt 2 ] && [ "$joint$asr_train_on" != falsespeech ]; then
    die "--joint true and --asr_train_on separated are made for two talkers: leave them out with --talkers $talkers"
  fi
  [ -n "$again" ] || return 0
  [ -z "$asr_exp$asr_model" ] || die "--train_seed takes the recogniser of $first: leave --asr_exp and --asr_model out"
  [ "$asr_config" = asr ] || die "--train_seed takes the recogniser of $first as it is: leave --asr_config out"
  [ "$joint$asr_train_on" = falsespeech ] || die "--train_seed goes without --joint true and --asr_train_on separated"
  local path
  for path in "$data"/{train,test}/wav.scp "$first/asr/config.yaml"; do
    [ -e "$path" ] || die "--train_seed $train_seed: $recipe_dir/$path is not there; run the same command without --train_seed first"
  done
}

# What only the installed packages tell.
check_installed() {
  [ "$most" = 2 ] || python3 "$root/local/check_array.py" conf/scenes.yaml "$most" ${channels:+"$channels"} || exit 2
  [ "$ngpu" = 0 ] || python3 -c 'import sys, torch; sys.exit(torch.cuda.device_count() < int(sys.argv[1]))' "$ngpu" ||
    die "--ngpu $ngpu: expected so many CUDA devices, torch finds fewer; give --ngpu 0 to compute on the CPU"
}

# What conf/scenes.yaml does not have: another rate, recorded noise.
set_changes() {
  changes=
  [ -n "$fs$noise_dir" ] || return 0
  changes=$exp/changes.yaml
  {
    [ -z "$noise_dir" ] || cat conf/scenes_noise.yaml
    [ -z "$fs" ] || echo "fs: $fs"
  } >"$changes"
}
