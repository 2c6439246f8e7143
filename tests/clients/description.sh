# What the programs here train: the first and the second argument of each. Its products of matrices are libtorch's.
# shellcheck disable=SC2034
model='{"kind": "sequential", "input_shape": [8], "layers": [{"kind": "linear", "outputs": 64}, {"kind": "layer_norm"},
  {"kind": "activation", "function": "silu"}, {"kind": "linear", "outputs": 1}]}'
trainer='{"loss": {"kind": "biv", "epsilon": 0.5}, "batch_size": 64}'
# What biv_build_info() says, by grep -E, when libtorch calls the BLAS that it comes with: on 64-bit Arm a library of its own.
own_blas='"blas":"lib(torch_cpu\.so|nvpl_blas_lp64_gomp\.so\.0)"'
