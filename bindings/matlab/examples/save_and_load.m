%SAVE_AND_LOAD  A checkpoint goes on as if training had never stopped; a model file predicts.

addpath(fullfile(fileparts(mfilename('fullpath')), '..'));

noise = struct('kind', 'uniform', 'low', 0, 'high', 10);
data = addNoise(biv.Dataset.synthetic('Rows', 1000, 'Seed', 5), 'Distribution', noise, 'Seed', 5);
x = features(data);
x = x(1:3, :);

model = biv.Model.create('Kind', 'mlp', 'Inputs', 10, 'Hidden', [32 16], 'Seed', 5);
trainer = biv.Trainer.create(model, data, 'BatchSize', 100, 'Seed', 5);
fit(trainer, 5);
checkpoint = [tempname() '.biv'];
save(trainer, checkpoint);
fit(trainer, 5);

again = biv.Trainer.load(checkpoint, 'Dataset', data);
fit(again, 5);
fprintf('10 epochs and 5 + 5 predict the same: %d\n', isequal(predict(again, x), predict(trainer, x)));

file = [tempname() '.biv'];
save(model, file);
loaded = biv.Model.load(file);
fprintf('saved and loaded, the model predicts %.3f %.3f %.3f\n', predict(loaded, x));
delete(checkpoint);
delete(file);
