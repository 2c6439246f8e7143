% Writes what every language has to compute alike: 20 losses, a test RMSE and 100 predictions, as little-endian
% float64.   octave-cli --norc --no-history parity.m FILE     (in MATLAB: parity_file = 'FILE'; parity)
%
% biv_mex has to be on the path, beside +biv, or in build/matlab, where run_tests builds it.

here = fileparts(mfilename('fullpath'));
addpath(fullfile(here, '..'));
if exist(fullfile(here, '..', '..', '..', 'build', 'matlab'), 'dir')
    addpath(fullfile(here, '..', '..', '..', 'build', 'matlab'));
end
if ~exist('parity_file', 'var')
    arguments_given = argv();
    parity_file = arguments_given{end};
end

biv.numThreads(1);
data = biv.Dataset.synthetic('Rows', 600, 'Features', 10, 'Seed', 7);
[train, test] = split(data, 'TrainSize', 500, 'TestSize', 100, 'Seed', 7);
noise = struct('kind', 'gamma', 'mean', 20, 'variance', 400);
train = addNoise(train, 'Distribution', noise, 'Seed', 7);
model = biv.Model.create('Kind', 'mlp', 'Inputs', 10, 'Hidden', [32 16], 'Seed', 7);
trainer = biv.Trainer.create(model, train, 'Loss', struct('kind', 'biv', 'epsilon', 0.1), ...
    'BatchSize', 25, 'LearningRate', 0.01, 'Seed', 7);
values = zeros(121, 1);
for i = 1:20
    result = step(trainer);
    values(i) = result.loss;
end
metrics = evaluate(trainer, test);
values(21) = metrics.rmse;
values(22:121) = predict(trainer, features(test));

file = fopen(parity_file, 'w', 'ieee-le');
if file < 0
    error('biv:Io', '%s cannot be written', parity_file);
end
fwrite(file, values, 'double');
fclose(file);
