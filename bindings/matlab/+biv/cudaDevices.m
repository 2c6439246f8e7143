function count = cudaDevices()
%biv.cudaDevices  The number of CUDA devices that can be used; 0 without a GPU, its driver or the CUDA libraries.

count = biv_mex('cuda_devices');
end
