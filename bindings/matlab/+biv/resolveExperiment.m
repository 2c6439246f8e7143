function description = resolveExperiment(config)
%biv.resolveExperiment  Checks an experiment's description and fills in every default. It runs nothing.
%   CONFIG is a struct or JSON, as for biv.runExperiment; the result is a struct.

description = jsondecode(biv_mex('experiment_resolve', biv.json(config)));
end
