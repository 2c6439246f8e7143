function variances = sampleNoise(count, seed, varargin)
%biv.sampleNoise  Draws noise variances, as addNoise of biv.Dataset does.
%   V = biv.sampleNoise(COUNT, SEED, 'Kind', 'gamma', 'Mean', 1, 'Variance', 2) is COUNT x 1. The options are those of
%   a distribution, and may also be a struct or JSON (see biv.json).

variances = biv_mex('noise_sample', biv.json(varargin{:}), seed, count);
end
