function result = runSweep(sweep, callback)
%biv.runSweep  Runs every combination of losses, noises and seeds; returns the mean and the spread of the results.
%   RESULT = biv.runSweep(SWEEP) takes a struct or JSON (schema 'sweep'): base (an experiment), grid (seeds, losses,
%   noises, variants), out (a folder) and jobs. The result has table, a row for each variant, and runs, each with its
%   outcome or its error. Runs that are complete in the folder are not run again.
%   biv.runSweep(SWEEP, F) calls F as biv.runExperiment does.

if nargin < 2
    callback = [];
end
result = biv.run('sweep_run', sweep, callback);
end
