// An arena: memory for large tensors on the CPU. libtorch gets the memory of each result from the system and returns it
// after its last use, so each operation first has new pages mapped and zeroed: half of the time of an image network. An
// arena keeps such memory for the next operation.
//
// libtorch has one allocator for each process, and the host may use it too. So ours only serves threads that are inside
// an arena's scope, and large tensors. Everything else goes to the allocator that was there before.

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

// Smaller memory is left to the allocator that was there before.
constexpr size_t LARGE = size_t{1} << 20;
constexpr size_t HUGE_PAGE = size_t{2} << 20;

size_t whole_pages(size_t size) { return (size + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE; }

// Gets `size` bytes, which are whole huge pages, from the system; NULL when it has none.
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

// The memory of the tensors of one trainer or one prediction, in whole huge pages. It is taken inside the arena's
// scope, and may be given back by any thread, even after the arena was freed.
class Arena {
 public:
  ~Arena() { shrink_to(0); }

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
    // The arena holds at most a quarter more than was ever in use at one time.
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

  // Makes the arena keep nothing from now on.
  void close() {
    std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
    shrink_to(0);
  }

 private:
  // Takes the first `size` bytes of the smallest kept range that is large enough; NULL if none is.
  char *take_kept(size_t size) {
    auto best = kept_.end();
    for (auto range = kept_.begin(); range != kept_.end(); ++range) {
      if (range->second >= size && (best == kept_.end() || range->second < best->second)) best = range;
    }
    return best == kept_.end() ? nullptr : split_off(best, size);
  }

  // Keeps a range, merged with its neighbours.
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

  // Returns memory to the system until at most `bytes` are kept, the smallest ranges first.
  void shrink_to(size_t bytes) {
    while (kept_bytes_ > bytes) {
      auto smallest = std::min_element(kept_.begin(), kept_.end(),
                                       [](const auto &a, const auto &b) { return a.second < b.second; });
      const size_t size = std::min(smallest->second, whole_pages(kept_bytes_ - bytes));
      munmap(split_off(smallest, size), size);
    }
  }

  // Removes the first `size` bytes from a kept range.
  char *split_off(std::map<char *, size_t>::iterator range, size_t size) {
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
  // The kept ranges, which nobody uses: where each begins, and its size.
  std::map<char *, size_t> kept_;
  size_t kept_bytes_ = 0, used_ = 0, most_used_ = 0;
  bool closed_ = false;
};

using SharedArena = std::shared_ptr<Arena>;

// The arena whose scope this thread is in; NULL for none.
thread_local const SharedArena *current = nullptr;

// Serves a thread from its arena. It remembers the arena of each block in use, as blocks may come back without the
// deleter that they were given with: oneDNN keeps its memory that way.
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

  // The only one of this process, put in front of the allocator that is there. An allocator that the host has set with
  // a priority stays, and one that it sets later replaces ours: then arenas have no effect.
  static ScopedAllocator &installed() {
    static ScopedAllocator *allocator = [] {
      auto *made = new ScopedAllocator(c10::GetCPUAllocator());
      // Other threads may be reading the pointer to it.
      std::atomic_thread_fence(std::memory_order_release);
      c10::SetCPUAllocator(made);
      return made;
    }();
    return *allocator;
  }

 private:
  struct Loan {
    SharedArena arena;
    size_t size;
  };

  // The deleter of our blocks, and of all memory that was allocated through us without one.
  static void release(void *memory) {
    ScopedAllocator &self = installed();
    const Loan loan = self.returned(memory);
    if (loan.arena) {
      loan.arena->give(static_cast<char *>(memory), loan.size);
    } else {
      self.before_->raw_deallocate(memory);
    }
  }

  // Ends the loan of `memory`. It has no arena if the memory is not ours.
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

// Makes an arena, to be freed with biv_torch_arena_free. NULL where there is no memory for one.
const SharedArena *biv_torch_arena_create() {
  try {
    ScopedAllocator::installed();
    return new SharedArena(std::make_shared<Arena>());
  } catch (...) {
    return nullptr;
  }
}

// Frees an arena: what it keeps goes back to the system now, and what tensors still use when they are freed.
void biv_torch_arena_free(const SharedArena *arena) {
  (*arena)->close();
  delete arena;
}

// From now on this thread's large tensors are in `arena`; with NULL, where the host's allocator puts them. Returns the
// arena before.
const SharedArena *biv_torch_arena_enter(const SharedArena *arena) { return std::exchange(current, arena); }

}  // extern "C"
