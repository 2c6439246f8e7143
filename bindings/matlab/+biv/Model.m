classdef Model < biv.Handle
    %biv.Model  A network and, once it was trained, the normalisation of its data.
    %   To make one
    %       biv.Model.create('Kind', 'mlp', 'Inputs', 10, 'Hidden', [32 16])
    %       biv.Model.load(file)                   what save wrote
    %       trainer.model()                        the one in training
    %
    %   To use it
    %       predict(model, x)                      labels, in their own unit
    %       info, describe                         sizes; options, device and tensors
    %       tensor, setTensor                      the weights, by PyTorch's names
    %       save                                   weights and normalisation to a file
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
            %   The options may also be a struct or JSON (see biv.json).
            model = biv.Model(biv_mex('model_create', biv.json(varargin{:})));
        end

        function model = load(path)
            %LOAD  Reads a model that save wrote, onto the CPU.
            model = biv.Model(biv_mex('model_load', path));
        end

        function model = ofTrainer(key)
            % For biv.Trainer: the model in training.
            model = biv.Model(biv_mex('trainer_model', key));
        end
    end

    methods
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
            %DESCRIBE  A struct with the model's options, its device and its tensors (name, shape, trainable).
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

        function y = predict(this, x)
            %PREDICT  Labels for the rows of X (n x d, or n x ... for images), n x m, in the labels' unit.
            %   X is in the features' own unit, all finite. No rows give no predictions.
            y = biv_mex('model_predict', this.Key, x);
        end
    end

    methods (Hidden)
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
