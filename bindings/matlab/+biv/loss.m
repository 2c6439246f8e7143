function [result, gradient] = loss(predictions, labels, variances, varargin)
%biv.loss  Computes a loss and its gradient in double precision, with no model and no trainer.
%   [RESULT, GRADIENT] = biv.loss(PREDICTIONS, LABELS, VARIANCES, 'Kind', 'biv', 'Epsilon', 0.1)
%   PREDICTIONS, LABELS and VARIANCES are n x 1 or n x m, all three the same; VARIANCES may be [] for 'mse'. RESULT
%   has value, effective_batch_size, epsilon and samples_used; GRADIENT is shaped as PREDICTIONS. Several outputs:
%   the mean over them, each by itself. Epsilon and threshold are in the unit of the variances.
%
%   With errors e and variances v of K rows, the kinds are
%       mse         sum(e.^2) / K
%       cutoff_mse  the mean of e.^2 where v < threshold
%       iv          sum(e.^2 ./ (v + epsilon)) / K
%       biv         sum(w .* e.^2) / sum(w), w = 1 ./ (v + epsilon)
%       gaussian    the mean of (log(s) + e.^2 ./ s) / 2, s = v + exp(q)
%       beta_nll    the same, each row times s.^beta, which counts as a constant
%   For the last two, PREDICTIONS are n x 2 or n x 2m: first the values, then their q.
%   The options, epsilon 0.1 by default, may also be a struct or JSON (see biv.json).

if isempty(varargin)
    varargin = {'Kind', 'biv'};
end
[result, gradient] = biv_mex('loss_compute', biv.json(varargin{:}), predictions, labels, variances);
end
