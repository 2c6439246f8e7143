# Incomes of US counties with their margins of error at 90 %: early stopping, then save, load and predict.
using BIV

# As in survey tables: margin of error = 1.645 standard errors.
columns = (labels=["Income"], standard_errors=["IncomeErr"], error_divisor=1.645, skip_missing=true,
           features=["Poverty", "Professional", "MeanCommute", "Drive", "WorkAtHome", "Unemployment"])
file = joinpath(get(ENV, "BIV_DATA_DIR", ""), "acs", "acs2017_county_data.csv")
counties = if isfile(file)
    BIV.read_csv(file; columns...)
else
    println("no ", basename(file), " in BIV_DATA_DIR: synthetic data")
    BIV.add_noise(BIV.synthetic(rows=3000, features=6); distribution=(kind="gamma", mean=5, variance=50))
end

train, test = BIV.split_rows(counties; train_size=2400)
trainer = Trainer(Model(kind="mlp", inputs=6, hidden=[32, 16]), train; batch_size=64, learning_rate=0.003)
best, since = Ref(Inf), Ref(0)
complete = fit!(trainer, 200; test=test) do epoch
    since[] = epoch.test.rmse < best[] ? 0 : since[] + 1
    best[] = min(best[], epoch.test.rmse)
    since[] < 10 # false stops
end
println(complete ? "all" : BIV.progress(trainer).epoch, " epochs, best RMSE on noisy test labels ", round(best[]; digits=2))

mktempdir() do folder
    BIV.save(BIV.model(trainer), joinpath(folder, "incomes.biv"))
    again = BIV.load_model(joinpath(folder, "incomes.biv"))
    @assert predict(again, BIV.features(test)) == predict(trainer, BIV.features(test))
end
