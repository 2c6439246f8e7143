function info = buildInfo()
%biv.buildInfo  What the library was built from: a struct with version, abi_version, libtorch, debug and so on.

info = jsondecode(biv_mex('build_info'));
end
