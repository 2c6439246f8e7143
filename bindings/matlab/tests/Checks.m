classdef Checks < handle
    %CHECKS  Counts what holds and what does not.

    properties (SetAccess = private)
        Passed = 0
        Failed = 0
        Kept
    end

    methods
        function that(this, claim, holds)
            %THAT  Counts a claim, and names it when it does not hold.
            if isequal(logical(holds), true)
                this.Passed = this.Passed + 1;
            else
                this.Failed = this.Failed + 1;
                fprintf('FAILED: %s\n', claim);
            end
        end

        function near(this, claim, value, wanted, tolerance)
            %NEAR  The values are as wanted, but for the tolerance.
            that(this, claim, isequal(size(value), size(wanted)) && all(abs(value(:) - wanted(:)) <= tolerance));
        end

        function raises(this, identifier, fragment, f)
            %RAISES  f() is an error with the identifier whose message has the fragment.
            claim = sprintf('%s with "%s" from %s', identifier, fragment, func2str(f));
            try
                f();
                that(this, [claim ' (no error)'], false);
            catch failure
                that(this, sprintf('%s (%s: %s)', claim, failure.identifier, failure.message), ...
                    strcmp(failure.identifier, identifier) && ~isempty(strfind(failure.message, fragment)));
            end
        end

        function keep(this, value)
            %KEEP  Keeps the last of the values that a callback is given.
            this.Kept = value;
        end

        function both(this, f) %#ok<INUSL>
            %BOTH  Asks f() for two results; `raises` asks for none.
            [~, ~] = f();
        end

        function output = script(this, file, parity_file) %#ok<INUSD>
            %SCRIPT  Runs a script in a workspace of its own; what it printed. parity.m reads `parity_file`.
            output = evalc('run(file)');
        end
    end
end
