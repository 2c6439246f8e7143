function result = run(command, config, callback)
%biv.run  Runs an experiment or a sweep; for biv.runExperiment and biv.runSweep.

keeper = biv.Callback(callback, false);
try
    result = jsondecode(biv_mex(command, biv.json(config), @(event) call(keeper, event)));
catch failure
    raise(keeper, failure);
end
end
