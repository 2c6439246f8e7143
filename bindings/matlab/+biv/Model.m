classdef Model < biv.Handle
    %biv.Model  A network and, once it was trained, the normalisation of its data.
    %   To make one
    %       biv.Model.create('Kind', 'mlp', 'Inputs', 10, 'Hidden', [32 16])
    %       biv.Model.load(file)                   what save wrote
    %       trainer.model()                        the one in training
    %       biv.fit(x, y, 'Variances', v)          a trained one with error bars
    %
    %   To use it
    %       predict(model, x)                      labels, in their own unit, and the variances of their errors
    %       evaluate(model, data)                  errors on a data set
    %       info, describe                         sizes; options, device and tensors
    %       errorBars                              what biv.fit found of its errors
    %       normalization, setNormalization, resetNormalization
    %       tensor, setTensor                      the weights, by PyTorch's names
    %       save                                   weights and normalisation to a file
    %       exportTo, importWeights                weights for other programs, and from PyTorch
    %       copy                                   a model of its own
    %       delete                                 frees it now; a trainer keeps its model
    %
    %   A trainer trains its model in place: predictions follow the training.
    %   Errors are biv:InvalidConfig, biv:Shape, biv:InvalidArgument, biv:NotFound, biv:Corrupt and so on, with the
    %   library's message.
    %
    %   See also biv.Dataset, biv.Trainer.

    methods (Static)
        function model = create(varargin)
            %CREATE  Makes a network on the CPU, its weights drawn as PyTorch's defaults.
            %   create('Kind', 'mlp', 'Inputs', D, 'Hidden', [100 50], 'Outputs', 1, 'BatchNorm', false, 'Seed', 0)
            %   create('Kind', 'vanilla_ann', 'Dataset', 'bike')
            %   create('Kind', 'vanilla_cnn', 'Height', H, 'Width', W)
            %   create('Kind', 'resnet', 'Depth', 18, 'Height', H, 'Width', W)
            %   create('Kind', 'sequential', 'InputShape', D, 'Layers', {STRUCT, ...}): layers of your own
            %   create('Kind', 'mean_variance', 'Network', STRUCT) also predicts its variance, for the losses
            %   'gaussian' and 'beta_nll'; STRUCT has the options of the network.
            %   The options may also be a struct or JSON (see biv.json).
            model = biv.Model(biv_mex('model_create', biv.json(varargin{:})));
        end

        function model = load(path)
            %LOAD  Reads a model that save wrote, or the one in a trainer's checkpoint, onto the CPU.
            model = biv.Model(biv_mex('model_load', path));
        end

        function [model, report] = ofFit(network, data, options, callback)
            % For biv.fit: the model, and the report as JSON.
            [key, report] = biv_mex('model_fit', network, biv.Model.keyOf(data, 'biv.Dataset', 'data'), options, callback);
            model = biv.Model(key);
        end

        function model = ofTrainer(key)
            % For biv.Trainer: the model in training.
            model = biv.Model(biv_mex('trainer_model', key));
        end
    end

    methods
        function model = copy(this)
            %COPY  A model of its own with the same network, weights and normalisation.
            model = biv.Model(biv_mex('model_copy', this.Key));
        end

        function exportTo(this, path, varargin)
            %EXPORTTO  Writes the model for other programs, in the format that PATH ends with: .onnx or .safetensors.
            biv_mex('model_export', this.Key, path, biv.json(varargin{:}));
        end

        function report = importWeights(this, path, varargin)
            %IMPORTWEIGHTS  Takes the weights of a safetensors file, as PyTorch saves it, by names and shapes.
            %   importWeights(model, PATH) takes all tensors or, on error, none. With 'Strict', false it takes those that
            %   both have. REPORT has the names that were imported, are missing and were left_over.
            report = jsondecode(biv_mex('model_import_weights', this.Key, path, biv.json(varargin{:})));
        end

        function save(this, path)
            %SAVE  Saves weights and normalisation. A file at PATH is replaced when the new one is complete.
            biv_mex('model_save', this.Key, path);
        end

        function sizes = info(this)
            %INFO  A struct with inputs, outputs, parameters (trainable values) and normalized.
            %   normalized is true when the model has a normalisation of its own.
            sizes = biv_mex('model_info', this.Key);
        end

        function description = describe(this)
            %DESCRIBE  A struct with the model's options, its device, its tensors (name, shape, trainable), its
            %   normalization and its error_bars.
            description = jsondecode(biv_mex('model_describe', this.Key));
        end

        function values = tensor(this, name)
            %TENSOR  A copy of a tensor, by PyTorch's name: tensor(model, '0.weight') is outputs x inputs.
            values = biv_mex('model_get_tensor', this.Key, name, shapeOf(this, name));
        end

        function setTensor(this, name, values)
            %SETTENSOR  Overwrites a tensor with VALUES of exactly its shape, all finite.
            shape = shapeOf(this, name);
            padded = [shape ones(1, 2 - numel(shape))];
            while numel(padded) > 2 && padded(end) == 1
                padded(end) = [];
            end
            if ~isequal(size(values), padded)
                shape = []; % the library says what is wrong
            end
            biv_mex('model_set_tensor', this.Key, name, values, shape);
        end

        function [y, v] = predict(this, x)
            %PREDICT  Labels for the rows of X (n x d, or n x ... for images), n x m, in the labels' unit.
            %   Y = predict(MODEL, X): X is in the features' own unit, all finite. No rows give no predictions. X may be a
            %   table or a struct of columns, for a model that was trained on one (see biv.Dataset.fromTable).
            %   [Y, V] = predict(MODEL, X) also gives the variances of the errors of Y, seen as true values, in the
            %   square of the labels' unit. A label whose noise has variance u differs from Y by scale * u more: see
            %   errorBars. This is for models of biv.fit and of kind 'mean_variance'; others know nothing of their
            %   errors, which is the error biv:Unsupported.
            x = inputs(this, x);
            if nargout < 2
                y = biv_mex('model_predict', this.Key, x);
            else
                [y, v] = biv_mex('model_predict_with_variance', this.Key, x);
            end
        end

        function metrics = evaluate(this, data)
            %EVALUATE  The errors of the model's predictions on a data set, as evaluate of biv.Trainer gives them.
            metrics = biv_mex('model_evaluate', this.Key, biv.Model.keyOf(data, 'biv.Dataset', 'data'));
        end

        function bars = errorBars(this)
            %ERRORBARS  What biv.fit found of the model's errors; [] where it has none.
            %   A struct of columns with an element for each output: scale (how much of the labels' known variances
            %   is there), tau2 (the variance of the residuals beyond them) and mean_spread (the mean variance between
            %   the networks), the last two in the square of the labels' unit.
            bars = getfield(describe(this), 'error_bars');
        end

        function scale = normalization(this)
            %NORMALIZATION  What the model takes off its inputs and divides them by, and the same of the labels.
            %   A struct of the columns feature_mean, feature_std, label_mean and label_std, in the units of features
            %   and labels; [] where the model has no normalisation.
            scale = getfield(describe(this), 'normalization');
        end

        function setNormalization(this, varargin)
            %SETNORMALIZATION  Gives the model a normalisation.
            %   setNormalization(MODEL, 'FeatureMean', M, 'FeatureStd', S, 'LabelMean', A, 'LabelStd', B): a feature x
            %   becomes (x - M) / S before the network; its outputs, times B plus A, are the predictions. Each is a
            %   vector with an element for each feature or output, or one number for all of them; deviations are
            %   greater than 0. A trainer that is made for the model later keeps it.
            %   setNormalization(MODEL, STRUCT) takes a struct as normalization returns it.
            names = {'FeatureMean', 'FeatureStd', 'LabelMean', 'LabelStd'};
            fields = {'feature_mean', 'feature_std', 'label_mean', 'label_std'};
            if numel(varargin) == 1 && isstruct(varargin{1})
                names = fields;
                pairs = [fieldnames(varargin{1})'; struct2cell(varargin{1})'];
                varargin = pairs(:)';
            end
            given = biv.parse(cell2struct(cell(1, 4), names, 2), varargin{:});
            sizes = info(this);
            counts = [sizes.inputs sizes.inputs sizes.outputs sizes.outputs];
            values = cell(1, 4);
            for i = 1:4
                values{i} = given.(names{i});
                if isempty(values{i})
                    error('biv:InvalidArgument', '%s: is missing', names{i});
                elseif isscalar(values{i}) && isnumeric(values{i})
                    values{i} = repmat(values{i}, counts(i), 1);
                end
            end
            biv_mex('model_set_normalization', this.Key, values{:});
        end

        function resetNormalization(this)
            %RESETNORMALIZATION  Takes the model's normalisation away.
            %   Features and predictions are then the network's own, and a trainer that is made for the model later
            %   finds a new one.
            biv_mex('model_reset_normalization', this.Key);
        end
    end

    methods (Hidden)
        function x = inputs(this, x)
            % For predict: the features of X, which in a table have names.
            if ~isstruct(x) && ~isa(x, 'table')
                return
            end
            known = getfield(describe(this), 'columns');
            if isempty(known)
                error('biv:InvalidArgument', 'the model does not know the names of its features: give an array');
            end
            known = known.features;
            if ~iscell(known)
                known = num2cell(known);
            end
            coded = known(~cellfun(@(column) strcmp(column.encoding, 'number'), known));
            if ~isempty(coded)
                error('biv:InvalidArgument', 'the model codes the column ''%s'': give an array', coded{1}.name);
            end
            x = biv.tableColumns(x, cellfun(@(column) column.name, known, 'UniformOutput', false));
        end

        function text = summary(this)
            % For disp: the object in a line.
            sizes = info(this);
            text = sprintf('%d inputs, %d outputs, %d parameters', sizes.inputs, sizes.outputs, sizes.parameters);
        end
    end

    methods (Access = private)
        function this = Model(key)
            this.Key = key;
        end

        function shape = shapeOf(this, name)
            % The shape of a tensor, a row; [] when there is none of that name.
            description = describe(this);
            found = find(strcmp({description.tensors.name}, name), 1);
            shape = [];
            if ~isempty(found)
                shape = double(description.tensors(found).shape(:)');
            end
        end
    end
end
