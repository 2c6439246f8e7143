function [values, names] = tableColumns(table, names)
%biv.tableColumns  Columns of a table as a matrix; for the package itself.
%   [VALUES, NAMES] = biv.tableColumns(TABLE, NAMES): TABLE is a table, or a struct whose fields are its columns, vectors of
%   one length. NAMES is a name or a cell array of names.
%   [~, NAMES] = biv.tableColumns(TABLE) only lists the columns.

if isa(table, 'table')
    table = table2struct(table, 'ToScalar', true);
end
known = fieldnames(table)';
values = [];
if nargin < 2
    names = known;
    return
end
names = cellstr(names);
for i = 1:numel(names)
    if ~any(strcmp(names{i}, known))
        error('biv:NotFound', 'there is no column ''%s'', but %s', names{i}, strjoin(known, ', '));
    end
    column = table.(names{i});
    if ~(isnumeric(column) || islogical(column)) || ~isreal(column) || ~isvector(column)
        error('biv:InvalidArgument', 'the column ''%s'' is a %s of size %s, must be a vector of numbers', names{i}, ...
            class(column), mat2str(size(column)));
    elseif i > 1 && numel(column) ~= rows
        error('biv:Shape', 'the column ''%s'' has %d rows, ''%s'' has %d', names{i}, numel(column), names{1}, rows);
    end
    rows = numel(column);
    values(1:rows, i) = double(column(:));
end
end
