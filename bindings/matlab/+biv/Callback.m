classdef Callback < handle
    %biv.Callback  Calls a function for the library and keeps its events and its error; for the package itself.
    %   No error may pass through the library: it is kept here, training is stopped, and what began the training
    %   raises it afterwards.
    %   biv.Callback(F, KEEP) calls F, or nothing when that is [], and keeps the events when KEEP is true.

    properties (SetAccess = private)
        Function    % the user's function handle, or []
        Keep
        Events = {}
        Stopped = false
        Failure = []
    end

    methods
        function this = Callback(handle, keep)
            if ~(isempty(handle) && isnumeric(handle)) && ~isa(handle, 'function_handle')
                error('biv:InvalidArgument', 'callback: must be a function handle, is a %s', class(handle));
            end
            this.Function = handle;
            this.Keep = keep;
        end

        function stop = call(this, event)
            % Calls the function; a function without a result never stops the training.
            try
                if this.Keep
                    this.Events{end + 1} = event;
                end
                if ~isempty(this.Function)
                    this.Stopped = ask(this.Function, event);
                end
            catch failure
                this.Failure = failure;
            end
            stop = this.Stopped || ~isempty(this.Failure);
        end

        function raise(this, failure)
            % To be called with what the library's call failed with: the callback's own error comes first.
            if ~isempty(this.Failure)
                rethrow(this.Failure);
            end
            rethrow(failure);
        end
    end
end

function stop = ask(callback, event)
clear ans
callback(event);
stop = false;
if exist('ans', 'var')
    stop = ans; %#ok<NOANS>
    if ~((islogical(stop) || isnumeric(stop)) && isscalar(stop))
        error('biv:InvalidArgument', 'the callback returned a %s, must return true to stop or false', class(stop));
    end
    stop = stop ~= 0;
end
end
