/* Whole experiments from C: settings, runs, sweeps, images; and what is wrong with them. */
#include <ftw.h>

#include "common.h"

#define INVALID BIV_ERROR_INVALID_ARGUMENT
#define CONFIG BIV_ERROR_INVALID_CONFIG

/* Published settings on synthetic data, and three epochs of them in a moment. */
#define SETTINGS                                                                        \
  "\"settings\": {\"experiment_settings\": \"from C,3,synthetic,True,300\", "           \
  "\"model_settings\": \"vanilla_ann,biv,0.5\", \"noise_settings\": \"True,uniform\", " \
  "\"params_settings\": \"boundaries\", \"parameters\": \"0,40\", \"extra_exp\": \"32,0,True,0.01\"}"
#define QUICK SETTINGS ", \"epochs\": 3, \"dataset\": {\"test_size\": 100}"

/* What the callback was shown, and when it stops. */
struct seen {
  int64_t calls, stop_after;
  biv_experiment_progress last;
  char run[64];
};

static int watch(void *user, const biv_experiment_progress *progress) {
  struct seen *seen = user;
  CHECK(progress->struct_size == sizeof *progress);
  CHECK(progress->done <= progress->total);
  seen->last = *progress;
  snprintf(seen->run, sizeof seen->run, "%s", progress->run);
  return ++seen->calls == seen->stop_after;
}

/* The number that follows "name": after `from` in a JSON text. */
static double number(const char *json, const char *from, const char *name) {
  char key[64];
  snprintf(key, sizeof key, "\"%s\":", name);
  const char *place = strstr(json, from);
  place = place == NULL ? NULL : strstr(place, key);
  CHECK(place != NULL);
  return place == NULL ? NAN : strtod(place + strlen(key), NULL);
}

static const char *text_of(const biv_text *text) {
  const char *json = NULL;
  CHECK_OK(biv_text_get(text, &json));
  CHECK(json != NULL);
  return json == NULL ? "" : json;
}

static void settings_are_resolved(void) {
  biv_text *text = NULL;
  CHECK_OK(biv_experiment_resolve("{" SETTINGS "}", &text));
  const char *json = text_of(text);
  CHECK(strstr(json, "\"tag\":\"from C\"") != NULL);
  CHECK(number(json, "dataset", "train_size") == 300 && number(json, "dataset", "test_size") == 1000);
  CHECK(number(json, "loss", "epsilon") == 0.5 && number(json, "noise", "high") == 40);
  CHECK(number(json, "", "batch_size") == 32 && number(json, "", "epochs") == 20);

  /* What is resolved is a description again. */
  biv_text *again = NULL;
  CHECK_OK(biv_experiment_resolve(json, &again));
  CHECK(strcmp(text_of(again), json) == 0);
  biv_text_free(again);
  biv_text_free(text);
  CHECK_STATUS(biv_text_get(text, &json), BIV_ERROR_INVALID_HANDLE, "freed");
  CHECK(json == NULL);
  biv_text_free(text);
  biv_text_free(NULL);
}

static void a_run_reports_and_resumes(const char *folder) {
  char config[4096];
  struct seen seen = {0};
  biv_text *result = NULL;
  CHECK_OK(biv_experiment_run("{" QUICK "}", watch, &seen, &result));
  CHECK(seen.calls == 27 && seen.last.done == 27 && seen.last.total == 27);
  CHECK(seen.last.stage == BIV_STAGE_TRAINING && seen.last.epoch == 3 && seen.last.epochs == 3);
  CHECK(strcmp(seen.run, "from C") == 0 && seen.last.samples_per_second > 0 && seen.last.loss > 0);
  double rmse = number(text_of(result), "\"last\"", "rmse");
  CHECK(rmse == seen.last.rmse && number(text_of(result), "\"best\"", "rmse") <= rmse);
  biv_text_free(result);

  /* Stopped by its callback, with a run directory; then resumed, to the same result. */
  snprintf(config, sizeof config, "{" QUICK ", \"out\": \"%s/run\", \"resume\": true}", folder);
  seen = (struct seen){.stop_after = 10};
  CHECK_STATUS(biv_experiment_run(config, watch, &seen, &result), BIV_ERROR_CANCELLED, "mini-batch 10 of 27");
  CHECK(result == NULL);
  seen = (struct seen){0};
  CHECK_OK(biv_experiment_run(config, watch, &seen, &result));
  CHECK(seen.calls == 17);
  CHECK(number(text_of(result), "\"last\"", "rmse") == rmse);
  biv_text_free(result);
  char path[PATH_MAX];
  snprintf(path, sizeof path, "%s/run/report.html", folder);
  CHECK(access(path, R_OK) == 0);

  /* Without "resume" what is there is not touched. */
  snprintf(config, sizeof config, "{" QUICK ", \"out\": \"%s/run\"}", folder);
  CHECK_STATUS(biv_experiment_run(config, NULL, NULL, &result), INVALID, "a run is there already");
}

static void a_sweep_gives_mean_and_spread(void) {
  struct seen seen = {0};
  biv_text *result = NULL;
  const char *grid =
      "{\"base\": {\"epochs\": 1, \"batch_size\": 32, \"model\": {\"kind\": \"mlp\", \"hidden\": [4]}, "
      "\"dataset\": {\"kind\": \"synthetic\", \"train_size\": 64, \"test_size\": 32}}, "
      "\"grid\": {\"seeds\": [1, 2], \"losses\": [{\"kind\": \"mse\"}]}, \"jobs\": 2}";
  CHECK_OK(biv_sweep_run(grid, watch, &seen, &result));
  CHECK(seen.last.stage == BIV_STAGE_SWEEP && seen.last.done == 2 && strncmp(seen.run, "mse, seed ", 10) == 0);
  CHECK(number(text_of(result), "\"table\"", "runs") == 2);
  CHECK(number(text_of(result), "\"rmse\":{", "std") > 0);
  biv_text_free(result);

  grid =
      "{\"base\": {\"epochs\": 1, \"loss\": {\"kind\": \"mse\"}, "
      "\"dataset\": {\"kind\": \"synthetic\", \"train_size\": 2560, \"test_size\": 32}}, "
      "\"grid\": {\"seeds\": [1, 2, 3, 4, 5, 6, 7, 8]}}";
  seen = (struct seen){.stop_after = 1};
  CHECK_STATUS(biv_sweep_run(grid, watch, &seen, &result), BIV_ERROR_CANCELLED, "the sweep was stopped");
  CHECK(result == NULL);
  CHECK_STATUS(biv_sweep_run("{\"grid\": {\"seeds\": []}}", NULL, NULL, &result), CONFIG,
               "sweep.grid.seeds: is an empty list");
  CHECK_STATUS(biv_sweep_run("{\"grid\": {\"seeds\": [1]}}", NULL, NULL, &result), CONFIG, "dataset: is missing");
}

static void images_train_a_network(const char *folder) {
  char faces[PATH_MAX];
  snprintf(faces, sizeof faces, "%s/faces", folder);
  draw_faces(faces, 12, 64);

  biv_dataset *data = NULL;
  biv_dataset_info info = SIZED(biv_dataset_info);
  CHECK_OK(biv_dataset_create_from_images(faces, "{\"size\": {\"height\": 64, \"width\": 64}}", &data));
  CHECK_OK(biv_dataset_get_info(data, &info));
  CHECK(info.rows == 12 && info.features == 3 * 64 * 64 && info.outputs == 1);

  biv_model *model = NULL;
  biv_trainer *trainer = NULL;
  biv_step step = SIZED(biv_step);
  CHECK_OK(biv_model_create("{\"kind\": \"vanilla_cnn\", \"height\": 64, \"width\": 64}", &model));
  CHECK_OK(biv_trainer_create(model, data, "{\"loss\": {\"kind\": \"mse\"}, \"batch_size\": 4}", &trainer));
  CHECK_OK(biv_trainer_step(trainer, &step));
  CHECK(step.rows == 4 && step.loss > 0);

  /* Pixels are given as bytes / 255, and predictions of the same ones are the same. */
  float *pixels = malloc(12 * 3 * 64 * 64 * sizeof *pixels);
  double predictions[12];
  CHECK_OK(biv_dataset_copy_features(data, F32_OUT(pixels, 12, 3, 64, 64)));
  bool in_range = true;
  for (int i = 0; i < 12 * 3 * 64 * 64; ++i) in_range = in_range && pixels[i] >= 0 && pixels[i] <= 1;
  CHECK(in_range);
  CHECK_OK(biv_model_predict(model, F32(pixels, 12, 3, 64, 64), F64_OUT(predictions, 12)));
  biv_metrics metrics = SIZED(biv_metrics);
  double labels[12], squares = 0;
  CHECK_OK(biv_dataset_copy_labels(data, F64_OUT(labels, 12)));
  CHECK_OK(biv_trainer_evaluate(trainer, data, &metrics));
  for (int i = 0; i < 12; ++i) squares += (predictions[i] - labels[i]) * (predictions[i] - labels[i]) / 12;
  CHECK(fabs(squares - metrics.mse) < 1e-3 * metrics.mse);
  free(pixels);
  biv_trainer_free(trainer);
  biv_model_free(model);
  biv_dataset_free(data);

  /* A damaged file is named, or left out. */
  write_text(in(faces, "50_0_0_1.jpg"), "no picture");
  CHECK_STATUS(biv_dataset_create_from_images(faces, NULL, &data), BIV_ERROR_PARSE, "50_0_0_1.jpg: ");
  CHECK_OK(biv_dataset_create_from_images(faces, "{\"corrupt\": \"skip\"}", &data));
  CHECK_OK(biv_dataset_get_info(data, &info));
  CHECK(info.rows == 12 && info.left_out == 1);
  biv_dataset_free(data);

  CHECK_STATUS(biv_dataset_create_from_images(in(folder, "none"), NULL, &data), BIV_ERROR_NOT_FOUND, "none");
  CHECK(data == NULL);
  CHECK_STATUS(biv_dataset_create_from_images(folder, NULL, &data), BIV_ERROR_NOT_FOUND, "no images");
  CHECK_STATUS(biv_dataset_create_from_images(faces, "{\"sizes\": 3}", &data), CONFIG,
               "images.sizes: is no known field (did you mean 'size'?)");
}

static void bad_descriptions_are_named(void) {
  biv_text *text = NULL;
  CHECK_STATUS(biv_experiment_resolve("{" SETTINGS ", \"epoch\": 1}", &text), CONFIG,
               "epoch: is no known field (did you mean 'epochs'?)");
  CHECK_STATUS(biv_experiment_resolve("{" SETTINGS ", \"loss\": {\"kind\": \"biv\", \"epsilon\": -1}}", &text), CONFIG,
               "model_settings, position 3 (value): is -1");
  CHECK_STATUS(biv_experiment_resolve("{\"settings\": {\"experiment_settings\": \"a,b\", \"model_settings\": \"\", "
                                      "\"noise_settings\": \"\"}}",
                                      &text),
               CONFIG, "experiment_settings: 'a,b' has 2 values, expected 5: tag,seed,dataset,normalize,train_size");
  CHECK_STATUS(biv_experiment_run("{" QUICK ", \"device\": \"abacus\"}", NULL, NULL, &text), INVALID, "'abacus'");
  CHECK_STATUS(biv_experiment_run("{" QUICK ", \"learning_rate\": 1e38}", NULL, NULL, &text), BIV_ERROR_NUMERICAL,
               "try a smaller learning rate");
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *place) {
  (void)status, (void)type, (void)place;
  return remove(path);
}

int main(void) {
  char *folder = temporary_folder();
  settings_are_resolved();
  a_run_reports_and_resumes(folder);
  a_sweep_gives_mean_and_spread();
  images_train_a_network(folder);
  bad_descriptions_are_named();
  nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
  free(folder);
  return report("experiment");
}
