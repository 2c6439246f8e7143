function result = varianceModel(residuals, variances)
%biv.varianceModel  What residuals say of the variances that are known of the labels' noise.
%   RESULT = biv.varianceModel(R, V): R are the residuals of any model, label minus prediction, of rows that it has not
%   seen; V are the variances, at least 0, in the square of the unit of R. Both are vectors of one length. A row of
%   infinite variance counts nothing.
%
%   A residual has the variance scale * v + tau2, and weights for training are 1 ./ (v + epsilon). RESULT is a struct with
%       epsilon         in the unit of V; Inf where equal weights do as well
%       scale, tau2     how much of V is there (at most 1), and the variance beyond it
%       verdict         why: 'profile', 'floor', 'paule-mandel', 'mse', 'too-few-rows', 'equal-variances' or
%                       'zero-residuals'
%       warning         what you should know, '' where all is well
%       rows, mean_z2   how many rows counted, and the mean of r.^2 ./ (scale * v + tau2)
%   and with tau2_pm, epsilon_best, epsilon_floor, gain and gain_se, as biv.h describes them.
%   Errors are biv:Shape for different lengths and biv:InvalidArgument for values that are not allowed.
%
%   See also biv.fit.

result = biv_mex('variance_model', residuals, variances);
end
