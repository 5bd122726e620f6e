# One large GPU (--ngpu 1 --asr_config asr_gpu): a wider and deeper network, more mixtures, larger batches.
# Meant for under an hour on an H100 or the like; estimated from the arithmetic of a step, not yet measured.
# shellcheck shell=bash disable=SC2034
# Dry utterances of each part at most (--train_utts N ...); without a number all of them.
speech_utts=""
# Mixtures: all of train is unlabelled; single_mixtures is a test set of one talker.
train_mixtures=6000
dev_mixtures=300
test_mixtures=300
single_mixtures=60
# --on_the_fly true: the rooms that all training mixtures share.
bank_scenes=2000
# Share of train and dev whose labels the semi-supervised systems and supervised_small see.
small_share=0.1
# --curve true: further shares, fine-tuned and distilled besides supervised; and supervised only.
semi_shares="0.01 0.05"
more_shares="0.25"
# All networks are alike, so that each can start from the one before it.
network="--separator_conf channels=128 --separator_conf blocks=16 --batch_size 16 --num_workers 8"
# Steps of training where they differ from the YAML: teacher; student and distilled; supervised_full, as many as
# teacher and student together, so that more steps are not taken for better labels (supervised_25 too); fine-tuning;
# supervised_small.
teacher_options="$network --max_epoch 50 --optim_conf lr=0.001"
student_options="$network --max_epoch 40 --optim_conf lr=0.001"
full_options="$network --max_epoch 90 --optim_conf lr=0.001"
finetune_options="$network --max_epoch 10 --num_iters_per_epoch 100 --optim_conf lr=0.0005"
small_options="$network --max_epoch 10 --num_iters_per_epoch 200 --optim_conf lr=0.001"
# The recogniser: rooms with one talker, and as many with two, for training and validation; its steps.
asr_rooms="3000 100"
asr_options=""
# Utterances of espeak-ng voices that it hears besides: sentences and words of the training texts; "": none.
read_aloud=6000
# Joint fine-tuning of separator and recogniser (--joint true).
joint_options=""
