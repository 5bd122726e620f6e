# As large as Libri2Mix. For a GPU: --ngpu 1 --asr_config asr_gpu; --dry_run true says what it takes. Not yet run.
# shellcheck shell=bash disable=SC2034
# Dry utterances of each subset (0: all of it), and the lengths of those that are paired, in seconds.
speech_utts=""
# Mixtures: train (train-clean-360) is the unlabelled pool, labelled (train-clean-100) the labelled one;
# single_mixtures is a test set of one talker. On the fly, mixtures share a bank of so many rooms (bank_scenes).
train_mixtures=50800
labelled_mixtures=13900
dev_mixtures=3000
test_mixtures=3000
single_mixtures=500
bank_scenes=20000
# Recordings of noise a set, with --noise_dir (0: all).
noise_files=0
# Share of labelled and dev whose labels the semi-supervised systems and supervised_small see.
small_share=0.1
# --curve true: further shares, fine-tuned and distilled besides supervised; and supervised only.
semi_shares="0.01 0.05"
more_shares="0.25"
# All networks are alike, so that each can start from the one before it.
network="--separator_conf channels=128 --separator_conf blocks=16 --batch_size 16 --num_workers 8"
# Steps of training where they differ from the YAML: teacher; student and distilled; supervised_full, as many as
# teacher and student together, so that more steps are not taken for better labels (supervised_25 too); fine-tuning;
# supervised_small.
teacher_options="$network --max_epoch 100 --num_iters_per_epoch 1000 --optim_conf lr=0.001"
student_options="$network --max_epoch 100 --num_iters_per_epoch 1000 --optim_conf lr=0.001"
full_options="$network --max_epoch 200 --num_iters_per_epoch 1000 --optim_conf lr=0.001"
finetune_options="$network --max_epoch 20 --num_iters_per_epoch 500 --optim_conf lr=0.0005"
small_options="$network --max_epoch 40 --num_iters_per_epoch 500 --optim_conf lr=0.001"
# The recogniser: rooms with one talker, and as many with two, for training and validation; its steps.
asr_rooms="14000 500"
asr_options=""
# Joint fine-tuning of separator and recogniser (--joint true).
joint_options=""
