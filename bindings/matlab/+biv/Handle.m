classdef (Abstract) Handle < handle
    %biv.Handle  What biv.Dataset, biv.Model and biv.Trainer have in common: an object of the library's.
    %   It is freed with the last variable that holds it, or at once by delete(x); a second delete does nothing.
    %   Every use after that is the error biv:InvalidHandle. An object keeps what it needs of others, so the
    %   order does not matter.
    %
    %   Copies of the variable are the same object. An object cannot be saved in a MAT-file: biv.Model and
    %   biv.Trainer have save and load of their own.

    properties (Access = protected, Transient)
        Key = uint64(0)
    end

    methods
        function delete(this)
            %DELETE  Frees the object; does nothing where it was freed already.
            if this.Key ~= 0
                biv_mex([lower(this.kind()) '_free'], this.Key);
                this.Key = uint64(0);
            end
        end

        function disp(this)
            %DISP  Shows in a line what the object is.
            if this.Key == 0
                text = 'deleted';
            else
                text = summary(this);
            end
            fprintf('  biv.%s: %s\n', this.kind(), text);
        end
    end

    methods (Access = private)
        function name = kind(this)
            name = regexprep(class(this), '^biv\.', '');
        end
    end

    methods (Static, Access = protected)
        function key = keyOf(object, kind, name)
            % The key of an object of class `kind`; of [], [].
            if isempty(object) && isnumeric(object)
                key = [];
            elseif isa(object, kind)
                key = object.Key;
            else
                error('biv:InvalidArgument', '%s: must be a %s, is a %s', name, kind, class(object));
            end
        end
    end
end
