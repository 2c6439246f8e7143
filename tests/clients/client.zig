// client.c in Zig, which reads biv.h as it is.
// What `zig translate-c biv.h` writes.
const c = @import("biv.zig");

extern fn printf(format: [*:0]const u8, ...) c_int;
extern fn exit(status: c_int) noreturn;

const rows = 256;
const columns = 8;

fn check(status: c.biv_status) void {
    if (status == c.BIV_OK) return;
    _ = printf("%s\n", c.biv_last_error_message());
    exit(1);
}

pub export fn main(count: c_int, arguments: [*][*:0]u8) c_int {
    if (count < 3) return 2;
    var x: [rows * columns]f64 = undefined;
    var y: [rows]f64 = undefined;
    var v: [rows]f64 = undefined;
    for (&x, 0..) |*value, i| value.* = @as(f64, @floatFromInt(i * 37 % 101)) / 64;
    for (&y, &v, 0..) |*label, *variance, i| {
        label.* = x[columns * i] - 2 * x[columns * i + 1] * x[columns * i + 2];
        variance.* = if (i % 2 == 1) 0.0625 else 4;
    }
    const shape = [2]i64{ rows, columns };
    const features = c.biv_array{ .data = &x, .dtype = c.BIV_F64, .rank = 2, .shape = &shape };
    const labels = c.biv_array{ .data = &y, .dtype = c.BIV_F64, .rank = 1, .shape = &shape };
    const variances = c.biv_array{ .data = &v, .dtype = c.BIV_F64, .rank = 1, .shape = &shape };
    var data: ?*c.biv_dataset = null;
    var model: ?*c.biv_model = null;
    var trainer: ?*c.biv_trainer = null;
    check(c.biv_set_num_threads(1));
    check(c.biv_dataset_create_from_arrays(&features, &labels, &variances, &data));
    check(c.biv_model_create(arguments[1], &model));
    check(c.biv_trainer_create(model, data, arguments[2], &trainer));
    check(c.biv_trainer_fit(trainer, 5, null, null, null));
    var metrics = c.biv_metrics{ .struct_size = @sizeOf(c.biv_metrics) };
    check(c.biv_trainer_evaluate(trainer, data, &metrics));
    _ = printf("%.17g\n", metrics.rmse);
    c.biv_trainer_free(trainer);
    c.biv_model_free(model);
    c.biv_dataset_free(data);
    return 0;
}
