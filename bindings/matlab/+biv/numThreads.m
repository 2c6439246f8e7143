function count = numThreads(count)
%biv.numThreads  How many threads the library uses inside one operation on the CPU.
%   biv.numThreads() returns the number; biv.numThreads(COUNT) sets it, at least 1. Results are reproducible for one
%   number of threads.

if nargin > 0
    biv_mex('set_threads', count);
end
count = biv_mex('get_threads');
end
