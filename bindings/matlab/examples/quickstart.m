%QUICKSTART  Your own arrays: y = x1 + 2 x2, every second label far noisier than the others.

addpath(fullfile(fileparts(mfilename('fullpath')), '..'));

n = 4000;
x = [mod((0:n - 1)', 61) / 61, mod((0:n - 1)', 53) / 53];
v = repmat([4; 0.01], n / 2, 1);
y = x(:, 1) + 2 * x(:, 2) + sqrt(12 * v) .* (mod((0:n - 1)' * 7919, 1000) / 1000 - 0.5);

data = biv.Dataset.fromArrays(x, y, 'Variances', v);
model = biv.Model.create('Kind', 'mlp', 'Inputs', 2, 'Hidden', 32);
trainer = biv.Trainer.create(model, data, 'Loss', struct('kind', 'biv', 'epsilon', 0.1));
history = fit(trainer, 40);
fprintf('loss %.3f after the first epoch, %.3f after the last; effective batch size %.0f of 256\n', ...
    history(1).loss, history(end).loss, history(end).effective_batch_size);
fprintf('y(0.5, 0.5) = 1.5, predicted %.2f\n', predict(model, [0.5 0.5]));
