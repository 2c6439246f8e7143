function result = runExperiment(config, callback)
%biv.runExperiment  Runs an experiment: data, noise, training, evaluation and, on request, a run directory.
%   RESULT = biv.runExperiment(CONFIG) takes a struct or JSON (schema 'experiment'): dataset, noise, model, loss,
%   epochs, seed, out (the run directory), resume and so on; settings for the published settings strings. The result
%   is a struct with epochs, last and best (the test errors at the end and at their best) and more.
%
%   biv.runExperiment(CONFIG, F) calls F often, with a struct: stage ('loading', 'training', 'sweep'), run, done, total,
%   epoch, epochs, loss, rmse, samples_per_second and seconds_left (NaN where there is none). F may return true to
%   stop, which is then the error biv:Cancelled. An error in F stops the run and comes out as it is.
%
%   Example
%       config = struct('dataset', struct('kind', 'synthetic', 'train_size', 500), 'epochs', 5, ...
%           'noise', struct('distribution', struct('kind', 'gamma', 'mean', 20, 'variance', 400)));
%       result = biv.runExperiment(config);
%
%   See also biv.resolveExperiment, biv.runSweep, biv.schema.

if nargin < 2
    callback = [];
end
result = biv.run('experiment_run', config, callback);
end
