/*
 * The ABI as numbers: the size and alignment of every struct, the place and type of every member, the
 * value of every constant. A compiler that lays them out differently does not get through this file; nor
 * does a header that has changed what programs were compiled with (docs/abi.md, scripts/abi.sh).
 */
#include <stddef.h>

#include "check.h"

#define STRUCT(type, size) _Static_assert(sizeof(type) == (size) && _Alignof(type) == 8, #type " has another size")
#define MEMBER(type, member, kind, offset)                                                                   \
  _Static_assert(offsetof(type, member) == (offset) && _Generic(((type *)0)->member, kind : 1, default : 0), \
                 #type "." #member " is another member")
#define CONSTANT(name, value) _Static_assert((name) == (value), #name " has another value")

STRUCT(biv_array, 40);
MEMBER(biv_array, data, const void *, 0);
MEMBER(biv_array, dtype, int32_t, 8);
MEMBER(biv_array, rank, int32_t, 12);
MEMBER(biv_array, shape, const int64_t *, 16);
MEMBER(biv_array, strides, const int64_t *, 24);
MEMBER(biv_array, size, int64_t, 32);

STRUCT(biv_dataset_info, 56);
MEMBER(biv_dataset_info, struct_size, size_t, 0);
MEMBER(biv_dataset_info, rows, int64_t, 8);
MEMBER(biv_dataset_info, features, int64_t, 16);
MEMBER(biv_dataset_info, outputs, int64_t, 24);
MEMBER(biv_dataset_info, has_variances, int32_t, 32);
MEMBER(biv_dataset_info, has_clean_labels, int32_t, 36);
MEMBER(biv_dataset_info, left_out, int64_t, 40);
MEMBER(biv_dataset_info, masked_labels, int64_t, 48);

STRUCT(biv_array_out, 40);
MEMBER(biv_array_out, data, void *, 0);
MEMBER(biv_array_out, dtype, int32_t, 8);
MEMBER(biv_array_out, rank, int32_t, 12);
MEMBER(biv_array_out, shape, const int64_t *, 16);
MEMBER(biv_array_out, strides, const int64_t *, 24);
MEMBER(biv_array_out, size, int64_t, 32);

STRUCT(biv_loss_result, 40);
MEMBER(biv_loss_result, struct_size, size_t, 0);
MEMBER(biv_loss_result, value, double, 8);
MEMBER(biv_loss_result, effective_batch_size, double, 16);
MEMBER(biv_loss_result, epsilon, double, 24);
MEMBER(biv_loss_result, samples_used, int64_t, 32);

STRUCT(biv_model_info, 40);
MEMBER(biv_model_info, struct_size, size_t, 0);
MEMBER(biv_model_info, inputs, int64_t, 8);
MEMBER(biv_model_info, outputs, int64_t, 16);
MEMBER(biv_model_info, parameters, int64_t, 24);
MEMBER(biv_model_info, normalized, int32_t, 32);

STRUCT(biv_step, 56);
MEMBER(biv_step, struct_size, size_t, 0);
MEMBER(biv_step, loss, double, 8);
MEMBER(biv_step, effective_batch_size, double, 16);
MEMBER(biv_step, epsilon, double, 24);
MEMBER(biv_step, rows, int64_t, 32);
MEMBER(biv_step, samples_used, int64_t, 40);
MEMBER(biv_step, learning_rate, double, 48);

STRUCT(biv_metrics, 120);
MEMBER(biv_metrics, struct_size, size_t, 0);
MEMBER(biv_metrics, rows, int64_t, 8);
MEMBER(biv_metrics, mse, double, 16);
MEMBER(biv_metrics, rmse, double, 24);
MEMBER(biv_metrics, mae, double, 32);
MEMBER(biv_metrics, r2, double, 40);
MEMBER(biv_metrics, normalized_mse, double, 48);
MEMBER(biv_metrics, normalized_rmse, double, 56);
MEMBER(biv_metrics, normalized_mae, double, 64);
MEMBER(biv_metrics, weighted_rmse, double, 72);
MEMBER(biv_metrics, expected_rmse, double, 80);
MEMBER(biv_metrics, mean_z2, double, 88);
MEMBER(biv_metrics, nlpd, double, 96);
MEMBER(biv_metrics, coverage_68, double, 104);
MEMBER(biv_metrics, coverage_95, double, 112);

STRUCT(biv_epoch, 80);
MEMBER(biv_epoch, struct_size, size_t, 0);
MEMBER(biv_epoch, epoch, int64_t, 8);
MEMBER(biv_epoch, batches, int64_t, 16);
MEMBER(biv_epoch, skipped, int64_t, 24);
MEMBER(biv_epoch, loss, double, 32);
MEMBER(biv_epoch, effective_batch_size, double, 40);
MEMBER(biv_epoch, test, const biv_metrics *, 48);
MEMBER(biv_epoch, validation_loss, double, 56);
MEMBER(biv_epoch, best_epoch, int64_t, 64);
MEMBER(biv_epoch, learning_rate, double, 72);

STRUCT(biv_progress, 48);
MEMBER(biv_progress, struct_size, size_t, 0);
MEMBER(biv_progress, epoch, int64_t, 8);
MEMBER(biv_progress, batch, int64_t, 16);
MEMBER(biv_progress, steps, int64_t, 24);
MEMBER(biv_progress, loss, double, 32);
MEMBER(biv_progress, running, int32_t, 40);

STRUCT(biv_variance_model, 104);
MEMBER(biv_variance_model, struct_size, size_t, 0);
MEMBER(biv_variance_model, epsilon, double, 8);
MEMBER(biv_variance_model, scale, double, 16);
MEMBER(biv_variance_model, tau2, double, 24);
MEMBER(biv_variance_model, tau2_pm, double, 32);
MEMBER(biv_variance_model, epsilon_best, double, 40);
MEMBER(biv_variance_model, epsilon_floor, double, 48);
MEMBER(biv_variance_model, gain, double, 56);
MEMBER(biv_variance_model, gain_se, double, 64);
MEMBER(biv_variance_model, mean_z2, double, 72);
MEMBER(biv_variance_model, rows, int64_t, 80);
MEMBER(biv_variance_model, verdict, int32_t, 88);
MEMBER(biv_variance_model, warning, const char *, 96);

STRUCT(biv_fit_progress, 64);
MEMBER(biv_fit_progress, struct_size, size_t, 0);
MEMBER(biv_fit_progress, epoch, int64_t, 8);
MEMBER(biv_fit_progress, epochs, int64_t, 16);
MEMBER(biv_fit_progress, steps, int64_t, 24);
MEMBER(biv_fit_progress, total_steps, int64_t, 32);
MEMBER(biv_fit_progress, held_out_loss, double, 40);
MEMBER(biv_fit_progress, epsilon, double, 48);
MEMBER(biv_fit_progress, is_final, int32_t, 56);

STRUCT(biv_experiment_progress, 88);
MEMBER(biv_experiment_progress, struct_size, size_t, 0);
MEMBER(biv_experiment_progress, stage, int32_t, 8);
MEMBER(biv_experiment_progress, run, const char *, 16);
MEMBER(biv_experiment_progress, done, int64_t, 24);
MEMBER(biv_experiment_progress, total, int64_t, 32);
MEMBER(biv_experiment_progress, epoch, int64_t, 40);
MEMBER(biv_experiment_progress, epochs, int64_t, 48);
MEMBER(biv_experiment_progress, loss, double, 56);
MEMBER(biv_experiment_progress, rmse, double, 64);
MEMBER(biv_experiment_progress, samples_per_second, double, 72);
MEMBER(biv_experiment_progress, seconds_left, double, 80);

_Static_assert(sizeof(biv_status) == 4 && (biv_status)-1 < 0, "biv_status is a signed number of 32 bits");
_Static_assert(sizeof(void *) == 8 && sizeof(biv_epoch_callback) == 8, "pointers have 64 bits");

CONSTANT(BIV_F32, 1);
CONSTANT(BIV_F64, 2);
CONSTANT(BIV_ABI_VERSION, 1);
CONSTANT(BIV_VERDICT_PROFILE, 1);
CONSTANT(BIV_VERDICT_FLOOR, 2);
CONSTANT(BIV_VERDICT_PAULE_MANDEL, 3);
CONSTANT(BIV_VERDICT_MSE, 4);
CONSTANT(BIV_VERDICT_TOO_FEW_ROWS, 5);
CONSTANT(BIV_VERDICT_EQUAL_VARIANCES, 6);
CONSTANT(BIV_VERDICT_ZERO_RESIDUALS, 7);
CONSTANT(BIV_STAGE_LOADING, 1);
CONSTANT(BIV_STAGE_TRAINING, 2);
CONSTANT(BIV_STAGE_SWEEP, 3);
CONSTANT(BIV_LOG_SILENT, 0);
CONSTANT(BIV_LOG_WARNING, 1);
CONSTANT(BIV_LOG_INFO, 2);
CONSTANT(BIV_OK, 0);
CONSTANT(BIV_ERROR_INVALID_ARGUMENT, 1);
CONSTANT(BIV_ERROR_INVALID_HANDLE, 2);
CONSTANT(BIV_ERROR_INVALID_CONFIG, 3);
CONSTANT(BIV_ERROR_SHAPE, 4);
CONSTANT(BIV_ERROR_NOT_FOUND, 5);
CONSTANT(BIV_ERROR_IO, 6);
CONSTANT(BIV_ERROR_PARSE, 7);
CONSTANT(BIV_ERROR_UNSUPPORTED, 8);
CONSTANT(BIV_ERROR_BUSY, 9);
CONSTANT(BIV_ERROR_CANCELLED, 10);
CONSTANT(BIV_ERROR_OUT_OF_MEMORY, 11);
CONSTANT(BIV_ERROR_DEVICE, 12);
CONSTANT(BIV_ERROR_NUMERICAL, 13);
CONSTANT(BIV_ERROR_CORRUPT, 14);
CONSTANT(BIV_ERROR_INTERNAL, 15);
CONSTANT(BIV_ERROR_BUFFER_TOO_SMALL, 16);
CONSTANT(BIV_ERROR_DISTRIBUTED, 17);

int main(void) {
  CHECK(biv_abi_version() == BIV_ABI_VERSION);
  return report("abi");
}
