# For the tests: seconds a stage.
# shellcheck shell=bash disable=SC2034
# Dry utterances of each part at most; the talkers take turns.
speech_utts="--train_utts 24 --dev_utts 10 --test_utts 10"
# Mixtures: all of train is unlabelled; single_mixtures is a test set of one talker.
train_mixtures=12
dev_mixtures=4
test_mixtures=4
single_mixtures=2
# --on_the_fly true: the rooms that all training mixtures share.
bank_scenes=4
# Share of train and dev whose labels the semi-supervised systems and supervised_small see.
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
# Utterances of espeak-ng voices that it hears besides: sentences and words of the training texts; "": none.
read_aloud=6
# Joint fine-tuning of separator and recogniser (--joint true).
joint_options="--max_epoch 1"
# So little speech may not hold all the characters.
allow_unknown=${allow_unknown:-true}
