# client.c in R, through r_shim.c.
arguments <- commandArgs(trailingOnly = TRUE)
dyn.load(arguments[3])
x <- matrix((0:(256 * 8 - 1) * 37) %% 101 / 64, 256, 8, byrow = TRUE)
y <- x[, 1] - 2 * x[, 2] * x[, 3]
v <- rep(c(4, 0.0625), 128)
result <- .C("biv_r_train", x, y, v, dim(x), arguments[1:2], rmse = 0)
cat(sprintf("%.17g\n", result$rmse))
