/* One of several processes that train one network, each on rows of its own: here each on a CSV file of its own.
 *
 *   torchrun --no-python --nproc-per-node 2 build/own_rows 'part-{rank}.csv'
 *   srun --ntasks 2 build/own_rows 'part-{rank}.csv'
 *
 * The label is in the column y, the variance of its noise in v. Process 0 writes the model. Each says how much memory
 * it took at most. */
#define _DEFAULT_SOURCE
#include <biv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static int fail(void) {
  fprintf(stderr, "%s\n", biv_last_error_message());
  return 1;
}

int main(int count, char **arguments) {
  if (count < 2) {
    fprintf(stderr, "usage: own_rows FILE.csv ['OPTIONS OF distributed']\n");
    return 2;
  }
  biv_dataset *rows = NULL;
  biv_dataset_info info = {.struct_size = sizeof info};
  if (biv_dataset_create_from_csv(arguments[1], "{\"labels\": [\"y\"], \"variances\": [\"v\"]}", &rows) ||
      biv_dataset_get_info(rows, &info))
    return fail();

  char description[100], options[500];
  snprintf(description, sizeof description, "{\"kind\": \"mlp\", \"inputs\": %lld, \"hidden\": [32, 16]}",
           (long long)info.features);
  snprintf(options, sizeof options, "{\"batch_size\": 256, \"distributed\": %s}",
           count > 2 ? arguments[2] : "{\"rows\": \"own\"}");
  biv_model *model = NULL;
  biv_trainer *trainer = NULL;
  if (biv_model_create(description, &model) || biv_trainer_create(model, rows, options, &trainer) ||
      biv_trainer_fit(trainer, 3, NULL, NULL, NULL))
    return fail();

  biv_step step = {.struct_size = sizeof step};
  if (biv_trainer_step(trainer, &step)) return fail();
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  printf("%lld rows here; loss %.6f, effective batch size %.3f; %ld MiB\n", (long long)info.rows, step.loss,
         step.effective_batch_size, usage.ru_maxrss / 1024);
  const char *rank = getenv("RANK") ? getenv("RANK") : getenv("SLURM_PROCID");
  if ((!rank || strcmp(rank, "0") == 0) && biv_model_save(model, "own_rows.biv")) return fail();
  biv_trainer_free(trainer), biv_model_free(model), biv_dataset_free(rows);
  return 0;
}
