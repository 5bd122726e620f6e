# An hour or so on 2 cores for some tens of minutes of recordings.
# shellcheck shell=bash disable=SC2034
# Least length of all chunks, in seconds.
min_speech=60
# Steps of training where they differ from the YAML: from nothing, and where a model of another recipe is
# the start (a lower rate: what it knows is to be adapted, not forgotten).
teacher_options=""
student_options=""
teacher_adapt_options="--max_epoch 4 --optim_conf lr=0.0005"
student_adapt_options="--max_epoch 4 --optim_conf lr=0.0005"
