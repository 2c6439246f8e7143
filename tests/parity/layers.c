/* Networks with every kind of layer, each trained for STEPS steps, on machines of two kinds: the losses that the
 * program writes are to be close to one another (../aarch64.sh). */
#include <biv.h>
#include <stdio.h>
#include <stdlib.h>

enum { STEPS = 8, ROWS = 96, FEATURES = 3 * 12 * 12 };

static void check(biv_status status) {
  if (status == BIV_OK) return;
  fprintf(stderr, "%s\n", biv_last_error_message());
  exit(1);
}

static float features[ROWS * FEATURES];
static double labels[ROWS], variances[ROWS];

/* Trains the network on the first features of each row, that many. */
static void train(const char *network, int64_t width, const int64_t *shape, int32_t rank, const char *options,
                  FILE *file) {
  float *rows = malloc(ROWS * width * sizeof *rows);
  for (int64_t i = 0; i < ROWS * width; ++i) rows[i] = features[i / width * FEATURES + i % width];
  const biv_array x = {rows, BIV_F32, rank, shape, NULL, 0}, y = {labels, BIV_F64, 1, shape, NULL, 0};
  const biv_array v = {variances, BIV_F64, 1, shape, NULL, 0};
  biv_dataset *data = NULL;
  biv_model *model = NULL;
  biv_trainer *trainer = NULL;
  check(biv_dataset_create_from_arrays(&x, &y, &v, &data));
  check(biv_model_create(network, &model));
  check(biv_trainer_create(model, data, options, &trainer));
  for (int i = 0; i < STEPS; ++i) {
    biv_step step = {.struct_size = sizeof step};
    check(biv_trainer_step(trainer, &step));
    fwrite(&step.loss, sizeof step.loss, 1, file);
  }
  biv_trainer_free(trainer);
  biv_model_free(model);
  biv_dataset_free(data);
  free(rows);
}

int main(int count, char **arguments) {
  static const char *const functions[] = {"relu", "leaky_relu", "tanh", "sigmoid", "silu", "gelu", "softplus"};
  static const char *const norms[] = {"", ", \"norm\": \"batch_norm\""};
  static const char *const images =
      "{\"kind\": \"sequential\", \"input_shape\": [3, 12, 12], \"seed\": 7, \"layers\": [{\"kind\": \"conv2d\", "
      "\"outputs\": 16, \"size\": 3, \"padding\": 1}, {\"kind\": \"batch_norm\"}, {\"kind\": \"activation\", "
      "\"function\": \"relu\"}, {\"kind\": \"residual\", \"layers\": [{\"kind\": \"conv2d\", \"outputs\": 16, "
      "\"size\": 3, \"padding\": 1, \"bias\": false}, {\"kind\": \"batch_norm\"}]}, {\"kind\": \"activation\", "
      "\"function\": \"relu\"}, {\"kind\": \"max_pool\", \"size\": 2}, {\"kind\": \"conv2d\", \"outputs\": 8, "
      "\"size\": "
      "1}, {\"kind\": \"avg_pool\", \"size\": 2}, {\"kind\": \"layer_norm\"}, {\"kind\": \"activation\", \"function\": "
      "\"gelu\"}, {\"kind\": \"dropout\", \"p\": 0.1}, {\"kind\": \"global_avg_pool\"}, {\"kind\": \"flatten\"}, "
      "{\"kind\": \"linear\", \"outputs\": 1}]}";
  static const char *const plainly = "{\"batch_size\": 48, \"seed\": 7}";
  FILE *file = count == 2 ? fopen(arguments[1], "wb") : NULL;
  char network[256];
  if (file == NULL) return 2;
  for (int i = 0; i < ROWS * FEATURES; ++i) features[i] = (float)(i * 7919LL % 1009) / 1009;
  for (int i = 0; i < ROWS; ++i) {
    labels[i] = features[i * FEATURES] - 2 * features[i * FEATURES + 1] * features[i * FEATURES + 2];
    variances[i] = i % 3 ? 0.01 : 1;
  }
  check(biv_set_num_threads(2));
  for (int i = 0; i < 14; ++i) {
    snprintf(network, sizeof network,
             "{\"kind\": \"mlp\", \"inputs\": 19, \"hidden\": [21, 13], \"seed\": 7, \"activation\": \"%s\"%s}",
             functions[i / 2], norms[i % 2]);
    train(network, 19, (const int64_t[]){ROWS, 19}, 2, plainly, file);
  }
  train(images, FEATURES, (const int64_t[]){ROWS, 3, 12, 12}, 4, plainly, file);
  train(images, FEATURES, (const int64_t[]){ROWS, 3, 12, 12}, 4,
        "{\"batch_size\": 48, \"seed\": 7, \"precision\": \"bf16\"}", file);
  return fclose(file) != 0;
}
