# 2,000 labels, each with noise of its own known variance; a network that uses it.
using BIV, Random

rng = MersenneTwister(1)
x = rand(rng, 2000, 2)
v = rand(rng, 2000) .^ 4 .* 9
y = x[:, 1] .+ 2 .* x[:, 2] .+ sqrt.(v) .* randn(rng, 2000)

data = Dataset(x, y; variances=v)
network = Model(kind="mlp", inputs=2, hidden=[32])
trainer = Trainer(network, data; loss=(kind="biv", epsilon=0.1))
fit!(trainer, 40)
println("f(0.5, 0.5) = 1.5, predicted ", round(predict(network, [0.5 0.5])[1]; digits=2))
