# The same stages in a few minutes: shows that everything works, its numbers mean nothing.
# shellcheck shell=bash disable=SC2034
min_speech=60
teacher_options="--max_epoch 2 --num_iters_per_epoch 60"
student_options="--max_epoch 2 --num_iters_per_epoch 60"
teacher_adapt_options="--max_epoch 2 --num_iters_per_epoch 30 --optim_conf lr=0.0005"
student_adapt_options="--max_epoch 2 --num_iters_per_epoch 30 --optim_conf lr=0.0005"
