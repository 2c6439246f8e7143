function info = buildInfo()
%biv.buildInfo  What the library is built from and runs on: a struct with version, abi_version, libtorch, blas and so on.

info = jsondecode(biv_mex('build_info'));
end
