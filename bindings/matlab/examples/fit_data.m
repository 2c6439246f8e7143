%FIT_DATA  A model with error bars in one call: every second label is far noisier than the others.

addpath(fullfile(fileparts(mfilename('fullpath')), '..'));

n = 2000;
truth = @(x) sin(6 * x(:, 1)) + 2 * x(:, 2);
x = [mod((0:n - 1)', 61) / 61, mod((0:n - 1)', 53) / 53];
v = repmat([4; 0.01], n / 2, 1);
y = truth(x) + sqrt(12 * v) .* (mod((0:n - 1)' * 7919, 1000) / 1000 - 0.4995);

[model, report] = biv.fit(x, y, 'Variances', v, 'Members', 3, 'Epochs', 40, 'BatchSize', 64);
found = report.outputs.variance_model;
fprintf('epsilon %.2g (%s), stopped after epoch %d of %d\n', found.epsilon, found.verdict, report.stop_epoch, ...
    report.epochs);
cellfun(@disp, report.warnings);

new = [mod((0:999)' * 17, 101) / 101, mod((0:999)' * 29, 103) / 103];
[prediction, variance] = predict(model, new);
fprintf('RMSE against the truth %.3f, as the error bars say %.3f\n', sqrt(mean((prediction - truth(new)) .^ 2)), ...
    sqrt(mean(variance)));
