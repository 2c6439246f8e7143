classdef Dataset < biv.Handle
    %biv.Dataset  Features, labels and, where they are known, the variances of the labels' noise.
    %   A data set never changes: a method that changes something returns a new one. Rows are observations:
    %   features are n x d (or n x ... for images), labels and variances n x 1, or n x m for m outputs.
    %   Labels have a unit of their own; variances are in its square. Features are kept in single precision, labels
    %   and variances in double. NaN and infinity are refused, but an infinite variance masks its label: it has no weight
    %   and counts in no statistic and no metric.
    %
    %   To make one
    %       biv.Dataset.fromArrays(x, y, 'Variances', v)                 your own arrays
    %       biv.Dataset.fromArrays(x, y, 'StandardDeviations', s)        s in the labels' unit
    %       biv.Dataset.fromTable(t, 'Labels', 'y', 'Variances', 'v')    a table, or a struct of columns
    %       biv.Dataset.fromCsv(file, 'Labels', 'y', ...)                a CSV file with a header
    %       biv.Dataset.named('bike', file)                              Bike Sharing, or 'wine'
    %       biv.Dataset.fromImages(folder, ...)                          images whose names begin with the label
    %       biv.Dataset.synthetic('Rows', 2000, ...)                     Friedman's function, without noise
    %
    %   To use it
    %       info, describe                                               sizes; names, and what was left out
    %       features, labels, cleanLabels, variances                     copies of the values
    %       addNoise, split, subset, shuffle                             new data sets
    %       append, latest, withVariances                                new ones that share this one's memory
    %       delete                                                       frees it now
    %
    %   Options are name-value pairs, a struct or JSON (see biv.json); biv.schema describes them.
    %   Errors are biv:Shape, biv:InvalidArgument, biv:InvalidConfig, biv:NotFound, biv:Parse and so on, with the
    %   library's message.
    %
    %   Example
    %       data = biv.Dataset.synthetic('Rows', 600, 'Seed', 7);
    %       [train, test] = split(data, 'TrainSize', 500, 'Seed', 7);
    %       noise = struct('kind', 'gamma', 'mean', 20, 'variance', 400);
    %       noisy = addNoise(train, 'Distribution', noise, 'Seed', 7);
    %
    %   See also biv.Model, biv.Trainer.

    methods (Static)
        function data = fromArrays(x, y, varargin)
            %FROMARRAYS  A data set of arrays of doubles or singles, which are copied.
            %   fromArrays(X, Y)                            X is n x d, Y is n x 1 or n x m
            %   fromArrays(X, Y, 'Variances', V)            V is as Y, in the square of its unit, at least 0
            %   fromArrays(X, Y, 'StandardDeviations', S)   S is as Y, in its unit
            %   fromArrays(X, Y, 'Groups', G)               an element for each row, numbers or a cell array of texts:
            %                                               no fold of biv.fit parts rows whose elements are equal
            %   fromArrays(X, Y, 'MissingLabels', 'mask')   labels that are NaN are masked, not refused
            %   fromArrays(X, Y, 'Columns', NAMES)          a cell array of the features' names, for fromTable and predict
            given = biv.parse(struct('Variances', [], 'StandardDeviations', [], 'Groups', [], ...
                'MissingLabels', 'error', 'Columns', []), varargin{:});
            withStd = ~isempty(given.StandardDeviations);
            if withStd && ~isempty(given.Variances)
                error('biv:InvalidArgument', 'give Variances or StandardDeviations, not both');
            end
            noise = given.Variances;
            if withStd
                noise = given.StandardDeviations;
            end
            groups = [];
            if ~isempty(given.Groups)
                groups = biv.Dataset.groupNumbers(given.Groups(:));
            end
            options = struct('standard_deviations', withStd, 'missing_labels', given.MissingLabels);
            if ~isempty(given.Columns)
                options.columns = cellstr(given.Columns);
            end
            data = biv.Dataset(biv_mex('dataset_from_arrays', x, y, noise, groups, biv.json(options)));
        end

        function data = fromTable(table, varargin)
            %FROMTABLE  A data set of a table's columns, which are found by their names.
            %   fromTable(T, 'Labels', 'income', 'StandardDeviations', 'income_err'): T is a table (Octave has none) or a
            %   struct whose fields are columns of numbers. 'Labels', 'Variances' and 'StandardDeviations' are names or
            %   cell arrays of them, 'Groups' is one name; 'Features' are all other columns by default. 'MissingLabels' is
            %   as for fromArrays. A model that is trained on it finds its features in the tables that predict is given.
            given = biv.parse(struct('Labels', [], 'Features', [], 'Variances', [], 'StandardDeviations', [], ...
                'Groups', [], 'MissingLabels', 'error'), varargin{:});
            if isempty(given.Labels)
                error('biv:InvalidArgument', 'Labels: the name of a column is missing');
            end
            y = biv.tableColumns(table, given.Labels);
            pairs = {'MissingLabels', given.MissingLabels};
            taken = cellstr(given.Labels);
            for name = {'Variances', 'StandardDeviations'}
                if ~isempty(given.(name{1}))
                    taken = [taken(:)' reshape(cellstr(given.(name{1})), 1, [])];
                    pairs = [pairs name {biv.tableColumns(table, given.(name{1}))}]; %#ok<AGROW>
                end
            end
            if ~isempty(given.Groups)
                taken{end + 1} = char(given.Groups);
                pairs = [pairs {'Groups', table.(char(given.Groups))}];
            end
            if isempty(given.Features)
                [~, names] = biv.tableColumns(table);
                given.Features = names(~ismember(names, taken));
            end
            x = biv.tableColumns(table, given.Features);
            data = biv.Dataset.fromArrays(x, y, pairs{:}, 'Columns', given.Features);
        end

        function data = fromCsv(path, varargin)
            %FROMCSV  Reads a CSV file with a header.
            %   fromCsv(FILE, 'Labels', NAMES, ...) takes the columns NAMES, a text or a cell array, as labels.
            %   Options: 'Variances' or 'StandardErrors' (columns), 'ErrorDivisor' (1.645 for margins of error at
            %   90 %), 'Features' (columns; all others by default), 'OneHot' (columns), 'Cyclic' (a struct or
            %   containers.Map from column to period), 'Delimiter', 'SkipMissing', 'Group' (a column, see fromArrays),
            %   'MissingLabels', 'error' or 'mask'.
            data = biv.Dataset(biv_mex('dataset_from_csv', path, biv.json(varargin{:})));
        end

        function data = named(name, path)
            %NAMED  Reads a published data set from its files.
            %   named('bike', FILE) is UCI Bike Sharing, hour.csv; named('wine', FOLDER) UCI Wine Quality.
            data = biv.Dataset(biv_mex('dataset_named', name, path));
        end

        function data = fromImages(folder, varargin)
            %FROMIMAGES  Reads a folder of JPEG, PNG and WebP images whose names begin with the label, up to the first _.
            %   Options: 'Size', struct('height', 64, 'width', 64); 'Corrupt', 'refuse' or 'skip'; 'MemoryLimit' in
            %   bytes. A row of the features has shape [3 height width] and values from 0 to 1.
            data = biv.Dataset(biv_mex('dataset_from_images', folder, biv.json(varargin{:})));
        end

        function data = synthetic(varargin)
            %SYNTHETIC  A data set of a known function, Friedman's first, without noise.
            %   synthetic('Rows', N, 'Features', 10, 'Outputs', 1, 'Seed', 0)
            data = biv.Dataset(biv_mex('dataset_synthetic', biv.json(varargin{:})));
        end
    end

    methods
        function noisy = addNoise(this, varargin)
            %ADDNOISE  A copy with simulated noise on the labels and the variances of that noise.
            %   Options: 'Distribution', of the variances, a struct: kind 'uniform' with low, high; 'gamma' with mean,
            %   variance or alpha, beta; 'binary_uniform' with components. 'Relative' (multiples of the labels' own
            %   variance), 'Disturbance', 'Shuffled', 'Seed'. The labels before it are kept beside the noisy ones.
            noisy = biv.Dataset(biv_mex('dataset_add_noise', this.Key, biv.json(varargin{:})));
        end

        function [train, test] = split(this, varargin)
            %SPLIT  Two data sets of copies: of the first 'TrainSize' rows and of the last 'TestSize' (default: all others).
            %   The rows are shuffled first, unless 'Shuffle' is false. Options: 'Shuffle', 'KeepGroups', 'Seed'.
            [train, test] = biv_mex('dataset_split', this.Key, biv.json(varargin{:}));
            train = biv.Dataset(train);
            test = biv.Dataset(test);
        end

        function part = subset(this, rows)
            %SUBSET  A copy of the given rows, in that order; a row may occur more than once.
            %   ROWS counts from 1, or is a logical array with an element for each row.
            count = biv_mex('dataset_info', this.Key);
            count = count.rows;
            if islogical(rows)
                if numel(rows) ~= count
                    error('biv:Shape', 'rows: the mask has %d elements, the data set has %d rows', numel(rows), count);
                end
                rows = find(rows);
            end
            if ~isnumeric(rows) || ~isreal(rows)
                error('biv:InvalidArgument', 'rows: must be numbers of rows or a mask, is a %s', class(rows));
            end
            rows = double(rows);
            wrong = find(rows ~= fix(rows) | ~(rows >= 1 & rows <= count), 1);
            if ~isempty(wrong)
                error('biv:InvalidArgument', 'rows(%d): is %g, must be a whole number from 1 to %d', ...
                    wrong, rows(wrong), count);
            end
            part = biv.Dataset(biv_mex('dataset_subset', this.Key, rows));
        end

        function shuffled = shuffle(this, seed)
            %SHUFFLE  A copy with the rows in a random order, which SEED, a whole number (default 0), determines.
            if nargin < 2
                seed = 0;
            end
            shuffled = biv.Dataset(biv_mex('dataset_shuffle', this.Key, seed));
        end

        function grown = append(this, more)
            %APPEND  The rows of this data set and then those of another, in shared memory.
            %   GROWN = append(DATA, MORE) takes time for the new rows only. Rows of equal 'Groups' are one group.
            grown = biv.Dataset(biv_mex('dataset_append', this.Key, biv.Dataset.keyOf(more, 'biv.Dataset', 'more')));
        end

        function window = latest(this, rows)
            %LATEST  The last ROWS rows, or all where there are no more, in shared memory.
            window = biv.Dataset(biv_mex('dataset_latest', this.Key, rows));
        end

        function same = withVariances(this, noise, varargin)
            %WITHVARIANCES  The same rows with other variances of the labels' noise.
            %   withVariances(DATA, V)                               V is as the labels, in the square of their unit
            %   withVariances(DATA, S, 'StandardDeviations', true)   S is in their unit
            same = biv.Dataset(biv_mex('dataset_with_variances', this.Key, noise, biv.json(varargin{:})));
        end

        function sizes = info(this)
            %INFO  A struct with rows, features, outputs, has_variances, has_clean_labels, left_out and masked_labels.
            %   features is the number of values in a row, left_out the number of images or rows that were left out,
            %   masked_labels the number of labels that are missing or of infinite variance.
            sizes = biv_mex('dataset_info', this.Key);
        end

        function description = describe(this)
            %DESCRIBE  A struct with the columns, by name, and what was left out when the data were read.
            description = jsondecode(biv_mex('dataset_describe', this.Key));
        end

        function x = features(this, shape)
            %FEATURES  A copy of the features, n x d.
            %   FEATURES(DATA, SHAPE), for rows of more dimensions: SHAPE is that of a row, for images
            %   [3 height width], and the result n x 3 x height x width.
            if nargin < 2
                shape = [];
            elseif ~isa(shape, 'double') || any(shape(:) ~= fix(shape(:))) || any(shape(:) < 1)
                error('biv:InvalidArgument', 'shape: must be whole numbers greater than 0');
            end
            x = biv_mex('dataset_features', this.Key, shape);
        end

        function y = labels(this)
            %LABELS  A copy of the labels, n x m, in their unit.
            y = biv_mex('dataset_labels', this.Key);
        end

        function y = cleanLabels(this)
            %CLEANLABELS  A copy of the labels as they were before simulated noise; without such noise, the labels.
            y = biv_mex('dataset_clean_labels', this.Key);
        end

        function v = variances(this)
            %VARIANCES  A copy of the variances of the labels' noise, n x m; biv:Unsupported when they are unknown.
            v = biv_mex('dataset_variances', this.Key);
        end
    end

    methods (Hidden)
        function text = summary(this)
            % For disp: the object in a line.
            sizes = info(this);
            known = {'unknown', 'known'};
            text = sprintf('%d rows, %d features, %d outputs, variances %s', ...
                sizes.rows, sizes.features, sizes.outputs, known{sizes.has_variances + 1});
        end
    end

    methods (Static, Access = private)
        function numbers = groupNumbers(groups)
            % A number for each group, that of a text the same one in all data sets.
            if isa(groups, 'string') || isa(groups, 'categorical')
                groups = cellstr(groups);
            end
            if ~iscell(groups)
                numbers = double(groups);
                return
            end
            [texts, ~, place] = unique(groups);
            digests = zeros(numel(texts), 1);
            for k = 1:numel(texts)
                for code = double(texts{k})
                    % A prime below 2^44: products stay whole numbers.
                    digests(k) = mod(257 * digests(k) + code + 1, 17592186044399);
                end
            end
            numbers = digests(place(:));
        end
    end

    methods (Access = private)
        function this = Dataset(key)
            this.Key = key;
        end
    end
end
