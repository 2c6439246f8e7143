function text = schema(name)
%biv.schema  The JSON Schema of options, as text: every field with its description and default.
%   NAME is 'arrays', 'csv', 'synthetic', 'split', 'noise', 'distribution', 'loss', 'model', 'trainer', 'fit', 'images',
%   'settings', 'experiment' or 'sweep'.

text = biv_mex('schema', name);
end
