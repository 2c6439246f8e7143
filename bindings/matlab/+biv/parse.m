function values = parse(defaults, varargin)
%biv.parse  Reads the name-value pairs of a function of the package; for the package itself.
%   VALUES = biv.parse(DEFAULTS, NAME, VALUE, ...) is the struct DEFAULTS with the fields NAME, in any case,
%   replaced. Another name is the error biv:InvalidArgument.

values = defaults;
names = fieldnames(defaults);
if mod(numel(varargin), 2) ~= 0
    error('biv:InvalidArgument', 'a name or a value is missing in the pairs of %s', strjoin(names', ', '));
end
for i = 1:2:numel(varargin)
    match = find(strcmpi(varargin{i}, names));
    if numel(match) ~= 1
        if ~ischar(varargin{i}) && ~isstring(varargin{i})
            varargin{i} = ['a ' class(varargin{i})];
        end
        error('biv:InvalidArgument', '''%s'' is not one of the names %s', varargin{i}, strjoin(names', ', '));
    end
    values.(names{match}) = varargin{i + 1};
end
end
