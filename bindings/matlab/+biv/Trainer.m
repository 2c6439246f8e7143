classdef Trainer < biv.Handle
    %biv.Trainer  Trains a model on labels of known noise.
    %   In every mini-batch of batch inverse-variance training, a label of noise variance v weighs 1/(v + epsilon),
    %   divided by the sum of the weights. Features and labels are normalised by the training data's statistics, so
    %   losses and epsilon are in normalised units: epsilon 0.1 is a tenth of the labels' variance.
    %
    %   To make one
    %       biv.Trainer.create(model, data, 'Loss', struct('kind', 'biv', 'epsilon', 0.1), ...)
    %       biv.Trainer.load(file, 'Dataset', data)      what save wrote
    %
    %   To train
    %       history = fit(trainer, epochs, 'Test', test, 'Callback', f)
    %       result = step(trainer)                       one mini-batch of the data set
    %       result = stepOn(trainer, x, y, v)            one mini-batch of your own
    %       trainer.LearningRate = 1e-4                  from the next step on
    %       setData(trainer, data)                       goes on with other data
    %       setValidation(trainer, data)                 judges each epoch of fit, which keeps the best
    %       cancel(trainer)                              from a callback: fit ends with biv:Cancelled
    %
    %   To use it
    %       evaluate(trainer, data)                      errors on a data set
    %       predict(trainer, x)                          labels, in their own unit
    %       progress(trainer)                            epochs, mini-batches and steps so far
    %       describe(trainer)                            options, device and the kernel that takes the steps
    %       trainer.model()                              the model in training
    %       save(trainer, file)                          a checkpoint
    %       delete(trainer)                              frees it now
    %
    %   Errors are biv:InvalidConfig, biv:Shape, biv:InvalidArgument, biv:Numerical, biv:Busy, biv:Cancelled and so
    %   on, with the library's message. Ctrl-C stops fit at the end of the epoch; training can continue from there.
    %
    %   Example
    %       model = biv.Model.create('Kind', 'mlp', 'Inputs', 10, 'Hidden', [32 16]);
    %       trainer = biv.Trainer.create(model, noisy, 'LearningRate', 0.01);
    %       history = fit(trainer, 50, 'Test', test, 'Callback', @(epoch) epoch.test.rmse < 1);
    %
    %   See also biv.Dataset, biv.Model, biv.loss.

    properties (Dependent)
        LearningRate % Finite and greater than 0; setting it counts from the next step on; the schedule multiplies it
    end

    methods (Static)
        function trainer = create(model, data, varargin)
            %CREATE  Makes a trainer that starts from the model's weights as they are and trains the model in place.
            %   create(MODEL, DATA, ...) copies DATA to the device; [] is for a trainer that is used with stepOn only.
            %   Options and defaults: 'Loss', a struct of kind 'biv' (epsilon 0.1), 'iv' (epsilon), 'mse', 'cutoff_mse'
            %   (threshold), 'gaussian' or 'beta_nll' (these for a model of kind 'mean_variance'); 'BatchSize' 256; 'LearningRate' 0.001; 'Normalize' true; 'DropLast' true;
            %   'Seed' 0; 'Device' 'cpu', 'cuda', 'cuda:N' or 'auto'; 'Precision' 'f32' or 'bf16'.
            %   'Optimizer' is a struct of kind 'adam' (the default), 'adamw' or 'sgd' with its constants, 'Schedule' one
            %   of kind 'constant', 'step', 'cosine' or 'plateau', 'ClipNorm' the greatest norm of the gradient:
            %   docs/training.md has the formulas.
            %   epsilon is a number, struct('min_effective_batch_size', 64), struct('min_effective_batch_ratio', 0.5)
            %   or 'auto', which needs setValidation. 'Patience', N ends fit when N epochs were no better on the
            %   validation set. 'Normalization', 'labels' normalises the labels by their own statistics, even where
            %   clean ones are kept beside them.
            trainer = biv.Trainer(biv_mex('trainer_create', biv.Trainer.keyOf(model, 'biv.Model', 'model'), ...
                biv.Trainer.keyOf(data, 'biv.Dataset', 'data'), biv.json(varargin{:})));
        end

        function trainer = load(path, varargin)
            %LOAD  Makes the trainer that save saved, with a model of its own. On a CPU it continues bit for bit.
            %   load(PATH, 'Dataset', DATA, 'Device', 'cpu'): DATA is the one that it was trained on, unless it had
            %   none; the device is the saved one by default. With 'AcceptData', true, DATA may be other data.
            given = biv.parse(struct('Dataset', [], 'Device', [], 'AcceptData', false), varargin{:});
            options = struct('accept_data', given.AcceptData);
            if ~isempty(given.Device)
                options.device = given.Device;
            end
            trainer = biv.Trainer(biv_mex('trainer_load', path, ...
                biv.Trainer.keyOf(given.Dataset, 'biv.Dataset', 'Dataset'), biv.json(options)));
        end
    end

    methods
        function result = step(this)
            %STEP  Takes one step on the next mini-batch of the data set. Every epoch has an order of its own.
            %   The result has loss (before the step, normalised), effective_batch_size, epsilon, rows, learning_rate
            %   and samples_used (rows with a weight that is not 0; 0 where the cutoff left none and no step was taken).
            result = biv_mex('trainer_step', this.Key);
        end

        function result = stepOn(this, x, y, v)
            %STEPON  Takes one step on a mini-batch of your own, in your units; the result is as that of step.
            %   stepOn(TRAINER, X, Y, V) takes arrays as biv.Dataset.fromArrays; V may be left out for 'mse'.
            if nargin < 4
                v = [];
            end
            result = biv_mex('trainer_step_on', this.Key, x, y, v);
        end

        function setData(this, data)
            %SETDATA  Goes on with other data, as those of append: weights, Adam's state, normalisation and the numbers of
            %   steps and epochs stay. The same data change no bit of what follows.
            biv_mex('trainer_set_data', this.Key, biv.Trainer.keyOf(data, 'biv.Dataset', 'data'));
        end

        function setValidation(this, data)
            %SETVALIDATION  Judges the model on a data set after each epoch of fit from now on.
            %   DATA has rows that are not trained on. The epochs of fit then have a validation_loss (the mean squared
            %   error there, weighted by what the variances are found to be worth, normalised) and the number of the
            %   best_epoch so far. A loss of epsilon 'auto' gets its epsilon from there. Each fit ends with the weights
            %   of the best epoch so far and, with the option 'Patience', may end early. After load, give the same set
            %   again.
            biv_mex('trainer_set_validation', this.Key, biv.Trainer.keyOf(data, 'biv.Dataset', 'data'));
        end

        function history = fit(this, epochs, varargin)
            %FIT  Trains for EPOCHS epochs. Where steps have begun an epoch, its rest is the first.
            %   HISTORY = fit(TRAINER, EPOCHS, 'Test', TEST, 'Callback', F) is a struct array with an element for
            %   each epoch: epoch, batches, skipped, loss (mean, normalised), effective_batch_size (mean), test,
            %   the metrics on TEST as evaluate gives them, [] without TEST, validation_loss and best_epoch (see
            %   setValidation), NaN and 0 without a validation set, and learning_rate, that of the last step.
            %
            %   F is called with that element after each epoch. It may return true to stop, which is no error; it
            %   may evaluate, predict, save and set the learning rate. An error in it stops the training and comes
            %   out of fit as it is. What was trained stays, and fit can be called again.
            given = biv.parse(struct('Test', [], 'Callback', []), varargin{:});
            callback = biv.Callback(given.Callback, true);
            try
                biv_mex('trainer_fit', this.Key, epochs, ...
                    biv.Trainer.keyOf(given.Test, 'biv.Dataset', 'Test'), @(epoch) call(callback, epoch));
            catch failure
                if ~callback.Stopped || ~strcmp(failure.identifier, 'biv:Cancelled')
                    raise(callback, failure);
                end
            end
            history = [callback.Events{:}];
        end

        function metrics = evaluate(this, data)
            %EVALUATE  The model's errors on a data set.
            %   The result has rows, mse, rmse, mae (in the labels' unit), r2 (NaN where the labels are constant)
            %   and normalized_mse, normalized_rmse, normalized_mae; expected_rmse, what the labels' noise alone makes
            %   (NaN without variances), and weighted_rmse, with each label weighted by its noise. Of a model with error
            %   bars also mean_z2 (1 for error bars of the right size), nlpd, coverage_68 and coverage_95 (the shares of
            %   the labels within the central 68 and 95 %), else NaN. With several outputs, means over them. Masked
            %   labels do not count.
            metrics = biv_mex('trainer_evaluate', this.Key, biv.Trainer.keyOf(data, 'biv.Dataset', 'data'));
        end

        function y = predict(this, x)
            %PREDICT  Labels for the rows of X, n x m, in the labels' unit: as predict of biv.Model.
            if isstruct(x) || isa(x, 'table')
                x = inputs(this.model(), x);
            end
            y = biv_mex('trainer_predict', this.Key, x);
        end

        function cancel(this)
            %CANCEL  Makes the fit that is running end with the error biv:Cancelled, else the next one.
            biv_mex('trainer_cancel', this.Key);
        end

        function state = progress(this)
            %PROGRESS  A struct with epoch (completed), batch (of the one in progress), steps, loss and running.
            state = biv_mex('trainer_progress', this.Key);
        end

        function description = describe(this)
            %DESCRIBE  A struct with the trainer's options, its device, and the kernel that takes its steps.
            description = jsondecode(biv_mex('trainer_describe', this.Key));
        end

        function rate = get.LearningRate(this)
            rate = biv_mex('trainer_get_learning_rate', this.Key);
        end

        function set.LearningRate(this, rate)
            biv_mex('trainer_set_learning_rate', this.Key, rate);
        end

        function network = model(this)
            %MODEL  The model in training, a biv.Model.
            network = biv.Model.ofTrainer(this.Key);
        end

        function save(this, path)
            %SAVE  Saves a checkpoint: model, normalisation, optimiser, options and position.
            %   A file at PATH is replaced when the new one is complete.
            biv_mex('trainer_save', this.Key, path);
        end
    end

    methods (Hidden)
        function text = summary(this)
            % For disp: the object in a line.
            state = progress(this);
            text = sprintf('%d epochs, %d steps', state.epoch, state.steps);
        end
    end

    methods (Access = private)
        function this = Trainer(key)
            this.Key = key;
        end
    end
end
