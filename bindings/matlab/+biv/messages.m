function lines = messages()
%biv.messages  What the library has said, beside errors, since the last call: a column of texts.
%   Each begins with 'warning: ' or 'info: ', and is returned once. biv.setLog says how much is kept.

lines = regexp(biv_mex('messages'), '[^\n]+', 'match')';
end
