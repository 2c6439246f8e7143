// A host that uses libtorch itself: during the library's calls and between them, the memory of its own tensors is
// managed as without the library.
#include <ATen/ATen.h>
#include <biv.h>
#include <c10/core/CPUAllocator.h>
#include <malloc.h>

#include <atomic>
#include <cstdio>
#include <fstream>
#include <mutex>
#include <thread>
#include <vector>

static int passed = 0, failed = 0;

#define EXPECT(condition)                                                         \
  do {                                                                            \
    ++((condition) ? passed : failed);                                            \
    if (!(condition)) std::printf("%s:%d: %s\n", __FILE__, __LINE__, #condition); \
  } while (0)

// src/torch/arena.cpp is compiled into this program too.
struct SharedArena;
extern "C" const SharedArena *biv_torch_arena_create();
extern "C" void biv_torch_arena_free(const SharedArena *);
extern "C" const SharedArena *biv_torch_arena_enter(const SharedArena *);

// What the library's calls do. Its own symbols are hidden.
struct Scope {
  explicit Scope(const SharedArena *arena) : before(biv_torch_arena_enter(arena)) {}
  ~Scope() { biv_torch_arena_enter(before); }
  const SharedArena *before;
};

constexpr int64_t MIB = 1 << 20;

static at::Tensor bytes(int64_t count) { return at::empty({count}, at::kByte); }

static c10::DeleterFnPtr deleter(const at::Tensor &tensor) { return tensor.storage().data_ptr().get_deleter(); }

// The process's resident memory in bytes.
static int64_t resident() {
  std::ifstream file("/proc/self/statm");
  int64_t size = 0, pages = 0;
  file >> size >> pages;
  return pages * 4096;
}

// Writes to every page.
static at::Tensor written(int64_t count) { return bytes(count).fill_(7); }

static void outside_of_calls_the_hosts_allocator_works(c10::DeleterFnPtr hosts) {
  for (int64_t count : {int64_t{1}, MIB - 1, MIB, 100 * MIB}) EXPECT(deleter(bytes(count)) == hosts);
  // Memory that is kept without its deleter, as oneDNN does.
  at::Allocator *allocator = c10::GetCPUAllocator();
  EXPECT(allocator->raw_deleter() != nullptr);
  for (size_t count : {size_t{64}, size_t(8 * MIB)}) {
    void *memory = allocator->raw_allocate(count);
    EXPECT(malloc_usable_size(memory) >= count);
    allocator->raw_deallocate(memory);
  }
  at::Tensor tensor = written(4 * MIB);
  EXPECT(tensor.clone().equal(tensor));
  EXPECT(allocator->is_simple_data_ptr(tensor.storage().data_ptr()));
  tensor.resize_({16 * MIB});
  EXPECT(deleter(tensor) == hosts);
}

static void inside_a_scope_large_memory_is_used_again(c10::DeleterFnPtr hosts) {
  const SharedArena *arena = biv_torch_arena_create();
  void *first = nullptr;
  {
    Scope scope(arena);
    EXPECT(deleter(bytes(MIB - 1)) == hosts);
    at::Tensor large = written(30 * MIB);
    EXPECT(deleter(large) != hosts);
    EXPECT(reinterpret_cast<uintptr_t>(large.data_ptr()) % (2 * MIB) == 0);
    first = large.data_ptr();
    large.reset();
    EXPECT(bytes(30 * MIB).data_ptr() == first);
    // A block of it, then the rest.
    at::Tensor part = bytes(10 * MIB), rest = bytes(20 * MIB);
    EXPECT(part.data_ptr() == first && static_cast<char *>(rest.data_ptr()) == static_cast<char *>(first) + 10 * MIB);
    part.reset();
    rest.reset();
    EXPECT(bytes(30 * MIB).data_ptr() == first);
    {
      Scope none(nullptr);
      EXPECT(deleter(bytes(30 * MIB)) == hosts);
    }
    std::thread([hosts] { EXPECT(deleter(bytes(30 * MIB)) == hosts); }).join();
    // Without the deleter, and returned outside of the scope.
    at::Allocator *allocator = c10::GetCPUAllocator();
    void *memory = allocator->raw_allocate(30 * MIB);
    EXPECT(memory == first);
    Scope none(nullptr);
    allocator->raw_deallocate(memory);
  }
  void *hosts_memory = c10::GetCPUAllocator()->raw_allocate(30 * MIB);
  EXPECT(hosts_memory != first);
  {
    Scope scope(arena);
    EXPECT(bytes(30 * MIB).data_ptr() == first);
    c10::GetCPUAllocator()->raw_deallocate(hosts_memory);
    EXPECT(bytes(30 * MIB).data_ptr() == first);
  }
  biv_torch_arena_free(arena);
}

static void memory_goes_back_with_the_pool_and_may_outlive_it() {
  const int64_t before = resident();
  const SharedArena *arena = biv_torch_arena_create();
  at::Tensor survivor, other_survivor;
  {
    Scope scope(arena);
    survivor = written(64 * MIB);
    other_survivor = written(64 * MIB);
    at::Tensor other = written(256 * MIB);
  }
  EXPECT(resident() - before > 300 * MIB);
  biv_torch_arena_free(arena);
  EXPECT(resident() - before < 144 * MIB);
  other_survivor.reset();
  EXPECT(resident() - before < 80 * MIB);
  EXPECT(survivor.eq(7).all().item<bool>());
  std::thread([&] { survivor.reset(); }).join();
  EXPECT(resident() - before < 16 * MIB);
}

static void what_is_kept_is_bounded() {
  const int64_t before = resident();
  const SharedArena *arena = biv_torch_arena_create();
  Scope scope(arena);
  // One tensor at a time, each larger than all that was kept: 2 GiB if there were no bound.
  for (int64_t size = 2; size <= 64; ++size) written(size * MIB);
  EXPECT(resident() - before < (64 + 16 + 8) * MIB);
  // Tensors of many sizes at a time, in an order that leaves gaps.
  for (int round = 0; round < 50; ++round) {
    std::vector<at::Tensor> tensors;
    for (int i = 0; i < 16; ++i) tensors.push_back(written((2 + (round * 7 + i * 5) % 11) * MIB));
    for (int i = 0; i < 16; i += 2) tensors[i].reset();
    for (int i = 0; i < 16; i += 2) tensors[i] = written((2 + (round * 3 + i) % 7) * MIB);
  }
  EXPECT(resident() - before < 300 * MIB);
  biv_torch_arena_free(arena);
}

// Threads make tensors in their own arenas and in a shared one, and free each other's.
static void threads_do_not_disturb_each_other(c10::DeleterFnPtr hosts) {
  const SharedArena *shared = biv_torch_arena_create();
  std::atomic<int> wrong{0};
  std::mutex mutex;
  std::vector<at::Tensor> left;
  auto work = [&](int id) {
    const SharedArena *own = biv_torch_arena_create();
    for (int i = 0; i < 300; ++i) {
      const int64_t size = (1 + (i * 13 + id) % 5) * MIB + i;
      at::Tensor tensor;
      {
        Scope scope(i % 3 == 0 ? own : i % 3 == 1 ? shared : nullptr);
        tensor = bytes(size).fill_(id);
        wrong += (deleter(tensor) == hosts) != (i % 3 == 2);
      }
      wrong += deleter(bytes(2 * MIB)) != hosts;
      wrong += !tensor.eq(id).all().item<bool>();
      std::lock_guard<std::mutex> lock(mutex);
      left.push_back(tensor);
      if (left.size() > 8) left.erase(left.begin() + i % 8);
    }
    biv_torch_arena_free(own);
  };
  std::vector<std::thread> threads;
  for (int id = 0; id < 4; ++id) threads.emplace_back(work, id);
  for (std::thread &thread : threads) thread.join();
  biv_torch_arena_free(shared);
  left.clear();
  EXPECT(wrong == 0);
}

// The library trains a network with large tensors, while another thread of the host makes its own.
static void the_host_goes_on_while_the_library_trains(c10::DeleterFnPtr hosts) {
  std::atomic<bool> done{false};
  std::atomic<int> wrong{0}, rounds{0};
  std::thread host([&] {
    while (!done || rounds < 10) {
      at::Tensor tensor = written(3 * MIB);
      wrong += deleter(tensor) != hosts || deleter(tensor + 1) != hosts;
      ++rounds;
    }
  });
  const int64_t rows = 16, shape[] = {rows, 3, 64, 64};
  at::Tensor features = at::rand({rows, 3, 64, 64}), labels = at::rand({rows});
  const biv_array x = {features.data_ptr(), BIV_F32, 4, shape, nullptr, 0};
  const biv_array y = {labels.data_ptr(), BIV_F32, 1, shape, nullptr, 0};
  biv_dataset *data = nullptr;
  biv_model *model = nullptr;
  biv_trainer *trainer = nullptr;
  biv_step step = {};
  step.struct_size = sizeof step;
  EXPECT(biv_dataset_create_from_arrays(&x, &y, nullptr, &data) == BIV_OK);
  EXPECT(biv_model_create("{\"kind\": \"vanilla_cnn\", \"height\": 64, \"width\": 64}", &model) == BIV_OK);
  EXPECT(biv_trainer_create(model, data, "{\"batch_size\": 16, \"loss\": {\"kind\": \"mse\"}}", &trainer) == BIV_OK);
  for (int i = 0; i < 20; ++i) EXPECT(biv_trainer_step(trainer, &step) == BIV_OK);
  biv_trainer_free(trainer);
  biv_model_free(model);
  biv_dataset_free(data);
  done = true;
  host.join();
  EXPECT(wrong == 0);
  EXPECT(deleter(bytes(100 * MIB)) == hosts);
}

// An allocator that the host sets after the library's.
struct Counting final : at::Allocator {
  at::DataPtr allocate(size_t size) override {
    ++count;
    return before->allocate(size);
  }
  void copy_data(void *to, const void *from, size_t size) const override { before->copy_data(to, from, size); }
  at::Allocator *before = c10::GetCPUAllocator();
  std::atomic<int> count{0};
};

static void a_later_allocator_of_the_hosts_is_obeyed() {
  at::Tensor older = written(8 * MIB);
  auto *counting = new Counting;
  c10::SetCPUAllocator(counting);
  const SharedArena *arena = biv_torch_arena_create();
  {
    Scope scope(arena);
    bytes(8 * MIB);
    bytes(8);
  }
  biv_torch_arena_free(arena);
  EXPECT(counting->count == 2);
  EXPECT(c10::GetCPUAllocator() == counting);
  c10::SetCPUAllocator(counting->before);
}

int main() {
  const c10::DeleterFnPtr hosts = deleter(bytes(100 * MIB));
  EXPECT(hosts == c10::GetDefaultCPUAllocator()->raw_deleter());
  the_host_goes_on_while_the_library_trains(hosts);
  outside_of_calls_the_hosts_allocator_works(hosts);
  inside_a_scope_large_memory_is_used_again(hosts);
  outside_of_calls_the_hosts_allocator_works(hosts);
  memory_goes_back_with_the_pool_and_may_outlive_it();
  what_is_kept_is_bounded();
  threads_do_not_disturb_each_other(hosts);
  a_later_allocator_of_the_hosts_is_obeyed();
  outside_of_calls_the_hosts_allocator_works(hosts);
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed > 0;
}
