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
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <unordered_map>
#include <utility>

namespace {

// Less than this is left to the allocator that was there before.
constexpr size_t LARGE = size_t{1} << 20;
constexpr size_t HUGE_PAGE = size_t{2} << 20;

size_t whole_pages(size_t size) { return (size + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE; }

// `size` bytes straight from the system, whole huge pages; NULL when it has none.
char *map_memory(size_t size) {
  void *start = mmap(nullptr, size + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (start == MAP_FAILED) return nullptr;
  const size_t before = -reinterpret_cast<uintptr_t>(start) % HUGE_PAGE;
  char *memory = static_cast<char *>(start) + before;
  if (before) munmap(start, before);
  munmap(memory + size, HUGE_PAGE - before);
  madvise(memory, size, MADV_HUGEPAGE);
  return memory;
}

// Memory for the tensors of one trainer or one prediction: whole huge pages,
// taken inside its scope and given back anywhere, by any thread, after its end too.
class Pool {
 public:
  ~Pool() { shrink_to(0); }

  // NULL when there is no memory.
  char *take(size_t size) {
    std::lock_guard<std::mutex> lock(mutex_);
    char *memory = take_kept(size);
    if (!memory) memory = map_memory(size);
    if (!memory) {
      shrink_to(0);
      memory = map_memory(size);
    }
    if (!memory) return nullptr;
    used_ += size;
    most_used_ = std::max(most_used_, used_);
    // What is kept makes the pool larger than its user ever was by a quarter at most.
    shrink_to(most_used_ + most_used_ / 4 - used_);
    return memory;
  }

  void give(char *memory, size_t size) {
    std::lock_guard<std::mutex> lock(mutex_);
    used_ -= size;
    try {
      keep(memory, size);
    } catch (const std::bad_alloc &) {
      munmap(memory, size);
    }
    if (closed_) shrink_to(0);
  }

  // Keeps nothing from now on.
  void close() {
    std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
    shrink_to(0);
  }

 private:
  // The first `size` bytes of the smallest range that has them.
  char *take_kept(size_t size) {
    auto best = kept_.end();
    for (auto range = kept_.begin(); range != kept_.end(); ++range) {
      if (range->second >= size && (best == kept_.end() || range->second < best->second)) best = range;
    }
    return best == kept_.end() ? nullptr : cut(best, size);
  }

  // Adds a range, in one piece with its neighbours.
  void keep(char *memory, size_t size) {
    auto range = kept_.emplace(memory, size).first;
    kept_bytes_ += size;
    auto next = std::next(range);
    if (next != kept_.end() && next->first == memory + size) {
      range->second += next->second;
      kept_.erase(next);
    }
    if (range == kept_.begin()) return;
    auto previous = std::prev(range);
    if (previous->first + previous->second == memory) {
      previous->second += range->second;
      kept_.erase(range);
    }
  }

  // Gives memory back to the system, from the smallest ranges first.
  void shrink_to(size_t bytes) {
    while (kept_bytes_ > bytes) {
      auto smallest = std::min_element(kept_.begin(), kept_.end(),
                                       [](const auto &a, const auto &b) { return a.second < b.second; });
      const size_t size = std::min(smallest->second, whole_pages(kept_bytes_ - bytes));
      munmap(cut(smallest, size), size);
    }
  }

  // Takes the first `size` bytes out of a range.
  char *cut(std::map<char *, size_t>::iterator range, size_t size) {
    char *memory = range->first;
    if (range->second == size) {
      kept_.erase(range);
    } else {
      auto node = kept_.extract(range);
      node.key() += size;
      node.mapped() -= size;
      kept_.insert(std::move(node));
    }
    kept_bytes_ -= size;
    return memory;
  }

  std::mutex mutex_;
  // Where each range that nobody uses begins, and its size.
  std::map<char *, size_t> kept_;
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
    const size_t whole = whole_pages(size);
    char *memory = (*current)->take(whole);
    if (!memory) return before_->allocate(size);
    try {
      std::lock_guard<std::mutex> lock(mutex_);
      lent_.emplace(memory, Loan{*current, whole});
    } catch (...) {
      (*current)->give(memory, whole);
      throw;
    }
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
      loan.pool->give(static_cast<char *>(memory), loan.size);
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

// A pool, or NULL without memory for one. Freed with biv_torch_pool_free.
const SharedPool *biv_torch_pool_create() {
  try {
    ScopedAllocator::installed();
    return new SharedPool(std::make_shared<Pool>());
  } catch (...) {
    return nullptr;
  }
}

// What the pool keeps goes back to the system now, what tensors still use when they go.
void biv_torch_pool_free(const SharedPool *pool) {
  (*pool)->close();
  delete pool;
}

// From now on this thread's large tensors are in `pool`; with NULL, where the
// host wants them. Returns what it was before.
const SharedPool *biv_torch_pool_enter(const SharedPool *pool) { return std::exchange(current, pool); }

}  // extern "C"
