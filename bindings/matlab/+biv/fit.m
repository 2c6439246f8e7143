function [model, report] = fit(x, varargin)
%biv.fit  Makes a trained model with error bars of data; nothing has to be tuned.
%   [MODEL, REPORT] = biv.fit(X, Y, 'Variances', V)   arrays, with the pairs of biv.Dataset.fromArrays
%   [MODEL, REPORT] = biv.fit(T, 'Labels', 'y', ...)  a table or a struct of columns, with those of biv.Dataset.fromTable
%   [MODEL, REPORT] = biv.fit(DATA)                   a biv.Dataset
%
%   Five networks are trained side by side, each on the rows outside a fold of its own. What they miss of the other rows
%   gives the weights of the labels, the epoch to stop at and the size of the errors. MODEL, a biv.Model, predicts their
%   mean; [Y, V] = predict(MODEL, X) also gives the variances of its errors.
%
%   More pairs
%       'Model', M      a struct or JSON that describes one network, as for biv.Model.create; by default a
%                       multi-layer perceptron with hidden layers of 100 and 50
%       'Callback', F   F is called some ten times a second with a struct: epoch, epochs, steps, total_steps,
%                       held_out_loss, epsilon, is_final. It may return true to stop, which is then the error
%                       biv:Cancelled. An error in it stops the fit and comes out as it is.
%   Options and defaults: 'Members' 5, 'Epochs' 100, 'BatchSize' 256, 'LearningRate' 0.001, 'Seed' 0, 'Device' 'cpu',
%   'Loss' struct('kind', 'biv', 'epsilon', 'auto'), 'Checkpoint' none: with a file, the same call goes on after a stop.
%   biv.schema('fit') has them all. A struct or JSON may stand in their place, before the other pairs:
%   biv.fit(X, Y, struct('members', 3), 'Variances', V).
%
%   REPORT is a struct: outputs has for each output the variance_model, rmse, coverage_68 and so on of held-out rows, in
%   the labels' units; warnings, a cell array of texts, is what you should know; history has each epoch. An infinite
%   epsilon, which stands for equal weights, is Inf.
%
%   Errors are biv:InvalidConfig for options, biv:Shape where model and data do not fit, biv:InvalidArgument for fewer
%   rows or groups than members.
%
%   Example
%       [model, report] = biv.fit(x, y, 'Variances', v, 'Members', 3);
%       [prediction, variance] = predict(model, xNew);
%
%   See also biv.varianceModel, biv.Dataset, biv.Model.

own = struct('Model', [], 'Callback', []);
arrays = {};
isTable = isstruct(x) || isa(x, 'table');
if isTable
    arrays = {'Labels', 'Features', 'Variances', 'StandardDeviations', 'Groups', 'MissingLabels'};
elseif ~isa(x, 'biv.Dataset')
    if isempty(varargin)
        error('biv:InvalidArgument', 'give arrays X and Y, a table, or a biv.Dataset');
    end
    y = varargin{1};
    varargin(1) = [];
    arrays = {'Variances', 'StandardDeviations', 'Groups', 'MissingLabels', 'Columns'};
end
options = {};
if ~isempty(varargin) && (isstruct(varargin{1}) || any(strncmp(varargin{1}, '{', 1)))
    options = varargin(1);
    varargin(1) = [];
end
[ofArrays, rest] = taken(varargin, arrays);
[ofFit, rest] = taken(rest, fieldnames(own)');
if isempty(options)
    options = rest;
elseif ~isempty(rest)
    error('biv:InvalidArgument', 'options: give a struct, JSON or pairs, not both');
end
own = biv.parse(own, ofFit{:});
if isTable
    data = biv.Dataset.fromTable(x, ofArrays{:});
elseif isempty(arrays)
    data = x;
else
    data = biv.Dataset.fromArrays(x, y, ofArrays{:});
end
network = [];
if ~isempty(own.Model)
    network = biv.json(own.Model);
end
keeper = biv.Callback(own.Callback, false);
try
    [model, report] = biv.Model.ofFit(network, data, biv.json(options{:}), @(event) call(keeper, event));
catch failure
    raise(keeper, failure);
end
report = withInfinity(jsondecode(report));
if isempty(report.warnings)
    report.warnings = {};
end
end

function [mine, rest] = taken(pairs, names)
% The pairs whose names are among `names`, and the others.
if mod(numel(pairs), 2) ~= 0
    error('biv:InvalidArgument', 'a name or a value is missing in the pairs of biv.fit');
end
isMine = false(1, numel(pairs));
for i = 1:2:numel(pairs)
    isMine(i:i + 1) = (ischar(pairs{i}) || isstring(pairs{i})) && any(strcmpi(pairs{i}, names));
end
mine = pairs(isMine);
rest = pairs(~isMine);
end

function value = withInfinity(value)
% Inf where an epsilon is null, which JSON has for infinity.
if iscell(value)
    value = cellfun(@withInfinity, value, 'UniformOutput', false);
elseif isstruct(value)
    names = fieldnames(value);
    for i = 1:numel(value)
        for j = 1:numel(names)
            field = value(i).(names{j});
            if isempty(field) && isnumeric(field) && any(strcmp(names{j}, {'epsilon', 'training_epsilon', 'epsilon_best'}))
                value(i).(names{j}) = Inf;
            elseif isstruct(field) || iscell(field)
                value(i).(names{j}) = withInfinity(field);
            end
        end
    end
end
end
