function stop = stop_early(epoch, model, file, best, patience)
%STOP_EARLY  A callback for fit: saves MODEL to FILE whenever the test RMSE is the lowest so far.
%   It stops when that was PATIENCE epochs ago. BEST is a containers.Map with 'rmse' and 'epoch'.

if epoch.test.rmse < best('rmse')
    best('rmse') = epoch.test.rmse;
    best('epoch') = epoch.epoch;
    save(model, file);
end
stop = epoch.epoch - best('epoch') >= patience;
end
