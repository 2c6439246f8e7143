/* Saved files: what is damaged is refused, and what was saved survives a disk that is full. */
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include "common.h"

/* Predictions of a model on one row, to tell models apart. */
static double prediction(const biv_model *model) {
  const double x[5] = {0.1, 0.2, 0.3, 0.4, 0.5};
  double y = NAN;
  CHECK_OK(biv_model_predict(model, F64(x, 1, 5), F64_OUT(&y, 1)));
  return y;
}

static void test_damage(const char *folder, const biv_dataset *data, const biv_trainer *trainer) {
  const char *whole = in(folder, "whole.biv"), *damaged = in(folder, "damaged.biv");
  biv_model *model = NULL;
  CHECK_OK(biv_trainer_get_model(trainer, &model));
  CHECK_OK(biv_model_save(model, whole));
  double expected = prediction(model);
  biv_model_free(model);
  size_t size = 0;
  unsigned char *bytes = read_file(whole, &size);
  CHECK(bytes != NULL && size > 100);
  int accepted = 0;
  for (size_t at = 0; at < size; at += (size_t)scaled(3, 97)) {
    write_file(damaged, bytes, at);
    biv_status status = biv_model_load(damaged, &model);
    CHECK(status == BIV_ERROR_CORRUPT && model == NULL && strstr(biv_last_error_message(), "damaged.biv") != NULL);
    bytes[at] ^= (unsigned char)(1 << at % 8);
    write_file(damaged, bytes, size);
    bytes[at] ^= (unsigned char)(1 << at % 8);
    status = biv_model_load(damaged, &model);
    if (status == BIV_OK) {
      /* White space of the header: the content is the same. */
      CHECK(prediction(model) == expected);
      biv_model_free(model);
      accepted += 1;
    } else {
      CHECK(status == BIV_ERROR_CORRUPT && model == NULL);
    }
  }
  CHECK(accepted < 16);

  biv_trainer *loaded = NULL;
  CHECK_STATUS(biv_trainer_load(whole, data, NULL, &loaded), BIV_ERROR_INVALID_ARGUMENT,
               "holds a model, a training checkpoint was asked for");
  CHECK_OK(biv_trainer_save(trainer, whole));
  /* The model that a checkpoint has can be read by itself. */
  CHECK_OK(biv_model_load(whole, &model));
  biv_model_free(model);
  write_text(damaged, "{\"not\": \"a checkpoint\"}");
  CHECK_STATUS(biv_trainer_load(damaged, data, NULL, &loaded), BIV_ERROR_CORRUPT, "damaged or not one of libbiv's");
  CHECK_STATUS(biv_trainer_load(in(folder, "none"), data, NULL, &loaded), BIV_ERROR_NOT_FOUND, "no such file");
  CHECK_STATUS(biv_trainer_save(trainer, in(folder, "no/such/place")), BIV_ERROR_NOT_FOUND, "no such file or folder");
  free(bytes);
}

/* A training checkpoint, cut and changed here and there; tests/checkpoints.rs does so at every byte. */
static void test_damaged_checkpoint(const char *folder, const biv_dataset *data, const biv_trainer *trainer) {
  const char *damaged = in(folder, "damaged.biv"), *refusal = "damaged.biv: ";
  CHECK_OK(biv_trainer_save(trainer, damaged));
  size_t size = 0;
  unsigned char *bytes = read_file(damaged, &size);
  CHECK(bytes != NULL && size > 100);
  biv_trainer *loaded = NULL;
  for (size_t at = 0; at < size; at += (size_t)scaled(101, 997)) {
    write_file(damaged, bytes, at);
    CHECK_STATUS(biv_trainer_load(damaged, data, NULL, &loaded), BIV_ERROR_CORRUPT, refusal);
    bytes[at] ^= 0x80; /* not even white space */
    write_file(damaged, bytes, size);
    CHECK_STATUS(biv_trainer_load(damaged, data, NULL, &loaded), BIV_ERROR_CORRUPT, refusal);
    bytes[at] ^= 0x80;
    CHECK(loaded == NULL);
  }
  unsigned char *version = memmem(bytes, size, "version\\\":1", 11);
  CHECK(version != NULL);
  if (version != NULL) version[10] = '9';
  write_file(damaged, bytes, size);
  CHECK_STATUS(biv_trainer_load(damaged, data, NULL, &loaded), BIV_ERROR_CORRUPT,
               "damaged.biv: has format version 9, this library reads up to ");
  free(bytes);
}

/* A checkpoint goes with the data it was made on. */
static void test_other_data(const char *folder, const biv_dataset *data, const biv_trainer *trainer) {
  const char *path = in(folder, "checkpoint.biv");
  CHECK_OK(biv_trainer_save(trainer, path));
  biv_dataset *longer = noisy_dataset(101, 1), *wider = NULL;
  biv_trainer *loaded = NULL;
  CHECK_STATUS(biv_trainer_load(path, longer, NULL, &loaded), BIV_ERROR_SHAPE,
               "the data set is not the one that the checkpoint was made with: it has 101 rows, there were 100");
  biv_dataset *other = noisy_dataset(100, 2), *backwards = NULL;
  CHECK_STATUS(biv_trainer_load(path, other, NULL, &loaded), BIV_ERROR_INVALID_ARGUMENT, "others");
  int64_t order[100];
  for (int i = 0; i < 100; i++) order[i] = 99 - i;
  CHECK_OK(biv_dataset_subset(data, order, 100, &backwards));
  CHECK_STATUS(biv_trainer_load(path, backwards, NULL, &loaded), BIV_ERROR_INVALID_ARGUMENT,
               "its rows are in another order");
  CHECK_STATUS(biv_trainer_load_with(path, backwards, "{\"accept_data\": false}", &loaded), BIV_ERROR_INVALID_ARGUMENT,
               "its rows are in another order");
  /* Where it is accepted, training goes on, and the next checkpoint is of the new data. */
  CHECK_OK(biv_trainer_load_with(path, longer, "{\"accept_data\": true, \"device\": \"cpu\"}", &loaded));
  CHECK_OK(biv_trainer_step(loaded, NULL));
  CHECK_OK(biv_trainer_save(loaded, path));
  biv_trainer_free(loaded);
  CHECK_OK(biv_trainer_load(path, longer, NULL, &loaded));
  biv_trainer_free(loaded);
  CHECK_OK(biv_trainer_save(trainer, path));
  biv_dataset_free(other);
  biv_dataset_free(backwards);
  CHECK_OK(biv_dataset_create_synthetic("{\"rows\": 100, \"features\": 6}", &wider));
  CHECK_STATUS(biv_trainer_load(path, wider, NULL, &loaded), BIV_ERROR_SHAPE, "have 6 features, the model has 5");
  biv_dataset_free(longer);
  biv_dataset_free(wider);
}

/* Saving fails; the file that was there is there, byte for byte, and nothing else is. */
static void check_survival(const char *folder, biv_trainer *trainer, const biv_dataset *data,
                           biv_status (*save)(const biv_trainer *, const char *)) {
  const char *path = in(folder, "checkpoint.biv");
  size_t before_size = 0, after_size = 0;
  unsigned char *before = read_file(path, &before_size);
  CHECK_OK(biv_trainer_step(trainer, NULL)); /* so that the new file would differ */
  int files = files_in(folder, false);
  CHECK_STATUS(save(trainer, path), BIV_ERROR_IO, "checkpoint.biv: ");
  unsigned char *after = read_file(path, &after_size);
  CHECK(before != NULL && after != NULL && before_size == after_size && memcmp(before, after, before_size) == 0);
  CHECK(files_in(folder, false) == files);
  biv_trainer *loaded = NULL;
  CHECK_OK(biv_trainer_load(path, data, NULL, &loaded));
  biv_trainer_free(loaded);
  free(before);
  free(after);
}

static biv_status save_limited(const biv_trainer *trainer, const char *path) {
  struct rlimit old, limit;
  getrlimit(RLIMIT_FSIZE, &old);
  limit = old, limit.rlim_cur = 1000;
  setrlimit(RLIMIT_FSIZE, &limit);
  biv_status status = biv_trainer_save(trainer, path);
  setrlimit(RLIMIT_FSIZE, &old);
  return status;
}

static void test_disk_full(const char *folder, biv_trainer *trainer, const biv_dataset *data) {
  /* A limit on the size of files stops the writing half way. */
  signal(SIGXFSZ, SIG_IGN);
  CHECK_OK(biv_trainer_save(trainer, in(folder, "checkpoint.biv")));
  check_survival(folder, trainer, data, save_limited);

  /* A file system that is full. */
  char *disk = temporary_folder();
  if (mount("tmpfs", disk, "tmpfs", 0, "size=64k") == 0) {
    CHECK_OK(biv_trainer_save(trainer, in(disk, "checkpoint.biv")));
    FILE *filler = fopen(in(disk, "filler"), "w");
    for (int i = 0; i < 1 << 17 && filler != NULL; ++i) fputc('x', filler);
    if (filler != NULL) fclose(filler);
    check_survival(disk, trainer, data, biv_trainer_save);
    CHECK(strstr(biv_last_error_message(), "No space left") == NULL); /* a success came after it */
    CHECK_STATUS(biv_trainer_save(trainer, in(disk, "other.biv")), BIV_ERROR_IO, "No space left on device");
    CHECK(umount(disk) == 0);
  } else {
    skip("a full file system", "mounting a tmpfs needs root");
  }
  remove_folder(disk);
}

/* A folder that nothing can be written to: for root, who may write to any, on a read-only file system. */
static void test_read_only(biv_trainer *trainer, const biv_dataset *data) {
  char *folder = temporary_folder();
  CHECK_OK(biv_trainer_save(trainer, in(folder, "checkpoint.biv")));
  bool bound = mount(folder, folder, "none", MS_BIND, NULL) == 0;
  if (bound ? mount(NULL, folder, "none", MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) == 0
            : geteuid() != 0 && chmod(folder, 0555) == 0) {
    check_survival(folder, trainer, data, biv_trainer_save);
    biv_model *model = NULL;
    CHECK_OK(biv_trainer_get_model(trainer, &model));
    CHECK_STATUS(biv_model_save(model, in(folder, "model.biv")), BIV_ERROR_IO, "model.biv: ");
    biv_model_free(model);
  } else {
    skip("a read-only folder", "root writes to any, and mounting is not allowed");
  }
  if (bound) CHECK(umount(folder) == 0);
  chmod(folder, 0755);
  remove_folder(folder);
}

int main(void) {
  char *folder = temporary_folder();
  biv_dataset *data = noisy_dataset(100, 1);
  biv_trainer *trainer = small_trainer(data, "{\"batch_size\": 16}");
  CHECK_OK(biv_trainer_fit(trainer, 1, NULL, NULL, NULL));
  test_damage(folder, data, trainer);
  test_damaged_checkpoint(folder, data, trainer);
  test_other_data(folder, data, trainer);
  test_disk_full(folder, trainer, data);
  test_read_only(trainer, data);
  biv_trainer_free(trainer);
  biv_dataset_free(data);
  remove_folder(folder);
  return report("files");
}
