// Memory for large tensors on the CPU. libtorch takes it from the system for
// every result and gives it back after its last use, so that each operation
// meets pages that have to be mapped and zeroed first: half of the time of an
// image network. A pool keeps such memory for the next operation.
//
// libtorch has one allocator per process, and the host may use it too. So ours
// only looks whether the calling thread is inside a pool's scope: elsewhere, and
// for small memory always, the allocator that was there before does the work.

#include <c10/core/CPUAllocator.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

namespace {

// Less than this is left to the allocator that was there before.
constexpr size_t LARGE = size_t{1} << 20;
constexpr size_t HUGE_PAGE = size_t{2} << 20;

// Whole huge pages.
struct Block {
  void *memory;
  size_t size;
};

// A block of `size` bytes straight from the system; NULL when it has none.
void *map(size_t size) {
  void *start = mmap(nullptr, size + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (start == MAP_FAILED) return nullptr;
  const size_t before = -reinterpret_cast<uintptr_t>(start) % HUGE_PAGE;
  char *block = static_cast<char *>(start) + before;
  if (before) munmap(start, before);
  munmap(block + size, HUGE_PAGE - before);
  madvise(block, size, MADV_HUGEPAGE);
  return block;
}

// Blocks for the tensors of one trainer or one prediction. They are made inside
// its scope and may be given back anywhere, by any thread, after its end too.
class Pool {
 public:
  ~Pool() { shrink_to(0); }

  void *take(size_t size) {
    std::lock_guard<std::mutex> lock(mutex_);
    void *memory = keeps(size);
    if (!memory) memory = map(size);
    if (!memory) {
      shrink_to(0);
      memory = map(size);
    }
    if (!memory) return nullptr;
    used_ += size;
    most_used_ = std::max(most_used_, used_);
    // What is kept makes the pool at most a quarter larger than its user once was.
    shrink_to(most_used_ + most_used_ / 4 - used_);
    return memory;
  }

  void give(Block block) {
    std::lock_guard<std::mutex> lock(mutex_);
    used_ -= block.size;
    kept_bytes_ += block.size;
    kept_.push_back(block);
    if (closed_) shrink_to(0);
  }

  // Keeps nothing from now on.
  void close() {
    std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
    shrink_to(0);
  }

 private:
  // The block of `size` that was given back last, because it may still be in the processor's caches.
  void *keeps(size_t size) {
    auto found = std::find_if(kept_.rbegin(), kept_.rend(), [size](const Block &block) { return block.size == size; });
    if (found == kept_.rend()) return nullptr;
    void *memory = found->memory;
    kept_.erase(std::next(found).base());
    kept_bytes_ -= size;
    return memory;
  }

  // Gives the blocks that were not used for the longest time back to the system.
  void shrink_to(size_t bytes) {
    auto block = kept_.begin();
    for (; kept_bytes_ > bytes; ++block) {
      munmap(block->memory, block->size);
      kept_bytes_ -= block->size;
    }
    kept_.erase(kept_.begin(), block);
  }

  std::mutex mutex_;
  // In the order in which they were given back.
  std::vector<Block> kept_;
  size_t kept_bytes_ = 0, used_ = 0, most_used_ = 0;
  bool closed_ = false;
};

using SharedPool = std::shared_ptr<Pool>;

// The pool in whose scope this thread is.
thread_local const SharedPool *current = nullptr;

// Finds the way home for every block that is in use, whoever gives it back:
// oneDNN keeps its memory without the deleter that came with it.
class ScopedAllocator final : public c10::Allocator {
 public:
  explicit ScopedAllocator(c10::Allocator *before) : before_(before) {}

  c10::DataPtr allocate(size_t size) override {
    if (!current || size < LARGE || size > SIZE_MAX / 2) return before_->allocate(size);
    const size_t whole = (size + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    void *memory = (*current)->take(whole);
    if (!memory) return before_->allocate(size);
    std::lock_guard<std::mutex> lock(mutex_);
    lent_.emplace(memory, Loan{*current, whole});
    return {memory, memory, &release, c10::Device(c10::DeviceType::CPU)};
  }

  c10::DeleterFnPtr raw_deleter() const override { return before_->raw_deleter() ? &release : nullptr; }

  bool is_simple_data_ptr(const c10::DataPtr &data) const override {
    return data.get_deleter() == &release || before_->is_simple_data_ptr(data);
  }

  void copy_data(void *to, const void *from, size_t size) const override { before_->copy_data(to, from, size); }

  // The one of this process, put before the allocator that is there. One that
  // the host has set with a priority stays, and one that it sets later replaces
  // ours: then nothing is kept, and all is as without us.
  static ScopedAllocator &installed() {
    static ScopedAllocator *allocator = [] {
      auto *made = new ScopedAllocator(c10::GetCPUAllocator());
      // Other threads may be reading the pointer.
      std::atomic_thread_fence(std::memory_order_release);
      c10::SetCPUAllocator(made);
      return made;
    }();
    return *allocator;
  }

 private:
  struct Loan {
    SharedPool pool;
    size_t size;
  };

  // The deleter of our blocks, and of whatever was allocated without one.
  static void release(void *memory) {
    ScopedAllocator &self = installed();
    const Loan loan = self.returned(memory);
    if (loan.pool) {
      loan.pool->give({memory, loan.size});
    } else {
      self.before_->raw_deallocate(memory);
    }
  }

  // The loan of `memory`, which ends; without a pool when it was none of ours.
  Loan returned(void *memory) {
    if (reinterpret_cast<uintptr_t>(memory) % HUGE_PAGE != 0) return {};
    std::lock_guard<std::mutex> lock(mutex_);
    auto found = lent_.find(memory);
    if (found == lent_.end()) return {};
    Loan loan = std::move(found->second);
    lent_.erase(found);
    return loan;
  }

  c10::Allocator *const before_;
  std::mutex mutex_;
  std::unordered_map<void *, Loan> lent_;
};

}  // namespace

extern "C" {

// A pool, or NULL without memory for one. Freed with biv_shim_pool_free.
const SharedPool *biv_shim_pool_create() {
  try {
    ScopedAllocator::installed();
    return new SharedPool(std::make_shared<Pool>());
  } catch (...) {
    return nullptr;
  }
}

// What the pool keeps goes back to the system now, what tensors still use when they go.
void biv_shim_pool_free(const SharedPool *pool) {
  (*pool)->close();
  delete pool;
}

// From now on this thread's large tensors are in `pool`; with NULL, where the
// host wants them. Returns what it was before.
const SharedPool *biv_shim_pool_enter(const SharedPool *pool) { return std::exchange(current, pool); }

}  // extern "C"
