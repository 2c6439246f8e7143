%COUNTY_INCOMES  Median incomes of US counties, each with the margin of error that the survey states.
%   The American Community Survey gives margins of error at 90 %: the standard error is the margin / 1.645. The file
%   is acs/acs2017_county_data.csv in the folder that the environment variable BIV_DATA_DIR names; without it, the
%   example takes synthetic data.

addpath(fullfile(fileparts(mfilename('fullpath')), '..'));

file = fullfile(getenv('BIV_DATA_DIR'), 'acs', 'acs2017_county_data.csv');
if ~isempty(getenv('BIV_DATA_DIR')) && exist(file, 'file')
    data = biv.Dataset.fromCsv(file, 'Labels', 'Income', 'StandardErrors', {'IncomeErr'}, 'ErrorDivisor', 1.645, ...
        'Features', {'Hispanic', 'White', 'Black', 'Native', 'Asian', 'Poverty', 'Professional', 'Service', ...
        'Office', 'Construction', 'Drive', 'Transit', 'WorkAtHome', 'MeanCommute', 'Unemployment'}, ...
        'SkipMissing', true);
else
    fprintf('BIV_DATA_DIR has no acs/acs2017_county_data.csv: synthetic data instead\n');
    noise = struct('kind', 'gamma', 'mean', 20, 'variance', 800);
    data = addNoise(biv.Dataset.synthetic('Rows', 3000, 'Seed', 1), 'Distribution', noise, 'Seed', 1);
end
v = variances(data);
fprintf('%d rows, standard errors from %.3g to %.3g, median %.3g\n', numel(v), sqrt(min(v)), sqrt(max(v)), ...
    sqrt(median(v)));

% Judged on the half of the test rows whose labels have the least noise.
[train, test] = split(data, 'TrainSize', 2000, 'Seed', 1);
v = variances(test);
test = subset(test, v <= median(v));

sizes = info(data);
kinds = {'mse', 'biv'};
for i = 1:numel(kinds)
    model = biv.Model.create('Kind', 'mlp', 'Inputs', sizes.features, 'Hidden', [64 32], 'Seed', 1);
    trainer = biv.Trainer.create(model, train, 'Loss', struct('kind', kinds{i}), 'BatchSize', 100, 'Seed', 1);
    fit(trainer, 40);
    metrics = evaluate(trainer, test);
    fprintf('%-4s RMSE %.4g, R2 %.3f on %d rows of small standard error\n', kinds{i}, metrics.rmse, metrics.r2, ...
        metrics.rows);
end
