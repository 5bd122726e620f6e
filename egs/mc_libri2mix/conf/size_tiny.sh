# For the tests: seconds a stage.
# shellcheck shell=bash disable=SC2034
# Dry utterances of each subset (0: all of it), and the lengths of those that are paired, in seconds.
speech_utts="--train_utts 24 --labelled_utts 16 --dev_utts 10 --test_utts 10 --min_seconds 1 --max_seconds 12"
# Mixtures: train (train-clean-360) is the unlabelled pool, labelled (train-clean-100) the labelled one;
# single_mixtures is a test set of one talker. On the fly, mixtures share a bank of so many rooms (bank_scenes).
train_mixtures=12
labelled_mixtures=8
dev_mixtures=4
test_mixtures=4
single_mixtures=2
bank_scenes=4
# Recordings of noise a set, with --noise_dir (0: all).
noise_files=4
# Share of labelled and dev whose labels the semi-supervised systems and supervised_small see.
small_share=0.5
# --curve true: further shares, fine-tuned and distilled besides supervised; and supervised only.
semi_shares="0.05"
more_shares="0.25"
# Steps of training where they differ from the YAML: teacher; student and distilled; supervised_full, as many as
# teacher and student together, so that more steps are not taken for better labels (supervised_25 too); fine-tuning;
# supervised_small.
teacher_options="--max_epoch 2 --num_iters_per_epoch 4"
student_options="--max_epoch 2 --num_iters_per_epoch 4"
full_options="--max_epoch 2 --num_iters_per_epoch 8"
finetune_options="--max_epoch 2 --num_iters_per_epoch 2"
small_options="--max_epoch 2 --num_iters_per_epoch 2"
# The recogniser: rooms with one talker, and as many with two, for training and validation; its steps.
asr_rooms="6 2"
asr_options="--max_epoch 2"
# Joint fine-tuning of separator and recogniser (--joint true).
joint_options="--max_epoch 1"
# So little speech may not hold all the characters.
allow_unknown=${allow_unknown:-true}
