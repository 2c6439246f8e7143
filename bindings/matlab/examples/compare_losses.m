%COMPARE_LOSSES  Trains one network with three losses on labels of known noise, and plots the test errors.
%   Every label has a noise variance of its own. BIV and plain inverse variance are told those variances, MSE is not.
%   The plot is shown, or written to compare_losses.svg in the folder for temporary files where there is no display.

addpath(fullfile(fileparts(mfilename('fullpath')), '..'), fileparts(mfilename('fullpath')));

epochs = 40;
data = biv.Dataset.synthetic('Rows', 4000, 'Seed', 1);
[clean, test] = split(data, 'TrainSize', 2500, 'Seed', 1);
noise = struct('kind', 'gamma', 'mean', 1, 'variance', 2);
noisy = addNoise(clean, 'Distribution', noise, 'Relative', true, 'Seed', 1);

names = {'MSE', 'inverse variance', 'BIV'};
kinds = {'mse', 'iv', 'biv'};
curves = zeros(epochs, numel(kinds));
for i = 1:numel(kinds)
    model = biv.Model.create('Kind', 'mlp', 'Inputs', 10, 'Hidden', [64 32], 'Seed', 1);
    trainer = biv.Trainer.create(model, noisy, 'Loss', struct('kind', kinds{i}), 'BatchSize', 100, 'Seed', 1);
    history = fit(trainer, epochs, 'Test', test);
    metrics = [history.test];
    curves(:, i) = [metrics.rmse];
    fprintf('%-18s test RMSE %.3f at the end, %.3f at its best\n', names{i}, curves(end, i), min(curves(:, i)));
end

plot_curves(fullfile(tempdir(), 'compare_losses.svg'), names, curves, 'RMSE on clean test labels');
