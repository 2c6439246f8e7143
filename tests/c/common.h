/* What the C test programs share: arrays, small data sets and models, and a temporary folder. */
#ifndef COMMON_H
#define COMMON_H

#include <dirent.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* The sizes of an array's dimensions, or its strides. */
#define SIZES(...) ((const int64_t[]){__VA_ARGS__})
#define RANK(...) ((int32_t)COUNT(SIZES(__VA_ARGS__)))

/* Arrays in C order: F64(data, rows, columns). */
#define F32(values, ...) \
  (&(const biv_array){.data = (values), .dtype = BIV_F32, .rank = RANK(__VA_ARGS__), .shape = SIZES(__VA_ARGS__)})
#define F64(values, ...) \
  (&(const biv_array){.data = (values), .dtype = BIV_F64, .rank = RANK(__VA_ARGS__), .shape = SIZES(__VA_ARGS__)})
#define F32_OUT(values, ...) \
  (&(const biv_array_out){.data = (values), .dtype = BIV_F32, .rank = RANK(__VA_ARGS__), .shape = SIZES(__VA_ARGS__)})
#define F64_OUT(values, ...) \
  (&(const biv_array_out){.data = (values), .dtype = BIV_F64, .rank = RANK(__VA_ARGS__), .shape = SIZES(__VA_ARGS__)})

/* A struct to be filled. */
#define SIZED(type) ((type){.struct_size = sizeof(type)})

/* BIV_TEST_SMALL=1 shortens what is long, for valgrind. */
static inline int scaled(int normal, int small) { return getenv("BIV_TEST_SMALL") != NULL ? small : normal; }

/* Friedman's function with noise of known variances. */
static inline biv_dataset *dataset_with_noise(int rows, int seed, const char *noise) {
  char options[64];
  snprintf(options, sizeof options, "{\"rows\": %d, \"features\": 5, \"seed\": %d}", rows, seed);
  biv_dataset *clean = NULL, *noisy = NULL;
  CHECK_OK(biv_dataset_create_synthetic(options, &clean));
  CHECK_OK(biv_dataset_add_noise(clean, noise, &noisy));
  biv_dataset_free(clean);
  return noisy;
}

/* The same with gamma noise. */
static inline biv_dataset *noisy_dataset(int rows, int seed) {
  return dataset_with_noise(rows, seed,
                            "{\"distribution\": {\"kind\": \"gamma\", \"mean\": 1, \"variance\": 2}, "
                            "\"relative\": true}");
}

/* A network for the data above, small enough to train in a moment. */
static inline biv_model *small_model(void) {
  biv_model *model = NULL;
  CHECK_OK(biv_model_create("{\"kind\": \"mlp\", \"inputs\": 5, \"hidden\": [8, 4], \"seed\": 3}", &model));
  return model;
}

/* A trainer of a small model of its own. */
static inline biv_trainer *small_trainer(const biv_dataset *dataset, const char *options) {
  biv_model *model = small_model();
  biv_trainer *trainer = NULL;
  CHECK_OK(biv_trainer_create(model, dataset, options, &trainer));
  biv_model_free(model);
  return trainer;
}

/* The fit of a thread of its own, which another ends. */
static inline void *fit_until_cancelled(void *trainer) {
  CHECK_STATUS(biv_trainer_fit(trainer, 1000000000, NULL, NULL, NULL), BIV_ERROR_CANCELLED, "cancelled");
  return NULL;
}

/* Runs this program again with other arguments, the last of which is NULL, in a process that is to end within five
 * minutes. Returns in the child only, where there is no such program. */
static inline void become(char *const arguments[]) {
  char program[PATH_MAX] = "";
  if (readlink("/proc/self/exe", program, sizeof program - 1) <= 0) return;
  alarm(300);
  execv(program, arguments);
}

/* A new empty folder; the text is the caller's for good. */
static inline char *temporary_folder(void) {
  const char *parent = getenv("TMPDIR");
  char path[PATH_MAX];
  snprintf(path, sizeof path, "%s/biv-test-XXXXXX", parent != NULL ? parent : "/tmp");
  if (mkdtemp(path) == NULL) {
    perror(path);
    exit(1);
  }
  return strdup(path);
}

/* "folder/name", valid until the eighth call from now. */
static inline const char *in(const char *folder, const char *name) {
  static char paths[8][PATH_MAX];
  static int next;
  char *path = paths[next = (next + 1) % 8];
  snprintf(path, PATH_MAX, "%s/%s", folder, name);
  return path;
}

static inline void write_file(const char *path, const void *bytes, size_t size) {
  FILE *file = fopen(path, "wb");
  if (file == NULL || fwrite(bytes, 1, size, file) != size || fclose(file) != 0) {
    perror(path);
    exit(1);
  }
}

static inline void write_text(const char *path, const char *text) { write_file(path, text, strlen(text)); }

/* A file's bytes, to be freed; NULL where there is none. */
static inline unsigned char *read_file(const char *path, size_t *size) {
  FILE *file = fopen(path, "rb");
  if (file == NULL) return NULL;
  fseek(file, 0, SEEK_END);
  *size = (size_t)ftell(file);
  rewind(file);
  unsigned char *bytes = malloc(*size + 1);
  *size = fread(bytes, 1, *size, file);
  fclose(file);
  return bytes;
}

/* How many files a folder holds, and with `remove` none after it. */
static inline int files_in(const char *folder, bool remove) {
  int count = 0;
  DIR *entries = opendir(folder);
  for (struct dirent *entry; entries != NULL && (entry = readdir(entries)) != NULL;) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    count += 1;
    if (remove) unlink(in(folder, entry->d_name));
  }
  if (entries != NULL) closedir(entries);
  return count;
}

/* Lets the program `biv` draw test images into a new folder. */
static inline void draw_faces(const char *folder, int count, int size) {
  char command[2 * PATH_MAX];
  snprintf(command, sizeof command, "'%s' faces '%s' --count %d --size %d", BIV_PROGRAM, folder, count, size);
  CHECK(system(command) == 0);
}

/* Removes a folder from temporary_folder() with its files. */
static inline void remove_folder(char *folder) {
  files_in(folder, true);
  CHECK(rmdir(folder) == 0);
  free(folder);
}

#endif
