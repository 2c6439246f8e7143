/* Memory that is handed over by DLPack or lent with a callback: used where it is, and given back once. What is wrong
 * with a tensor is src/capi/dlpack/tests.rs's and contract.c's. */
#include "dlpack.h"

#include <pthread.h>

#include "common.h"

/* A tensor over somebody's memory, which counts how often it was deleted. */
typedef struct {
  DLManagedTensorVersioned managed;
  int64_t shape[2];
  int *deleted;
} producer;

static void delete_producer(DLManagedTensorVersioned *tensor) {
  producer *self = tensor->manager_ctx;
  *self->deleted += 1;
  free(self);
}

static DLManagedTensorVersioned *produced(void *data, int bits, int64_t rows, int64_t columns, int *deleted) {
  producer *self = calloc(1, sizeof *self);
  if (self == NULL) exit(1);
  self->shape[0] = rows;
  self->shape[1] = columns;
  self->deleted = deleted;
  self->managed = (DLManagedTensorVersioned){
      .version = {1, 3},
      .manager_ctx = self,
      .deleter = delete_producer,
      .dl_tensor = {.data = data,
                    .device = {kDLCPU, 0},
                    .ndim = columns > 0 ? 2 : 1,
                    .dtype = {kDLFloat, (uint8_t)bits, 1},
                    .shape = self->shape},
  };
  *deleted = 0;
  return &self->managed;
}

enum { ROWS = 60 };
static float x[ROWS][5];
static double y[ROWS], v[ROWS];

static void make_numbers(void) {
  biv_dataset *data = noisy_dataset(ROWS, 4);
  CHECK_OK(biv_dataset_copy_features(data, F32_OUT(x, ROWS, 5)));
  CHECK_OK(biv_dataset_copy_labels(data, F64_OUT(y, ROWS)));
  CHECK_OK(biv_dataset_copy_variances(data, F64_OUT(v, ROWS)));
  biv_dataset_free(data);
}

/* The error that training on a data set ends with. */
static double trained(const biv_dataset *data) {
  biv_trainer *trainer = small_trainer(data, "{\"batch_size\": 20}");
  biv_metrics metrics = SIZED(biv_metrics);
  CHECK_OK(biv_trainer_fit(trainer, 2, NULL, NULL, NULL));
  CHECK_OK(biv_trainer_evaluate(trainer, data, &metrics));
  biv_trainer_free(trainer);
  return metrics.rmse;
}

static double trained_on_a_copy(void) {
  biv_dataset *data = NULL;
  CHECK_OK(biv_dataset_create_from_arrays(F32(x, ROWS, 5), F64(y, ROWS), F64(v, ROWS), &data));
  double error = trained(data);
  biv_dataset_free(data);
  return error;
}

/* Whether a data set reads the memory above: what is written there is seen, and written back. */
static bool is_shared(const biv_dataset *data) {
  float features[ROWS][5], before = x[7][2];
  double labels[ROWS], variances[ROWS], label = y[8], variance = v[9];
  x[7][2] = 41, y[8] = 42, v[9] = 43;
  CHECK_OK(biv_dataset_copy_features(data, F32_OUT(features, ROWS, 5)));
  CHECK_OK(biv_dataset_copy_labels(data, F64_OUT(labels, ROWS)));
  CHECK_OK(biv_dataset_copy_variances(data, F64_OUT(variances, ROWS)));
  x[7][2] = before, y[8] = label, v[9] = variance;
  return features[7][2] == 41 && labels[8] == 42 && variances[9] == 43;
}

static void *free_data(void *data) {
  biv_dataset_free(data);
  return NULL;
}

static void tensors_are_used_where_they_are(void) {
  int deleted[3];
  biv_dataset *data = NULL;
  CHECK_OK(biv_dataset_create_from_dlpack(produced(x, 32, ROWS, 5, &deleted[0]), produced(y, 64, ROWS, 0, &deleted[1]),
                                          produced(v, 64, ROWS, 1, &deleted[2]), NULL, NULL, NULL, &data));
  CHECK(is_shared(data));
  CHECK(trained(data) == trained_on_a_copy());
  CHECK(deleted[0] == 0 && deleted[1] == 0 && deleted[2] == 0);
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, free_data, data) == 0 && pthread_join(thread, NULL) == 0);
  CHECK(deleted[0] == 1 && deleted[1] == 1 && deleted[2] == 1);
}

static void a_tensor_is_given_back_where_it_is_refused(void) {
  int deleted[2];
  biv_dataset *data = (biv_dataset *)deleted;
  CHECK_STATUS(biv_dataset_create_from_dlpack(produced(x, 32, ROWS, 5, &deleted[0]), produced(y, 64, 3, 0, &deleted[1]),
                                              NULL, NULL, NULL, NULL, &data),
               BIV_ERROR_SHAPE, "labels have 3 rows, the features have 60");
  CHECK(data == NULL && deleted[0] == 1 && deleted[1] == 1);
}

static void predictions_go_into_a_tensor(void) {
  biv_model *model = small_model();
  double expected[ROWS], found[ROWS];
  float narrow[ROWS];
  int deleted[2];
  CHECK_OK(biv_model_predict(model, F32(x, ROWS, 5), F64_OUT(expected, ROWS)));
#define PREDICT(out) biv_model_predict_dlpack(model, produced(x, 32, ROWS, 5, &deleted[0]), (out))
  CHECK_OK(PREDICT(produced(found, 64, ROWS, 0, &deleted[1])));
  CHECK(deleted[0] == 1 && deleted[1] == 1 && memcmp(found, expected, sizeof found) == 0);
  CHECK_OK(PREDICT(produced(narrow, 32, ROWS, 1, &deleted[1])));
  for (int row = 0; row < ROWS; row++) CHECK(narrow[row] == (float)expected[row]);
  /* Upside down. */
  int64_t backwards = -1;
  DLManagedTensorVersioned *out = produced(found + ROWS - 1, 64, ROWS, 0, &deleted[1]);
  out->dl_tensor.strides = &backwards;
  CHECK_OK(PREDICT(out));
  for (int row = 0; row < ROWS; row++) CHECK(found[ROWS - 1 - row] == expected[row]);

  int64_t nowhere = 0;
  const struct {
    int32_t device, ndim;
    uint64_t flags;
    uint8_t code, bits;
    int64_t *strides;
    biv_status status;
    const char *text;
  } wrong[] = {
      {kDLCPU, 1, DLPACK_FLAG_BITMASK_READ_ONLY, kDLFloat, 64, NULL, BIV_ERROR_INVALID_ARGUMENT, "out is read-only"},
      {kDLCUDA, 1, 0, kDLFloat, 64, NULL, BIV_ERROR_UNSUPPORTED,
       "out is on a CUDA device (device_type 2, device_id 99)"},
      {kDLCPU, 1, 0, kDLInt, 64, NULL, BIV_ERROR_INVALID_ARGUMENT, "must be float32 or float64"},
      {kDLCPU, 1, 0, kDLFloat, 16, NULL, BIV_ERROR_INVALID_ARGUMENT, "16 bits"},
      {kDLCPU, 1, 0, kDLFloat, 64, &nowhere, BIV_ERROR_SHAPE, "the strides make elements overlap"},
      {kDLCPU, 2, 0, kDLFloat, 64, NULL, BIV_ERROR_SHAPE, "the array has shape [60, 0], the result has shape [60, 1]"},
      {kDLCPU, 0, 0, kDLFloat, 64, NULL, BIV_ERROR_SHAPE, "out.ndim is 0"},
  };
  memset(found, 0, sizeof found);
  for (size_t i = 0; i < COUNT(wrong); i++) {
    out = produced(found, wrong[i].bits, ROWS, 0, &deleted[1]);
    out->flags = wrong[i].flags;
    /* Of no machine's GPUs. */
    out->dl_tensor.device = (DLDevice){wrong[i].device, 99};
    out->dl_tensor.ndim = wrong[i].ndim;
    out->dl_tensor.dtype.code = wrong[i].code;
    out->dl_tensor.strides = wrong[i].strides;
    CHECK_STATUS(PREDICT(out), wrong[i].status, wrong[i].text);
    CHECK(deleted[0] == 1 && deleted[1] == 1);
  }
  CHECK_STATUS(PREDICT(NULL), BIV_ERROR_INVALID_ARGUMENT, "out is NULL");
  CHECK(deleted[0] == 1);
  DLManagedTensorVersioned *both = produced(x, 32, ROWS, 5, &deleted[0]);
  CHECK_STATUS(biv_model_predict_dlpack(model, both, both), BIV_ERROR_INVALID_ARGUMENT, "the same tensor as features");
  CHECK(deleted[0] == 1);
  biv_model_free(model);
  CHECK_STATUS(PREDICT(produced(found, 64, ROWS, 0, &deleted[1])), BIV_ERROR_INVALID_HANDLE, "was freed");
  CHECK(deleted[0] == 1 && deleted[1] == 1);
  for (int row = 0; row < ROWS; row++) CHECK(found[row] == 0);
}

static void count(void *user) { *(int *)user += 1; }

static void arrays_are_lent(void) {
  int released = 0;
  biv_dataset *data = NULL;
  CHECK_OK(
      biv_dataset_create_borrowed(F32(x, ROWS, 5), F64(y, ROWS), F64(v, ROWS), NULL, count, &released, NULL, &data));
  CHECK(is_shared(data));
  CHECK(trained(data) == trained_on_a_copy());
  CHECK(released == 0);
  biv_dataset_free(data);
  CHECK(released == 1);
  biv_dataset_free(data);
  CHECK(released == 1);
  CHECK_STATUS(biv_dataset_create_borrowed(F32(x, ROWS, 5), F64(y, 3), NULL, NULL, count, &released, NULL, &data),
               BIV_ERROR_SHAPE, "labels have 3 rows");
  CHECK(data == NULL && released == 2);
  /* A data set that shares the features keeps them. */
  biv_dataset *noisy = NULL;
  CHECK_OK(biv_dataset_create_borrowed(F32(x, ROWS, 5), F64(y, ROWS), NULL, NULL, count, &released, NULL, &data));
  CHECK_OK(
      biv_dataset_add_noise(data, "{\"distribution\": {\"kind\": \"gamma\", \"mean\": 1, \"variance\": 2}}", &noisy));
  biv_dataset_free(data);
  CHECK(released == 2);
  biv_dataset_free(noisy);
  CHECK(released == 3);
}

int main(void) {
  make_numbers();
  tensors_are_used_where_they_are();
  a_tensor_is_given_back_where_it_is_refused();
  predictions_go_into_a_tensor();
  arrays_are_lent();
  return report("dlpack");
}
