function file = build(folder)
%BUILD  Compiles the MEX file biv_mex from src/biv_mex.c.
%   BUILD() puts it beside this file, so that one addpath of this folder is all a session needs.
%   BUILD(FOLDER) puts it into FOLDER, which must exist and has to be on the path too.
%   FILE = BUILD(...) is its full name.
%
%   It needs a C compiler and the header biv.h (from ../../include), but not the library: that is found when
%   biv_mex is called first (see README.md). Octave compiles with mkoctfile, MATLAB with mex.

here = fileparts(mfilename('fullpath'));
if nargin < 1
    folder = here;
end
source = fullfile(here, 'src', 'biv_mex.c');
header = fullfile(here, '..', '..', 'include');
file = fullfile(folder, ['biv_mex.' mexext()]);
if exist('OCTAVE_VERSION', 'builtin')
    [output, status] = mkoctfile('--mex', '-std=c99', '-fexceptions', '-Wall', '-Wextra', ['-I' header], ...
        '-o', file, source);
    if status ~= 0
        error('biv:Build', 'biv_mex.c does not compile: %s', output);
    end
else
    mex('-R2018a', 'CFLAGS=$CFLAGS -std=c99 -fexceptions', ['-I' header], ...
        '-outdir', folder, '-output', 'biv_mex', source, '-ldl', '-lpthread');
end
end
