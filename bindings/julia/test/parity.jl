# The parity experiment from Julia: see tests/parity/run.sh.
using BIV
BIV.threads!(1)
train, test = BIV.split_rows(BIV.synthetic(rows=600, features=10, seed=7); train_size=500, test_size=100, seed=7)
noisy = BIV.add_noise(train; distribution=(kind="gamma", mean=20, variance=400), seed=7)
trainer = Trainer(Model(kind="mlp", inputs=10, hidden=[32, 16], seed=7), noisy;
                  loss=(kind="biv", epsilon=0.1), batch_size=25, learning_rate=0.01, seed=7)
losses = [step!(trainer).loss for _ in 1:20]
write(ARGS[1], [losses; evaluate(trainer, test).rmse; predict(trainer, BIV.features(test))])
