# The same stages on less, in at most 12 minutes: shows that everything works, its numbers mean nothing.
# shellcheck shell=bash disable=SC2034
# Dry utterances of each part (for recorded digits: strings made of the recordings).
speech_utts="--train_utts 200 --dev_utts 60 --test_utts 60"
# Mixtures: all of train is unlabelled; single_mixtures is a test set of one talker.
train_mixtures=200
dev_mixtures=20
test_mixtures=20
single_mixtures=10
# --on_the_fly true: the rooms that all training mixtures share.
bank_scenes=50
# Share of train and dev whose labels the semi-supervised systems and supervised_small see.
small_share=0.1
# --curve true: further shares, fine-tuned and distilled besides supervised; and supervised only.
semi_shares="0.01 0.05"
more_shares="0.25"
# Steps of training where they differ from the YAML: teacher; student and distilled; supervised_full, as many as
# teacher and student together, so that more steps are not taken for better labels (supervised_25 too); fine-tuning;
# supervised_small.
teacher_options="--max_epoch 2 --num_iters_per_epoch 60"
student_options="--max_epoch 2 --num_iters_per_epoch 60"
full_options="--max_epoch 4 --num_iters_per_epoch 60"
finetune_options="--max_epoch 2 --num_iters_per_epoch 20"
small_options="--max_epoch 2 --num_iters_per_epoch 30"
# The recogniser: rooms with one talker, and as many with two, for training and validation; its steps.
asr_rooms="100 20"
asr_options="--max_epoch 3"
# Joint fine-tuning of separator and recogniser (--joint true).
joint_options="--max_epoch 1"
# So little speech does not hold all the words.
allow_unknown=${allow_unknown:-true}
