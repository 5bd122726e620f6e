# For the tests: seconds a stage.
# shellcheck shell=bash disable=SC2034
min_speech=20
teacher_options="--max_epoch 2 --num_iters_per_epoch 4"
student_options="--max_epoch 2 --num_iters_per_epoch 4"
teacher_adapt_options="--max_epoch 1 --num_iters_per_epoch 2 --optim_conf lr=0.0005"
student_adapt_options="--max_epoch 1 --num_iters_per_epoch 2 --optim_conf lr=0.0005"
