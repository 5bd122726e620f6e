# A part of the corpus that 2 cores manage in some hours (estimated from the steps, not yet run).
# shellcheck shell=bash disable=SC2034
# Dry utterances of each subset (0: all of it), and the lengths of those that are paired, in seconds.
speech_utts="--train_utts 4000 --labelled_utts 1500 --dev_utts 300 --test_utts 300 --max_seconds 12"
# Mixtures: train (train-clean-360) is the unlabelled pool, labelled (train-clean-100) the labelled one;
# single_mixtures is a test set of one talker. On the fly, mixtures share a bank of so many rooms (bank_scenes).
train_mixtures=2000
labelled_mixtures=600
dev_mixtures=150
test_mixtures=150
single_mixtures=40
bank_scenes=2000
# Recordings of noise a set, with --noise_dir (0: all).
noise_files=500
# Share of labelled and dev whose labels the semi-supervised systems and supervised_small see.
small_share=0.1
# --curve true: further shares, fine-tuned and distilled besides supervised; and supervised only.
semi_shares="0.01 0.05"
more_shares="0.25"
# Steps of training where they differ from the YAML: teacher; student and distilled; supervised_full, as many as
# teacher and student together, so that more steps are not taken for better labels (supervised_25 too); fine-tuning;
# supervised_small.
teacher_options="--max_epoch 40"
student_options="--max_epoch 30"
full_options="--max_epoch 70"
finetune_options="--max_epoch 10 --num_iters_per_epoch 100 --optim_conf lr=0.001"
small_options="--max_epoch 10 --num_iters_per_epoch 200"
# The recogniser: rooms with one talker, and as many with two, for training and validation; its steps.
asr_rooms="1000 60"
asr_options=""
# Joint fine-tuning of separator and recogniser (--joint true).
joint_options=""
