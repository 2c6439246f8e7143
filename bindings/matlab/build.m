function file = build(folder, prefix)
%BUILD  Compiles the MEX file biv_mex for a libbiv that is installed.
%   BUILD() puts it beside this file, so that one addpath of this folder is all a session needs.
%   BUILD(FOLDER) puts it into FOLDER, which must exist and has to be on the path too; '' is the folder of this file.
%   BUILD(FOLDER, PREFIX) is for the libbiv in PREFIX, which has include/biv.h and lib/libbiv.so. Without PREFIX the
%   libbiv is the one of this source tree after `make stage`, else the one that pkg-config knows, else the first in
%   ~/.local, /usr/local and /usr.
%   FILE = BUILD(...) is its full name.
%
%   It needs a C compiler: Octave compiles with mkoctfile, MATLAB with mex. The MEX file remembers where the library is
%   (see README.md).

here = fileparts(mfilename('fullpath'));
if nargin < 1 || isempty(folder)
    folder = here;
end
if nargin < 2
    prefix = '';
end
prefix = installed(prefix, here);
source = fullfile(here, 'src', 'biv_mex.c');
file = fullfile(folder, ['biv_mex.' mexext()]);

% The place of the library goes into the MEX file by a header, so that no shell has to quote it.
generated = tempname();
mkdir(generated);
cleanup = onCleanup(@() remove(generated));
header = fopen(fullfile(generated, 'biv_library.h'), 'w');
fprintf(header, '#define BIV_LIBRARY_FOLDER "%s"\n', regexprep(fullfile(prefix, 'lib'), '(["\\])', '\\$1'));
fclose(header);
include = {['-I' generated], ['-I' fullfile(prefix, 'include')]};
if exist('OCTAVE_VERSION', 'builtin')
    [output, status] = mkoctfile('--mex', '-std=c99', '-fexceptions', '-Wall', '-Wextra', include{:}, ...
        '-o', file, source);
    if status ~= 0
        error('biv:Build', 'biv_mex.c does not compile: %s', output);
    end
else
    mex('-R2018a', 'CFLAGS=$CFLAGS -std=c99 -fexceptions', include{:}, ...
        '-outdir', folder, '-output', 'biv_mex', source, '-ldl', '-lpthread');
end
end

function prefix = installed(prefix, here)
% The first place that has a libbiv.
if ~isempty(prefix)
    places = {prefix};
else
    places = {fullfile(here, '..', '..', 'build', 'install')};
    [status, known] = system('pkg-config --variable=prefix biv 2> /dev/null');
    if status == 0
        places{end + 1} = strtrim(known);
    end
    places = [places {fullfile(getenv('HOME'), '.local'), '/usr/local', '/usr'}];
end
for i = 1:numel(places)
    if exist(fullfile(places{i}, 'include', 'biv.h'), 'file') && exist(fullfile(places{i}, 'lib', 'libbiv.so'), 'file')
        % Absolute, since the MEX file remembers it.
        [found, details] = fileattrib(places{i});
        if found
            prefix = details.Name;
            return
        end
    end
end
error('biv:Build', ['no libbiv with include/biv.h and lib/libbiv.so in %s: install it (make install PREFIX=...) and ' ...
    'call build('''', PREFIX)'], strjoin(places, ', '));
end

function remove(folder)
delete(fullfile(folder, 'biv_library.h'));
rmdir(folder);
end
