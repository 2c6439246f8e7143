%EARLY_STOPPING  A callback that keeps the best model and stops when it has not become better for 5 epochs.

addpath(fullfile(fileparts(mfilename('fullpath')), '..'), fileparts(mfilename('fullpath')));

data = biv.Dataset.synthetic('Rows', 1500, 'Seed', 3);
[train, test] = split(data, 'TrainSize', 1000, 'Seed', 3);
noise = struct('kind', 'gamma', 'mean', 20, 'variance', 400);
train = addNoise(train, 'Distribution', noise, 'Seed', 3);
model = biv.Model.create('Kind', 'mlp', 'Inputs', 10, 'Hidden', [64 32], 'Seed', 3);
trainer = biv.Trainer.create(model, train, 'BatchSize', 50, 'LearningRate', 0.005, 'Seed', 3);

file = [tempname() '.biv'];
best = containers.Map({'rmse', 'epoch'}, [Inf 0]); % a handle: stop_early changes it
history = fit(trainer, 200, 'Test', test, 'Callback', @(epoch) stop_early(epoch, model, file, best, 5));
fprintf('stopped after epoch %d, the best was %d with a test RMSE of %.3f\n', numel(history), best('epoch'), ...
    best('rmse'));

kept = biv.Model.load(file);
errors = predict(kept, features(test)) - labels(test);
fprintf('the model kept has a test RMSE of %.3f\n', sqrt(mean(errors .^ 2)));
delete(file);
