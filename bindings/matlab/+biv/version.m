function text = version()
%biv.version  The library's version, for example '0.1.0'.

text = biv_mex('version');
end
