function text = json(varargin)
%biv.json  Options as JSON text, which is what the library reads.
%   biv.json(NAME, VALUE, ...)  an object of these fields. NAME is the option's name, or the same in camel case:
%                               'batch_size' and 'BatchSize' are one.
%   biv.json(STRUCT)            the same from a struct; in it, names are as they are.
%   biv.json(TEXT)              TEXT, taken for JSON.
%   biv.json()                  {}, all defaults.
%
%   Every function of the package that has options takes them in these forms. Values are numbers, true and
%   false, text, structs, cell arrays (lists) and containers.Map (for keys that are no valid field names, as some
%   columns). Arrays of more or less than one element are lists. The
%   library takes a single value where an option is a list ('Hidden', 32 is [32]; 'Labels', 'Income' is ["Income"]), and
%   [] for null. Numbers keep all their digits, also those of int64 and uint64; NaN and infinity are the error biv:InvalidConfig.
%
%   Example
%       biv.json('Loss', struct('kind', 'biv', 'epsilon', 0.5), 'BatchSize', 64)

if nargin == 0
    text = '{}';
elseif nargin == 1 && (ischar(varargin{1}) || isstring(varargin{1}))
    text = char(varargin{1});
elseif nargin == 1 && isstruct(varargin{1})
    text = encode(varargin{1}, 'options');
else
    if mod(nargin, 2) ~= 0
        error('biv:InvalidArgument', ...
            'options: must be pairs of a name and a value, one struct, or one text of JSON');
    end
    names = varargin(1:2:end);
    options = containers.Map();
    for i = 1:numel(names)
        if ~ischar(names{i}) && ~isstring(names{i})
            error('biv:InvalidArgument', 'options: the name in position %d is a %s, must be text', ...
                2 * i - 1, class(names{i}));
        end
        name = lower(regexprep(char(names{i}), '([a-z0-9])([A-Z])', '$1_$2'));
        if isKey(options, name)
            error('biv:InvalidArgument', 'options: ''%s'' is there twice', name);
        end
        options(name) = varargin{2 * i};
    end
    text = encode(options, 'options');
end
end

function text = encode(value, path)
% `path` is where the value is.
if isstruct(value) && isscalar(value)
    text = object(fieldnames(value), struct2cell(value), path);
elseif isa(value, 'containers.Map')
    text = object(keys(value), values(value), path);
elseif ischar(value) || isstring(value)
    text = jsonencode(char(value));
elseif (isnumeric(value) || islogical(value)) && isscalar(value)
    text = scalar(value, path);
elseif iscell(value) || isstruct(value) || isnumeric(value) || islogical(value)
    if ~iscell(value)
        value = num2cell(value);
    end
    parts = cell(1, numel(value));
    for i = 1:numel(value)
        parts{i} = encode(value{i}, sprintf('%s[%d]', path, i));
    end
    text = ['[' strjoin(parts, ',') ']'];
else
    error('biv:InvalidConfig', '%s: a %s cannot be an option', path, class(value));
end
end

function text = object(names, values, path)
parts = cell(1, numel(names));
for i = 1:numel(names)
    parts{i} = [jsonencode(names{i}) ':' encode(values{i}, [path '.' names{i}])];
end
text = ['{' strjoin(parts, ',') '}'];
end

function text = scalar(value, path)
if islogical(value)
    names = {'false', 'true'};
    text = names{value + 1};
elseif ~isreal(value) || ~isfinite(value)
    error('biv:InvalidConfig', '%s: is %s, must be a finite number', path, num2str(value));
elseif isinteger(value)
    formats = {'%d', '%u'};
    text = sprintf(formats{1 + (value > 0)}, value);
else
    text = sprintf('%.17g', double(value));
end
end
