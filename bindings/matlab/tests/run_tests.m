% Tests of the package biv:   octave-cli --norc --no-history run_tests.m
%
% biv_mex is built into build/matlab, for the library in BIV_PREFIX, else as build.m finds one. The last line has the number of tests; an error is raised when one fails.

here = fileparts(mfilename('fullpath'));
root = fullfile(here, '..', '..', '..');
addpath(here, fullfile(here, '..'));
isOctave = exist('OCTAVE_VERSION', 'builtin') ~= 0;
built = fullfile(root, 'build', 'matlab');
if ~exist(built, 'dir')
    mkdir(built);
end
build(built, getenv('BIV_PREFIX'));
addpath(built);

t = Checks();
folder = tempname();
mkdir(folder);

% ---- The library ----
header = fileread(fullfile(root, 'include', 'biv.h'));
source = fileread(fullfile(here, '..', 'src', 'biv_mex.c'));
declared = regexp(header, '^[a-z][^\n]*?[ *]biv_([a-z0-9_]+)\(', 'tokens', 'lineanchors');
resolved = regexp(source, '\<X\(([a-z0-9_]+)\)', 'tokens');
t.that('every function of the header is resolved', isequal(sort([declared{:}]), sort([resolved{:}])));
libraryVersion = regexp(header, 'BIV_VERSION "([^"]*)"', 'tokens', 'once');
t.that('version', strcmp(biv.version(), libraryVersion{1}));
details = biv.buildInfo();
t.that('build info', strcmp(details.version, biv.version()) && details.abi_version == 1);
if isfield(details, 'blas')
    t.that(['the BLAS is libtorch''s, not ' details.blas], ~isempty(strfind(details.blas, 'libtorch_cpu.so')));
end
t.that('threads are set', biv.numThreads(2) == 2 && biv.numThreads(1) == 1 && biv.numThreads() == 1);
t.raises('biv:InvalidArgument', 'whole number', @() biv.numThreads(1.5));
t.raises('biv:InvalidArgument', 'at least 1', @() biv.numThreads(0));
t.that('CUDA devices are counted', biv.cudaDevices() >= 0);
t.that('schema', ~isempty(strfind(biv.schema('trainer'), '"batch_size"')));
t.raises('biv:InvalidArgument', 'trainer', @() biv.schema('nonsense'));
t.raises('biv:InvalidArgument', 'no command', @() biv_mex('nonsense'));
t.raises('biv:InvalidArgument', 'wrong number', @() biv_mex('model_load'));
t.raises('biv:InvalidArgument', 'command', @() biv_mex());
t.raises('biv:InvalidArgument', 'must be text', @() biv_mex(5));
% MATLAB's grammar of identifiers: words of letters, digits and underscores that begin with a letter, with colons between.
identifiers = regexp(source, '"(biv:[^"]*)"', 'tokens');
t.that('identifiers', numel(identifiers) > 3 && ...
    all(cellfun(@(id) ~isempty(regexp(id{1}, '^biv:([A-Za-z]\w*)?$', 'once')), identifiers)));

% ---- Options ----
t.that('no options', strcmp(biv.json(), '{}'));
t.that('JSON is left alone', strcmp(biv.json('{"a": 1}'), '{"a": 1}'));
t.that('camel case', strcmp(biv.json('BatchSize', 5, 'drop_last', true), '{"batch_size":5,"drop_last":true}'));
t.that('structs', strcmp(biv.json(struct('kind', 'biv', 'epsilon', 0.5)), '{"kind":"biv","epsilon":0.5}'));
t.that('single values', strcmp(biv.json('Hidden', 32, 'Labels', 'y'), '{"hidden":32,"labels":"y"}'));
t.that('empty lists', strcmp(biv.json('Hidden', [], 'OneHot', {}), '{"hidden":[],"one_hot":[]}'));
t.that('lists', strcmp(biv.json('Hidden', [3 2]), '{"hidden":[3,2]}'));
t.that('nested lists', strcmp(biv.json('Components', struct('low', {0, 1})), '{"components":[{"low":0},{"low":1}]}'));
t.that('nothing', strcmp(biv.json('TestSize', []), '{"test_size":[]}'));
t.that('numbers keep their digits', str2double(regexprep(biv.json('Epsilon', 1 / 3), '[^0-9.]', '')) == 1 / 3);
t.that('large whole numbers', strcmp(biv.json('Seed', 2 ^ 53), '{"seed":9007199254740992}'));
t.that('integers', strcmp(biv.json('Seed', uint64(7)), '{"seed":7}'));
t.that('seeds of 64 bits', strcmp(biv.json('Seed', intmax('uint64')), '{"seed":18446744073709551615}'));
t.that('int64', strcmp(biv.json('A', intmin('int64')), '{"a":-9223372036854775808}'));
t.that('text is escaped', strcmp(biv.json('Tag', 'a"b\c'), '{"tag":"a\"b\\c"}'));
t.that('maps', strcmp(biv.json('Cyclic', containers.Map('time of day', 24)), '{"cyclic":{"time of day":24}}'));
t.raises('biv:InvalidConfig', 'options.epsilon: is NaN', @() biv.json('Epsilon', NaN));
t.raises('biv:InvalidConfig', 'options.hidden[2]: is NaN', @() biv.json('Hidden', [1 NaN]));
t.raises('biv:InvalidConfig', 'loss.epsilon: is Inf', @() biv.json('Loss', struct('epsilon', Inf)));
t.raises('biv:InvalidConfig', 'function_handle', @() biv.json('Loss', @sin));
t.raises('biv:InvalidArgument', 'twice', @() biv.json('Seed', 1, 'seed', 2));
t.raises('biv:InvalidArgument', 'pairs', @() biv.json('Seed', 1, 'Rows'));
t.raises('biv:InvalidArgument', 'position 1', @() biv.json(5, 1));

% ---- Data sets ----
x = [1 2 3; 4 5 6; 7 8 9; 10 11 12; 13 14 15];
y = [1; 2; 3; 4; 5];
v = [0; 1; 4; 9; 16];
data = biv.Dataset.fromArrays(x, y, 'Variances', v);
sizes = info(data);
t.that('sizes', isequal([sizes.rows sizes.features sizes.outputs], [5 3 1]));
t.that('variances are known', islogical(sizes.has_variances) && sizes.has_variances && ~sizes.has_clean_labels);
t.that('features come back', isequal(features(data), x));
t.that('labels come back', isequal(labels(data), y) && isequal(cleanLabels(data), y));
t.that('variances come back', isequal(variances(data), v));
withStd = biv.Dataset.fromArrays(single(x), single(y), 'StandardDeviations', single([0; 1; 2; 3; 4]));
t.that('standard deviations, in singles', isequal(variances(withStd), v) && isequal(features(withStd), x));
t.that('doubles come out', isa(features(withStd), 'double') && isa(labels(withStd), 'double'));
several = biv.Dataset.fromArrays(x, [y 2 * y], 'variances', [v v + 1]);
t.that('several outputs', isequal(labels(several), [y 2 * y]) && isequal(variances(several), [v v + 1]));
unknown = biv.Dataset.fromArrays(x, y);
t.raises('biv:Unsupported', 'no variances', @() variances(unknown));
cube = reshape(1:5 * 2 * 3 * 4, [5 2 3 4]);
images = biv.Dataset.fromArrays(cube, y);
t.that('features of four dimensions', isequal(features(images, [2 3 4]), cube));
t.that('and flattened', isequal(size(features(images)), [5 24]));
t.raises('biv:InvalidArgument', 'as many values', @() features(images, [2 3 5]));
t.raises('biv:InvalidArgument', 'whole numbers', @() features(images, [2 3 1.5]));

t.raises('biv:Shape', '4', @() biv.Dataset.fromArrays(x, y(1:4)));
t.raises('biv:Shape', '1 rows', @() biv.Dataset.fromArrays(x, y'));
t.raises('biv:Shape', 'variances', @() biv.Dataset.fromArrays(x, y, 'Variances', v(1:3)));
% Rows, features and labels count from 1, as the language does.
t.raises('biv:InvalidArgument', 'row 5, label 1: NaN', @() biv.Dataset.fromArrays(x, [y(1:4); NaN]));
t.raises('biv:InvalidArgument', 'row 2, label 2: NaN', @() biv.Dataset.fromArrays(x, [y [1; NaN; 3; 4; 5]]));
t.raises('biv:InvalidArgument', 'row 5, feature 3: inf', @() biv.Dataset.fromArrays([x(1:4, :); 1 1 Inf], y));
t.raises('biv:InvalidArgument', 'row 1, variance 1: -1', @() biv.Dataset.fromArrays(x, y, 'Variances', -ones(5, 1)));
t.raises('biv:InvalidArgument', 'row 1, standard', @() biv.Dataset.fromArrays(x, y, 'StandardDeviations', -ones(5, 1)));
t.raises('biv:InvalidArgument', 'row', @() biv.Dataset.fromArrays(zeros(0, 3), zeros(0, 1)));
t.raises('biv:InvalidArgument', 'is int32', @() biv.Dataset.fromArrays(int32(x), y));
t.raises('biv:InvalidArgument', 'is char', @() biv.Dataset.fromArrays(x, 'hello'));
t.raises('biv:InvalidArgument', 'is cell', @() biv.Dataset.fromArrays({1}, y));
t.raises('biv:InvalidArgument', 'is sparse', @() biv.Dataset.fromArrays(sparse(x), y));
t.raises('biv:InvalidArgument', 'is complex', @() biv.Dataset.fromArrays(x * 1i, y));
t.raises('biv:InvalidArgument', '8 dimensions', @() biv.Dataset.fromArrays(zeros([1 1 1 1 1 1 1 1 2]), 1));
t.raises('biv:InvalidArgument', 'not both', @() biv.Dataset.fromArrays(x, y, 'Variances', v, 'StandardDeviations', v));
t.raises('biv:InvalidArgument', '''Variance''', @() biv.Dataset.fromArrays(x, y, 'Variance', v));
t.raises('biv:InvalidArgument', 'missing', @() biv.Dataset.fromArrays(x, y, 'Variances'));

missing = biv.Dataset.fromArrays(x, [NaN; y(2:5)], 'MissingLabels', 'mask', 'Variances', [v(1:4); Inf]);
kept = labels(missing);
t.that('masked labels', getfield(info(missing), 'masked_labels') == 2 && isnan(kept(1)));
t.that('no masked labels', getfield(info(data), 'masked_labels') == 0);
t.raises('biv:InvalidConfig', 'drop', @() biv.Dataset.fromArrays(x, y, 'MissingLabels', 'drop'));
t.raises('biv:Shape', 'groups', @() biv.Dataset.fromArrays(x, y, 'Groups', [1; 2]));
grouped = biv.Dataset.fromArrays(rand(60, 2), rand(60, 1), 'Groups', repmat({'north'; 'south'}, 30, 1));
[~, report] = biv.fit(grouped, 'Members', 2, 'Epochs', 1);
t.that('two groups are two folds', report.rows == 60);
t.raises('biv:InvalidArgument', 'group', @() biv.fit(grouped, 'Members', 3, 'Epochs', 1));

% ---- Tables: a struct of columns here, as Octave has no table ----
homes = struct('area', [10; 20; 30; 40], 'rooms', int8([1 2 3 4]), 'town', {{'a'; 'b'; 'a'; 'b'}}, ...
    'rent', [100; 200; NaN; 400], 'error', [1; 2; 3; 4]);
roles = {'Labels', 'rent', 'StandardDeviations', 'error', 'MissingLabels', 'mask'};
rented = biv.Dataset.fromTable(homes, roles{:}, 'Groups', 'town');
kept = variances(rented);
t.that('a table', isequal(features(rented), [10 1; 20 2; 30 3; 40 4]) && isequal(kept([1 2 4]), [1; 4; 16]) && ...
    getfield(info(rented), 'masked_labels') == 1);
kept = describe(rented);
t.that('its names', isequal({kept.columns.features.name}, {'area', 'rooms'}));
rented = biv.Dataset.fromTable(homes, 'Labels', {'area', 'error'}, 'Features', 'rooms', 'Variances', {'error', 'area'});
t.that('chosen columns of a table', isequal(features(rented), (1:4)') && ...
    isequal(labels(rented), [homes.area homes.error]) && isequal(variances(rented), [homes.error homes.area]));
t.raises('biv:InvalidArgument', 'the column ''town'' is a cell of size [4 1]', @() biv.Dataset.fromTable(homes, roles{:}));
t.raises('biv:NotFound', 'no column ''price'', but area, rooms', @() biv.Dataset.fromTable(homes, 'Labels', 'price'));
t.raises('biv:InvalidArgument', 'Labels: the name', @() biv.Dataset.fromTable(homes));
t.raises('biv:Shape', 'the column ''b'' has 1 rows, ''a'' has 2', ...
    @() biv.Dataset.fromTable(struct('a', [1; 2], 'b', 3, 'y', [1; 2]), 'Labels', 'y'));
homes = struct('rooms', mod((0:59)' * 7, 11), 'area', mod((0:59)' * 5, 13), 'rent', mod((0:59)' * 3, 17));
[letting, report] = biv.fit(homes, struct('members', 2, 'epochs', 1), 'Labels', 'rent');
t.that('a fit of a table', report.rows == 60);
t.that('a model finds its columns', isequal(predict(letting, struct('area', homes.area, 'rooms', homes.rooms)), ...
    predict(letting, [homes.rooms homes.area])));
renting = biv.Trainer.create(letting.copy(), [], 'Loss', struct('kind', 'mse'));
t.that('a trainer too', isequal(predict(renting, homes), predict(letting, homes)));
t.raises('biv:NotFound', 'no column ''rooms''', @() predict(letting, struct('area', 1)));

part = subset(data, [5 1 1]);
t.that('a subset, counted from 1', isequal(labels(part), [5; 1; 1]));
t.that('a mask', isequal(labels(subset(data, v > 3)), [3; 4; 5]));
t.raises('biv:InvalidArgument', 'rows(2): is 6', @() subset(data, [1 6]));
t.raises('biv:InvalidArgument', 'is 0', @() subset(data, 0));
t.raises('biv:InvalidArgument', 'is 1.5', @() subset(data, 1.5));
t.raises('biv:InvalidArgument', 'NaN', @() subset(data, NaN));
t.raises('biv:InvalidArgument', 'cell', @() subset(data, {1}));
t.raises('biv:Shape', 'mask', @() subset(data, true(3, 1)));
t.raises('biv:InvalidArgument', 'row', @() subset(data, []));
mixed = shuffle(data, 3);
t.that('a shuffle keeps the rows', isequal(sort(labels(mixed)), y) && isequal(labels(mixed), labels(shuffle(data, 3))));
t.that('features go with their labels', isequal(features(mixed), x(labels(mixed), :)));
t.that('a seed of 64 bits', ~isequal(labels(shuffle(data, intmax('uint64'))), ...
    labels(shuffle(data, intmax('uint64') - 1))) && numel(biv.sampleNoise(2, intmax('uint64'), 'Kind', 'gamma', ...
    'Mean', 3, 'Variance', 2)) == 2);
t.raises('biv:InvalidArgument', 'seed', @() shuffle(data, -1));
t.raises('biv:InvalidArgument', 'seed: must be a number', @() shuffle(data, 'a'));

% ---- Data that grow ----
text = @(groups) biv.Dataset.fromArrays(rand(30, 2), rand(30, 1), 'Groups', repmat(groups, 15, 1));
grouped = append(text({'north'; 'south'}), text({'south'; 'east'}));
[~, report] = biv.fit(grouped, 'Members', 3, 'Epochs', 1);
t.that('texts are groups in all data sets', report.rows == 60);
t.raises('biv:InvalidArgument', 'group', @() biv.fit(grouped, 'Members', 4, 'Epochs', 1));
grown = append(biv.Dataset.fromArrays(x(1:3, :), y(1:3), 'Variances', v(1:3)), ...
    biv.Dataset.fromArrays(x(4:5, :), y(4:5), 'Variances', v(4:5)));
t.that('rows are appended', isequal(labels(grown), y) && isequal(features(grown), x) && isequal(variances(grown), v));
t.that('a window', isequal(labels(latest(grown, 2)), y(4:5)) && isequal(labels(latest(grown, 9)), y));
t.that('other variances', isequal(variances(withVariances(grown, 2 * v)), 2 * v) && ...
    isequal(variances(withVariances(grown, v, 'StandardDeviations', true)), v .^ 2));
t.raises('biv:InvalidArgument', 'have none', @() append(grown, biv.Dataset.fromArrays(x, y)));
t.raises('biv:InvalidArgument', 'must be a biv.Dataset', @() append(grown, x));
t.raises('biv:InvalidArgument', 'rows', @() latest(grown, 0));
one = biv.Trainer.create(biv.Model.create('Kind', 'mlp', 'Inputs', 3, 'Hidden', 4), grown, 'BatchSize', 2);
other = biv.Trainer.create(biv.Model.create('Kind', 'mlp', 'Inputs', 3, 'Hidden', 4), grown, 'BatchSize', 2);
for k = 1:4
    setData(other, grown);
    t.that('the same data change nothing', isequal(step(one), step(other)));
end
setData(other, append(grown, grown));
step(other);
t.raises('biv:Shape', 'features', @() setData(other, biv.Dataset.synthetic('Rows', 5)));

synthetic = biv.Dataset.synthetic('Rows', 600, 'Features', 10, 'Seed', 7);
f = features(synthetic);
clean = 10 * sin(pi * f(:, 1) .* f(:, 2)) + 20 * (f(:, 3) - 0.5) .^ 2 + 10 * f(:, 4) + 5 * f(:, 5);
t.near('Friedman''s function', labels(synthetic), clean, 1e-4);
[train, test] = split(synthetic, 'TrainSize', 500, 'TestSize', 100, 'Seed', 7);
a = info(train);
b = info(test);
t.that('a split', a.rows == 500 && b.rows == 100);
gamma = struct('kind', 'gamma', 'mean', 20, 'variance', 400);
noisy = addNoise(train, 'Distribution', gamma, 'Seed', 7);
t.that('clean labels are kept', isequal(cleanLabels(noisy), labels(train)) && ~isequal(labels(noisy), labels(train)));
scaled = (labels(noisy) - cleanLabels(noisy)) ./ sqrt(variances(noisy));
t.that('the noise has the variances that are stated', abs(std(scaled) - 1) < 0.1);
t.that('the same options as JSON', isequal(labels(noisy), labels(addNoise(train, ...
    '{"distribution": {"kind": "gamma", "mean": 20, "variance": 400}, "seed": 7}'))));
t.raises('biv:InvalidArgument', '600', @() split(synthetic, 'TrainSize', 700));
t.raises('biv:InvalidConfig', 'train_size', @() split(synthetic, 'TrainSize', 2.5));
t.raises('biv:InvalidConfig', 'train_size', @() split(synthetic));
t.raises('biv:InvalidConfig', 'rows', @() biv.Dataset.synthetic('Rows', 'many'));
t.raises('biv:InvalidConfig', 'colour', @() biv.Dataset.synthetic('Rows', 5, 'Colour', 1));
t.raises('biv:InvalidConfig', 'column 2', @() biv.Dataset.synthetic('no JSON'));
t.raises('biv:InvalidConfig', 'kind', @() addNoise(train, 'Distribution', struct('kind', 'cauchy')));
drawn = biv.sampleNoise(5000, 1, 'Kind', 'gamma', 'Mean', 3, 'Variance', 2);
t.that('noise variances', isequal(size(drawn), [5000 1]) && abs(mean(drawn) - 3) < 0.1 && all(drawn >= 0));
t.raises('biv:InvalidConfig', 'mean', @() biv.sampleNoise(5, 1, 'Kind', 'gamma', 'Mean', -3, 'Variance', 2));
t.raises('biv:InvalidArgument', 'count', @() biv.sampleNoise(-5, 1, 'Kind', 'gamma', 'Mean', 3, 'Variance', 2));

csv = fullfile(folder, 'data.csv');
file = fopen(csv, 'w');
fprintf(file, 'a,b,income,moe\n1,2,10,1.645\n3,4,20,3.29\n');
fclose(file);
table = biv.Dataset.fromCsv(csv, 'Labels', 'income', 'StandardErrors', 'moe', 'ErrorDivisor', 1.645);
t.that('names', strcmp(getfield(describe(table), 'columns', 'labels'), 'income') && isempty(getfield(describe(table), 'left_out')));
t.that('CSV', isequal(features(table), [1 2; 3 4]) && isequal(labels(table), [10; 20]));
t.near('margins of error', variances(table), [1; 4], 1e-12);
t.that('chosen columns', isequal(features(biv.Dataset.fromCsv(csv, 'Labels', {'income'}, 'Features', 'b')), [2; 4]));
t.raises('biv:NotFound', 'wealth', @() biv.Dataset.fromCsv(csv, 'Labels', 'wealth'));
t.raises('biv:NotFound', 'nowhere.csv', @() biv.Dataset.fromCsv('nowhere.csv', 'Labels', 'income'));
t.raises('biv:InvalidArgument', 'path', @() biv.Dataset.fromCsv(5, 'Labels', 'income'));
file = fopen(csv, 'a');
fprintf(file, '5,six,30,1\n');
fclose(file);
t.raises('biv:Parse', 'line 4, row 3, column ''b'': ''six''', @() biv.Dataset.fromCsv(csv, 'Labels', 'income'));
t.raises('biv:InvalidArgument', 'bike', @() biv.Dataset.named('cars', folder));
t.raises('biv:NotFound', 'nowhere', @() biv.Dataset.named('bike', 'nowhere'));
hour = fullfile(getenv('BIV_DATA_DIR'), 'bike', 'hour.csv');
if exist(hour, 'file')
    sizes = info(biv.Dataset.named('bike', hour));
    t.that('Bike Sharing', sizes.rows == 17379 && sizes.features == 19);
end

faces = fullfile(folder, 'faces');
[library, ~] = fileparts(getenv('BIV_LIBRARY'));
[status, printed] = system(sprintf('"%s" faces "%s" --count 6 --size 24 --seed 1', ...
    fullfile(library, '..', 'bin', 'biv'), faces));
t.that(['faces are drawn: ' printed], status == 0);
images = biv.Dataset.fromImages(faces, 'Size', struct('height', 16, 'width', 12));
pixels = features(images, [3 16 12]);
t.that('images', isequal(size(pixels), [6 3 16 12]) && min(pixels(:)) >= 0 && max(pixels(:)) <= 1);
t.that('the colours are in the second dimension', isequal(features(subset(images, 2), [3 16 12]), pixels(2, :, :, :)));
t.raises('biv:NotFound', 'nowhere', @() biv.Dataset.fromImages('nowhere'));

% ---- Models ----
model = biv.Model.create('Kind', 'mlp', 'Inputs', 3, 'Hidden', 4, 'Seed', 1);
sizes = info(model);
t.that('sizes of a model', isequal([sizes.inputs sizes.outputs sizes.parameters], [3 1 21]) && ~sizes.normalized);
description = describe(model);
t.that('description', strcmp(description.options.kind, 'mlp') && strcmp(description.tensors(1).name, '0.weight'));
twin = copy(model);
weights = [tempname() '.safetensors'];
exportTo(model, weights);
setTensor(twin, '0.bias', zeros(4, 1));
t.that('a copy is of its own', ~isequal(predict(twin, x), predict(model, x)));
t.that('weights in', numel(getfield(importWeights(twin, weights), 'imported')) == 4);
t.that('the same weights', isequal(predict(twin, x), predict(model, x)));
delete(weights);
onnx = [tempname() '.onnx'];
exportTo(model, onnx);
t.that('an ONNX file', getfield(dir(onnx), 'bytes') > 400);
t.raises('biv:InvalidArgument', '.onnx or .safetensors', @() exportTo(model, [onnx '.bin']));
delete(onnx);
layers = {struct('kind', 'linear', 'outputs', 4), struct('kind', 'activation', 'function', 'tanh'), ...
    struct('kind', 'dropout', 'p', 0.5), struct('kind', 'linear', 'outputs', 2)};
layered = biv.Model.create('Kind', 'sequential', 'InputShape', 3, 'Layers', layers, 'Seed', 1);
wanted = tanh(x * tensor(layered, '0.weight')' + tensor(layered, '0.bias')') * tensor(layered, '3.weight')';
t.near('a network of layers', predict(layered, x), wanted + tensor(layered, '3.bias')', 1e-5);
w = tensor(model, '0.weight');
c = tensor(model, '0.bias');
t.that('tensors', isequal(size(w), [4 3]) && isequal(size(c), [4 1]));
wanted = max(x * w' + c', 0) * tensor(model, '2.weight')' + tensor(model, '2.bias');
t.near('predictions are those of the weights', predict(model, x), wanted, 1e-5);
setTensor(model, '0.weight', 2 * w);
setTensor(model, '0.bias', single(2 * c));
t.near('set tensors', tensor(model, '0.weight'), 2 * w, 0);
t.near('set tensors count', predict(model, x), 2 * wanted - tensor(model, '2.bias'), 1e-5);
t.that('no rows, no predictions', isequal(size(predict(model, zeros(0, 3))), [0 1]));
t.near('single precision in', predict(model, single(x)), predict(model, x), 0);
t.raises('biv:Shape', '[3, 4]', @() setTensor(model, '0.weight', w'));
t.raises('biv:NotFound', 'nonsense', @() tensor(model, 'nonsense'));
t.raises('biv:NotFound', 'nonsense', @() setTensor(model, 'nonsense', 1));
t.raises('biv:InvalidArgument', 'not finite', @() setTensor(model, '0.bias', NaN(4, 1)));
t.raises('biv:Shape', '2', @() predict(model, x(:, 1:2)));
t.raises('biv:InvalidArgument', 'row 2, feature 1: NaN', @() predict(model, [1 2 3; NaN 2 3]));
t.raises('biv:InvalidArgument', 'is cell', @() predict(model, {1, 2, 3}));
t.raises('biv:InvalidConfig', 'model.inputs: is 2.5', @() biv.Model.create('Kind', 'mlp', 'Inputs', 2.5, 'Hidden', 4));
t.raises('biv:InvalidConfig', 'model.hidden[2]: is -1', @() biv.Model.create('Kind', 'mlp', 'Inputs', 2, 'Hidden', [4 -1]));
t.that('no hidden layers', getfield(info(biv.Model.create('Kind', 'mlp', 'Inputs', 2, 'Hidden', [])), 'inputs') == 2);
t.raises('biv:InvalidConfig', 'kind', @() biv.Model.create('Kind', 'forest'));
t.raises('biv:InvalidConfig', 'kind', @() biv.Model.create());
path = fullfile(folder, 'model.biv');
save(model, path);
t.near('a model comes back from its file', predict(biv.Model.load(path), x), predict(model, x), 0);
t.raises('biv:NotFound', 'nowhere', @() biv.Model.load('nowhere'));
t.raises('biv:NotFound', 'nowhere', @() save(model, fullfile(folder, 'nowhere', 'model.biv')));
t.raises('biv:Corrupt', 'data.csv', @() biv.Model.load(csv));
cnn = biv.Model.create('Kind', 'resnet', 'Depth', 18, 'Height', 16, 'Width', 12);
t.that('a network for images', isequal(size(predict(cnn, pixels)), [6 1]));
kernel = tensor(cnn, 'conv1.weight');
t.that('tensors of four dimensions', ndims(kernel) == 4 && size(kernel, 2) == 3);
setTensor(cnn, 'conv1.weight', kernel);
t.near('they come back', tensor(cnn, 'conv1.weight'), kernel, 0);

% ---- Trainers ----
biv.numThreads(1);
options = struct('loss', struct('kind', 'biv', 'epsilon', 0.1), 'batch_size', 25, 'learning_rate', 0.01, 'seed', 7);
mlp = struct('kind', 'mlp', 'inputs', 10, 'hidden', [32 16], 'seed', 7);
model = biv.Model.create(mlp);
trainer = biv.Trainer.create(model, noisy, options);
result = step(trainer);
t.that('a step', result.rows == 25 && result.samples_used == 25 && result.loss > 0 && result.epsilon == 0.1);
t.that('effective batch size', result.effective_batch_size > 1 && result.effective_batch_size < 25);
state = progress(trainer);
t.that('progress', state.steps == 1 && state.batch == 1 && state.epoch == 0 && ~state.running);
result = stepOn(trainer, f(1:10, :), clean(1:10), ones(10, 1));
t.that('a step on a mini-batch', result.rows == 10);
history = fit(trainer, 3, 'Test', test);
t.that('a history', isequal(size(history), [1 3]) && isequal([history.epoch], 1:3));
metrics = evaluate(trainer, test);
t.that('the test errors are those of evaluate', isequaln(history(3).test, metrics));
t.near('RMSE', sqrt(mean((predict(trainer, features(test)) - labels(test)) .^ 2)), metrics.rmse, 1e-6);
t.near('the model follows', predict(model, f), predict(trainer, f), 0);
inTraining = trainer.model();
t.near('the model in training', predict(inTraining, f), predict(trainer, f), 0);
history = fit(trainer, 1);
t.that('without a test set', isempty(history.test));
trainer.LearningRate = 0.002;
t.that('the learning rate', trainer.LearningRate == 0.002);
t.that('the kernel', strcmp(getfield(describe(trainer), 'kernel'), 'mlp_cpu'));
halving = struct('kind', 'step', 'epochs', 1, 'gamma', 0.5);
nesterov = struct('kind', 'sgd', 'momentum', 0.9, 'nesterov', true);
scheduled = biv.Trainer.create(biv.Model.create(mlp), noisy, 'BatchSize', 25, 'LearningRate', 0.02, ...
    'Optimizer', nesterov, 'Schedule', halving, 'ClipNorm', 1);
result = step(scheduled);
history = fit(scheduled, 3);
t.that('a schedule', result.learning_rate == 0.02 && isequal([history.learning_rate], [0.02 0.01 0.005]));
t.raises('biv:InvalidConfig', 'trainer.optimizer.kind', ...
    @() biv.Trainer.create(model, noisy, 'Optimizer', struct('kind', 'lion')));

history = fit(trainer, 3, 'Callback', @(epoch) assert(epoch.loss >= 0));
t.that('a callback without a result', numel(history) == 3);
history = fit(trainer, 10, 'Callback', @(epoch) epoch.epoch >= history(end).epoch + 2);
t.that('a callback stops', numel(history) == 2);
t.raises('mine:id', 'my own 7', @() fit(trainer, 10, 'Callback', @(epoch) error('mine:id', 'my own %d', 7)));
t.raises('biv:InvalidArgument', 'returned a cell', @() fit(trainer, 10, 'Callback', @(epoch) {1}));
t.raises('biv:Cancelled', 'cancelled', @() fit(trainer, 10, 'Callback', @(epoch) cancel(trainer)));
t.raises('biv:Busy', 'fitting', @() fit(trainer, 10, 'Callback', @(epoch) fit(trainer, 1)));
cancel(trainer);
t.raises('biv:Cancelled', 'before it began', @() fit(trainer, 1));
t.that('training goes on after all that', numel(fit(trainer, 1)) == 1);
t.raises('biv:InvalidArgument', 'function handle', @() fit(trainer, 1, 'Callback', 5));
t.raises('biv:InvalidArgument', 'epochs: is 2.5', @() fit(trainer, 2.5));
t.raises('biv:InvalidArgument', 'epochs: is 0', @() fit(trainer, 0));
t.raises('biv:InvalidArgument', 'whole number', @() fit(trainer, NaN));
t.raises('biv:InvalidArgument', 'epochs', @() fit(trainer, 'ten'));
t.raises('biv:InvalidArgument', 'must be a biv.Dataset', @() fit(trainer, 1, 'Test', f));
t.raises('biv:InvalidArgument', 'must be a biv.Dataset', @() evaluate(trainer, model));
t.raises('biv:Shape', '3', @() evaluate(trainer, data));
t.raises('biv:Shape', '3', @() predict(trainer, x));
t.raises('biv:Shape', 'labels', @() stepOn(trainer, f(1:10, :), clean(1:9), ones(10, 1)));
t.raises('biv:InvalidArgument', 'NaN', @() stepOn(trainer, f(1:10, :), NaN(10, 1), ones(10, 1)));
t.raises('biv:InvalidArgument', 'variances', @() stepOn(trainer, f(1:10, :), clean(1:10)));
t.raises('biv:InvalidConfig', 'epsilon', ...
    @() biv.Trainer.create(model, noisy, 'Loss', struct('kind', 'biv', 'epsilon', -1)));
t.raises('biv:InvalidConfig', 'batch_size', @() biv.Trainer.create(model, noisy, 'BatchSize', 2.5));
t.raises('biv:InvalidArgument', 'variances', @() biv.Trainer.create(model, train));
t.raises('biv:InvalidArgument', 'model: must be a biv.Model', @() biv.Trainer.create(noisy, noisy));
t.raises('biv:InvalidArgument', 'data: must be a biv.Dataset', @() biv.Trainer.create(model, f));
t.raises('biv:Shape', '10', @() biv.Trainer.create(model, data));
t.raises('biv:Device', 'cuda:77', @() biv.Trainer.create(model, noisy, 'Device', 'cuda:77'));
fed = biv.Trainer.create(biv.Model.create(mlp), [], 'Loss', struct('kind', 'mse'), 'Normalize', false);
t.that('a trainer without data', getfield(stepOn(fed, f, clean), 'rows') == 600);
t.raises('biv:Unsupported', 'data set', @() step(fed));

% The rate is checked where it is set; a statement, so not for `raises`.
try
    trainer.LearningRate = -1;
    t.that('a negative learning rate is refused', false);
catch failure
    t.that('a negative learning rate is refused', strcmp(failure.identifier, 'biv:InvalidConfig'));
end

path = fullfile(folder, 'checkpoint.biv');
save(trainer, path);
t.near('the model of a checkpoint', predict(biv.Model.load(path), f), predict(trainer, f), 0);
again = biv.Trainer.load(path, 'Dataset', noisy, 'Device', 'cpu');
fit(trainer, 2);
fit(again, 2);
t.near('a checkpoint goes on bit for bit', predict(again, f), predict(trainer, f), 0);
t.raises('biv:Shape', 'data set', @() biv.Trainer.load(path, 'Dataset', data));
accepted = biv.Trainer.load(path, 'Dataset', shuffle(noisy, 1), 'AcceptData', true);
t.that('other data', step(accepted).loss > 0);
t.raises('biv:InvalidArgument', 'model', @() biv.Trainer.load(fullfile(folder, 'model.biv')));
t.raises('biv:InvalidArgument', '''Data''', @() biv.Trainer.load(path, 'Data', noisy));

% ---- Freeing ----
delete(again);
delete(again);
t.raises('biv:InvalidHandle', 'NULL', @() step(again));
t.raises('biv:InvalidHandle', 'NULL', @() fit(again, 1));
t.raises('biv:InvalidHandle', 'NULL', @() predict(again, f));
t.raises('biv:InvalidHandle', 'NULL', @() again.LearningRate);
t.that('a deleted object is shown as such', ~isempty(strfind(evalc('disp(again)'), 'deleted')));
gone = biv.Dataset.fromArrays(x, y);
delete(gone);
t.raises('biv:InvalidHandle', 'NULL', @() info(gone));
t.raises('biv:InvalidHandle', 'NULL', @() labels(gone));
t.raises('biv:InvalidHandle', 'NULL', @() biv.Trainer.create(biv.Model.create(mlp), gone));
t.raises('biv:InvalidHandle', 'NULL', @() fit(trainer, 1, 'Test', gone));
lost = biv.Model.create(mlp);
delete(lost);
t.raises('biv:InvalidHandle', 'NULL', @() predict(lost, f));
t.raises('biv:InvalidHandle', 'NULL', @() biv.Trainer.create(lost, noisy));
orphan = biv.Trainer.create(biv.Model.create(mlp), addNoise(train, 'Distribution', gamma), options);
t.that('a trainer keeps what it needs', getfield(step(orphan), 'rows') == 25);
t.raises('biv:InvalidHandle', 'never was', @() biv_mex('dataset_info', uint64(12345)));
t.raises('biv:InvalidHandle', 'NULL', @() biv_mex('dataset_info', 12345));
t.that('what is shown has no handle', ~isempty(strfind(evalc('disp(trainer)'), 'steps')));
for i = 1:200
    biv.Dataset.synthetic('Rows', 1000, 'Features', 100);
end
clear biv_mex
t.that('clear does not unload the library', strcmp(biv.version(), libraryVersion{1}) && numel(fit(trainer, 1)) == 1);

% ---- Losses by themselves ----
p = [1; 2; 4];
l = [2; 2; 2];
u = [0.1; 1; 3];
[result, gradient] = biv.loss(p, l, u, 'Kind', 'biv', 'Epsilon', 0.5);
weight = 1 ./ (u + 0.5);
t.near('biv', result.value, sum(weight .* (p - l) .^ 2) / sum(weight), 1e-14);
t.near('its gradient', gradient, 2 * weight .* (p - l) / sum(weight), 1e-14);
t.near('its effective batch size', result.effective_batch_size, sum(weight) ^ 2 / sum(weight .^ 2), 1e-12);
result = biv.loss(p, l, [], 'Kind', 'mse');
t.near('mse', result.value, mean((p - l) .^ 2), 1e-14);
result = biv.loss(p, l, u, struct('kind', 'cutoff_mse', 'threshold', 2));
t.that('cutoff_mse', result.value == 0.5 && result.samples_used == 2);
result = biv.loss(p, l, u, '{"kind": "iv", "epsilon": 0.5}');
t.near('iv', result.value, mean((p - l) .^ 2 .* weight), 1e-14);
result = biv.loss(p, l, u);
t.that('biv with 0.1 is the default', result.epsilon == 0.1);
result = biv.loss(p, l, u, 'Kind', 'biv', 'Epsilon', struct('min_effective_batch_size', 2));
t.near('epsilon by the effective batch size', result.effective_batch_size, 2, 1e-6);
[~, gradient] = biv.loss([p p], [l l], [u u]);
t.that('several outputs', isequal(size(gradient), [3 2]));
t.raises('biv:InvalidArgument', 'variances', @() biv.loss(p, l, []));
t.raises('biv:Shape', 'labels', @() biv.loss(p, l(1:2), u));
t.raises('biv:InvalidArgument', 'NaN', @() biv.loss(p, l, NaN(3, 1)));
t.raises('biv:InvalidConfig', 'epsilon', @() biv.loss(p, l, u, 'Kind', 'biv', 'Epsilon', 0));

[result, gradient] = biv.loss([1 0], 0, 0.5, 'Kind', 'gaussian'); % value 1, variance e = 0.5 + exp(0)
t.near('gaussian', result.value, (log(1.5) + 1 / 1.5) / 2, 1e-14);
t.that('its gradient has two columns', isequal(size(gradient), [1 2]) && abs(gradient(1) - 1 / 1.5) < 1e-14);

% ---- Variance models ----
% Residuals that are normal but for no chance: the quantiles of 1,000 equal parts, for each of two variances.
z = sqrt(2) * erfinv(2 * ((1:1000)' - 0.5) / 1000 - 1);
u = [repmat(0.1, 1000, 1); repmat(10, 1000, 1)];
r = [z; z] .* sqrt(0.8 * u + 0.2);
found = biv.varianceModel(r, u);
t.that(['a profile: ' found.verdict], strcmp(found.verdict, 'profile') && isempty(found.warning) && found.rows == 2000);
t.that('epsilon', found.epsilon_best > 0.2 && found.epsilon_best < 0.3 && found.epsilon >= found.epsilon_best);
t.that('scale', found.scale > 0.75 && found.scale < 0.85);
t.near('tau2', found.tau2, found.scale * found.epsilon, 1e-12);
t.near('mean z^2', found.mean_z2, mean(r .^ 2 ./ (found.scale * u + found.tau2)), 1e-12);
larger = biv.varianceModel(10 * r', 100 * u');
t.near('100 times the variances', larger.epsilon, 100 * found.epsilon, 1e-9);
t.that('overstated variances', ~isempty(strfind(getfield(biv.varianceModel(r, 2.5 * u), 'warning'), 'overstated')));
masked = biv.varianceModel([r; 1e9], [u; Inf]);
t.that('an infinite variance counts nothing', masked.rows == 2000 && abs(masked.epsilon - found.epsilon) < 1e-12);
useless = biv.varianceModel([z; z], u);
t.that('useless variances', strcmp(useless.verdict, 'mse') && useless.epsilon == Inf && useless.scale == 0 && ...
    ~isempty(useless.warning));
t.that('too few rows', strcmp(getfield(biv.varianceModel(r(1:29), u(1:29)), 'verdict'), 'too-few-rows'));
t.that('equal variances', strcmp(getfield(biv.varianceModel(r, ones(2000, 1)), 'verdict'), 'equal-variances'));
t.that('no residuals', strcmp(getfield(biv.varianceModel(0 * r, u), 'verdict'), 'zero-residuals'));
t.raises('biv:Shape', '2000', @() biv.varianceModel(r, u(2:end)));
t.raises('biv:InvalidArgument', 'row 1:', @() biv.varianceModel([NaN; r], [1; u]));
t.raises('biv:InvalidArgument', '-1', @() biv.varianceModel([1; r], [-1; u]));
t.raises('biv:InvalidArgument', 'variances: must be a vector', @() biv.varianceModel(r, [u u]));

% ---- Fitting ----
n = 1000;
truth = @(x) sin(4 * x(:, 1)) + 2 * x(:, 2);
fx = [mod((0:n - 1)', 61) / 61, mod((0:n - 1)', 53) / 53];
fv = repmat([4; 0.01], n / 2, 1);
noise = sqrt(2) * erfinv(2 * (mod((0:n - 1)' * 387, 997) + 0.5) / 997 - 1);
fy = truth(fx) + sqrt(fv) .* noise;
fresh = [mod((0:499)' * 17, 101) / 101, mod((0:499)' * 29, 103) / 103];
network = struct('kind', 'mlp', 'inputs', 2, 'hidden', 32);
settings = struct('members', 3, 'epochs', 30, 'batch_size', 50, 'learning_rate', 0.005);
[fitted, report] = biv.fit(fx, fy, settings, 'Variances', fv, 'Model', network, ...
    'Callback', @(progress) t.keep(progress));
last = t.Kept;
t.that('progress of a fit', last.epoch == last.epochs && last.steps == last.total_steps && last.held_out_loss > 0 && ...
    islogical(last.is_final) && ~last.is_final);
found = report.outputs.variance_model;
t.that('a report', report.members == 3 && report.rows == n && isequal(report.warnings, {}) && ...
    numel(report.history) == report.epochs && last.epochs == report.epochs);
t.that('it knows the noise', found.epsilon > 0 && found.epsilon < 1 && found.scale > 0.7 && found.scale <= 1 && ...
    report.outputs.coverage_68 > 0.6 && report.outputs.coverage_68 < 0.76);
[p, w] = predict(fitted, fresh);
t.that('error bars', isequal(size(w), [500 1]) && all(w > 0) && isequal(p, predict(fitted, fresh)));
rmse = sqrt(mean((p - truth(fresh)) .^ 2));
alike = biv.fit(biv.Dataset.fromArrays(fx, fy, 'StandardDeviations', sqrt(fv)), 'Members', 3, 'Epochs', 30, ...
    'BatchSize', 50, 'LearningRate', 0.005, 'Model', network, 'Loss', struct('kind', 'mse'));
other = sqrt(mean((predict(alike, fresh) - truth(fresh)) .^ 2));
t.that(sprintf('the variances help: %g, without them %g', rmse, other), rmse < 0.7 * other);
bars = errorBars(fitted);
t.near('error bars are those of the report', [bars.scale bars.tau2], [found.scale found.tau2], 1e-6);
metrics = evaluate(fitted, biv.Dataset.fromArrays(fresh, truth(fresh)));
t.near('evaluate', [metrics.rmse metrics.mean_z2], [rmse mean((p - truth(fresh)) .^ 2 ./ w)], 1e-6);
t.that('without variances', isnan(metrics.expected_rmse) && metrics.coverage_95 >= metrics.coverage_68);
metrics = evaluate(fitted, biv.Dataset.fromArrays(fx, fy, 'Variances', fv));
t.near('expected RMSE', metrics.expected_rmse, sqrt(mean(fv)), 1e-12);
[~, report] = biv.fit(fx, fy, 'Members', 3, 'Epochs', 1);
t.that('infinity', report.outputs.variance_model.epsilon == Inf && report.history(1).models.epsilon == Inf && ...
    report.outputs.training_epsilon == Inf);
t.that('a warning', ~isempty(strfind(report.warnings{1}, 'no variances')));
[~, report] = biv.fit(fx, [fy fy], '{"members": 2, "epochs": 1}', 'Variances', [fv fv]);
t.that('several outputs of a fit', numel(report.outputs) == 2 && numel(report.history(1).models) == 2);
gaussian = biv.fit(fx, fy, 'Variances', fv, 'Members', 2, 'Epochs', 5, 'Loss', struct('kind', 'gaussian'), ...
    'Model', struct('kind', 'mean_variance', 'network', network));
[~, w] = predict(gaussian, fresh);
t.that('a network that predicts its variance', all(w > 0) && isempty(errorBars(gaussian)));

path = fullfile(folder, 'fit.biv');
small = {fx, fy, 'Variances', fv, 'Members', 2, 'Epochs', 6, 'Model', network};
t.raises('biv:Cancelled', 'stopped', @() biv.fit(small{:}, 'Checkpoint', path, 'Callback', @(p) p.epoch >= 2));
continued = biv.fit(small{:}, 'Checkpoint', path, 'Callback', @(p) assert(p.epoch >= 2));
t.near('a fit goes on', predict(continued, fresh), predict(biv.fit(small{:}), fresh), 0);
t.raises('mine:id', 'my own', @() biv.fit(small{:}, 'Callback', @(p) error('mine:id', 'my own')));
t.raises('biv:InvalidArgument', 'function handle', @() biv.fit(small{:}, 'Callback', 5));
t.raises('biv:InvalidConfig', 'fit.member: is no known field (did you mean ''members''?)', @() biv.fit(fx, fy, 'Member', 3));
t.raises('biv:InvalidConfig', 'fit.members', @() biv.fit(fx, fy, 'Members', 0));
t.raises('biv:InvalidConfig', 'variances', @() biv.fit(biv.Dataset.fromArrays(fx, fy), 'Variances', fv));
t.raises('biv:InvalidArgument', 'not both', @() biv.fit(fx, fy, settings, 'Epochs', 1));
t.raises('biv:InvalidArgument', 'a value is missing', @() biv.fit(fx, fy, 'Epochs'));
t.raises('biv:InvalidArgument', 'arrays X and Y', @() biv.fit(fx));
t.raises('biv:InvalidHandle', 'NULL', @() biv.fit(gone));
t.raises('biv:Shape', '3', @() biv.fit(fx, fy, 'Model', struct('kind', 'mlp', 'inputs', 3, 'hidden', [])));
t.raises('biv:Unsupported', 'fit', @() t.both(@() predict(biv.Model.create(network), fresh)));
t.raises('biv:Shape', '3', @() t.both(@() predict(fitted, [fresh fresh(:, 1)])));
t.raises('biv:InvalidArgument', 'must be a biv.Dataset', @() evaluate(fitted, fresh));

% ---- Normalisation ----
model = biv.Model.create('Kind', 'mlp', 'Inputs', 3, 'Hidden', 8);
before = predict(model, x);
t.that('no normalisation', isempty(normalization(model)) && isempty(errorBars(model)));
setNormalization(model, 'FeatureMean', 0, 'FeatureStd', 1, 'LabelMean', 5, 'LabelStd', 2);
t.near('that of the labels is undone', predict(model, x), 2 * before + 5, 1e-4);
scale = struct('feature_mean', [1; 2; 3], 'feature_std', [2; 2; 4], 'label_mean', 0, 'label_std', 1);
setNormalization(model, scale);
t.that('it comes back', isequal(normalization(model), scale) && getfield(info(model), 'normalized'));
t.near('that of the features is applied', predict(model, x .* [2 2 4] + [1 2 3]), before, 1e-4);
kept = biv.Trainer.create(model, data, 'BatchSize', 5);
t.that('a trainer keeps it', isequal(normalization(kept.model()), scale));
resetNormalization(model);
t.that('it is taken away', isequal(predict(model, x), before) && isempty(normalization(model)));
t.raises('biv:InvalidArgument', 'no deviation', @() setNormalization(model, setfield(scale, 'feature_std', 0)));
t.raises('biv:InvalidArgument', 'LabelStd: is missing', ...
    @() setNormalization(model, 'FeatureMean', 0, 'FeatureStd', 1, 'LabelMean', 5));
t.raises('biv:InvalidArgument', 'one of the names FeatureMean', @() setNormalization(model, 'Mean', 0));

% ---- A validation set ----
[train, validation] = split(biv.Dataset.fromArrays(fx, fy, 'Variances', fv), 'TrainSize', 700);
trainer = biv.Trainer.create(biv.Model.create(network), train, 'Loss', struct('kind', 'biv', 'epsilon', 'auto'), ...
    'BatchSize', 50, 'LearningRate', 0.02, 'Patience', 3, 'Normalization', 'labels');
t.raises('biv:InvalidArgument', 'validation', @() fit(trainer, 1));
setValidation(trainer, validation);
history = fit(trainer, 200);
t.that('patience ends', numel(history) >= 4 && numel(history) < 200 && ...
    history(end).best_epoch == numel(history) - 3 && all(isfinite([history.validation_loss])));
t.that('the model is the trainer''s', isequaln(evaluate(trainer.model(), validation), evaluate(trainer, validation)));
history = fit(orphan, 1);
t.that('without a validation set', isnan(history.validation_loss) && history.best_epoch == 0);
t.raises('biv:Shape', '2', @() setValidation(orphan, validation));
t.raises('biv:InvalidArgument', 'must be a biv.Dataset', @() setValidation(trainer, fx));

% ---- The log ----
threads = biv.numThreads();
biv.setLog('info');
lines = biv.messages();
t.that('what is in use is said', any(strncmp(lines, 'info: this is libbiv', 20)));
t.that('nothing is said twice', isempty(biv.messages()));
biv.setLog('warning');
biv.numThreads(1001);
biv.numThreads(1002);
lines = biv.messages();
t.that('warnings are said', isequal(size(lines), [2 1]) && ~isempty(strfind(lines{2}, 'warning: 1002 threads')));
biv.setLog('silent');
biv.numThreads(1003);
t.that('silence', isempty(biv.messages()));
biv.numThreads(threads);
t.raises('biv:InvalidArgument', 'level', @() biv.setLog('loud'));

% ---- Experiments ----
config = struct('dataset', struct('kind', 'synthetic', 'train_size', 500, 'test_size', 100), 'epochs', 2, ...
    'noise', struct('distribution', gamma), 'batch_size', 50, 'out', fullfile(folder, 'run'));
resolved = biv.resolveExperiment(config);
t.that('an experiment''s defaults', strcmp(resolved.loss.kind, 'biv') && resolved.epochs == 2);
t.raises('biv:InvalidConfig', 'colour', @() biv.resolveExperiment(struct('colour', 1)));
result = biv.runExperiment(config, @(p) p.done < 0);
t.that('an experiment', result.epochs == 2 && result.last.rmse > 0 && ...
    exist(fullfile(folder, 'run', 'report.html'), 'file') == 2);
config = rmfield(config, 'out');
t.raises('biv:Cancelled', 'stopped after mini-batch 1', @() biv.runExperiment(config, @(p) true));
t.raises('mine:id', 'training run', @() biv.runExperiment(config, @(p) error('mine:id', '%s run', p.stage)));
t.raises('biv:InvalidArgument', 'function handle', @() biv.runExperiment(config, 'f'));
sweep = struct('base', config, 'grid', struct('seeds', [1 2], 'losses', {{struct('kind', 'mse'), ...
    struct('kind', 'biv')}}), 'out', fullfile(folder, 'sweep'), 'jobs', 1);
result = biv.runSweep(sweep, @(p) assert(ischar(p.run)));
t.that('a sweep', numel(result.table) == 2 && numel(result.runs) == 4);
t.raises('biv:InvalidConfig', 'grid', @() biv.runSweep(struct('base', config, 'grid', struct('nonsense', 1))));

% ---- Ctrl-C, which ends a script: in a process of its own ----
if isOctave
    script = fullfile(folder, 'interrupted.m');
    file = fopen(script, 'w');
    fprintf(file, 'addpath(''%s'', ''%s'')\n', fullfile(here, '..'), built);
    fprintf(file, 'data = biv.Dataset.synthetic(''Rows'', 500);\n');
    fprintf(file, 'model = biv.Model.create(''Kind'', ''mlp'', ''Inputs'', 10, ''Hidden'', 8);\n');
    fprintf(file, 'trainer = biv.Trainer.create(model, data, ''Loss'', struct(''kind'', ''mse''));\n');
    fprintf(file, 'after = onCleanup(@() disp(numel(trainer.fit(3))));\n');
    fprintf(file, 'trainer.fit(1000000, ''Callback'', @(epoch) kill(getpid(), 2) < 0);\n');
    fclose(file);
    program = fullfile(OCTAVE_HOME(), 'bin', 'octave-cli');
    [status, printed] = system(sprintf('timeout 60 "%s" --norc --no-history "%s" 2>&1', program, script));
    t.that(['after Ctrl-C, training goes on: ' printed], status == 1 && ~isempty(regexp(printed, '^3\s*$', 'once')));
end

% ---- Help, examples, parity ----
shown = evalc('help biv.Trainer');
t.that('help', ~isempty(strfind(shown, 'biv.Trainer.create(model, data')) && ~isempty(strfind(shown, 'epsilon 0.1')));
t.that('help of a method', ~isempty(strfind(evalc('help biv.Trainer.fit'), 'HISTORY')));
outputs = {'quickstart', 'predicted 1.(4|5)'; 'county_incomes', 'biv  RMSE'; 'early_stopping', 'the model kept'; ...
    'save_and_load', 'the same: 1'; 'compare_losses', 'BIV .*learning curves'; 'fit_data', 'RMSE against the truth 0.0'};
for i = 1:size(outputs, 1)
    printed = t.script(fullfile(here, '..', 'examples', [outputs{i, 1} '.m']));
    t.that(['example ' outputs{i, 1} ': ' printed], ~isempty(regexp(printed, outputs{i, 2}, 'once')));
end
paths = {fullfile(folder, 'parity1'), fullfile(folder, 'parity2')};
bytes = cell(1, 2);
for i = 1:2
    t.script(fullfile(here, 'parity.m'), paths{i});
    file = fopen(paths{i}, 'r');
    bytes{i} = fread(file);
    fclose(file);
end
t.that('parity: 121 values, the same twice', numel(bytes{1}) == 968 && isequal(bytes{:}));

if isOctave
    confirm_recursive_rmdir(false, 'local');
    name = 'octave';
else
    name = 'matlab';
end
rmdir(folder, 's');
if t.Failed > 0
    error('biv:Tests', '%d tests failed', t.Failed);
end
fprintf('%s %s: %d tests\n', name, version(), t.Passed);
