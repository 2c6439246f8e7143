function setLog(level)
%biv.setLog  How much of what the library says, beside errors, biv.messages returns.
%   LEVEL is 'silent', as at first; 'warning', what makes work slow and what was not expected; or 'info', also what
%   is in use.

biv_mex('set_log', level);
end
