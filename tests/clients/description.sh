# What the programs here train: the first and the second argument of each. Its products of matrices are libtorch's.
# shellcheck disable=SC2034
model='{"kind": "sequential", "input_shape": [8], "layers": [{"kind": "linear", "outputs": 64}, {"kind": "layer_norm"},
  {"kind": "activation", "function": "silu"}, {"kind": "linear", "outputs": 1}]}'
trainer='{"loss": {"kind": "biv", "epsilon": 0.5}, "batch_size": 64}'
