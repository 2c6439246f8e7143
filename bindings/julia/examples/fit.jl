# A model with error bars in one call: every second label is far noisier than the others, and fit finds out what that means.
using BIV, Random

rng = MersenneTwister(1)
f(x) = sin.(6 .* x[:, 1]) .+ 2 .* x[:, 2]
x = rand(rng, 2000, 2)
v = ifelse.(isodd.(1:2000), 4.0, 0.01)
y = f(x) .+ sqrt.(v) .* randn(rng, 2000)

network, report = fit(x, y; variances=v, members=3, epochs=40, batch_size=64)
found = report["outputs"][1]["variance_model"]
println("epsilon ", round(found["epsilon"]; sigdigits=2), " (", found["verdict"], "), stopped after epoch ",
        report["stop_epoch"], " of ", report["epochs"])
foreach(println, report["warnings"])

new = rand(rng, 1000, 2)
predictions, variances_of_errors = predict_with_variance(network, new)
rmse = sqrt(sum(abs2, predictions - f(new)) / 1000)
println("RMSE against the truth ", round(rmse; digits=3), ", as the error bars say ",
        round(sqrt(sum(variances_of_errors) / 1000); digits=3))
