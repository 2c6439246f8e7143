// Messages when there is no memory. An error of libtorch reaches Rust as a copy of its message, so one that could not
// be copied would be taken for a success: strdup is replaced, by the linker and in this library only, by one that has
// some spare blocks.
#include <atomic>
#include <cstdlib>
#include <cstring>

namespace {
// In bytes, the end's NUL included.
constexpr size_t kSpareSize = 1000;
std::atomic<char *> spares[8];
}  // namespace

extern "C" {

// Allocates the spare blocks that there are not.
void biv_shim_keep_spare_messages() {
  for (auto &spare : spares) {
    if (spare.load(std::memory_order_relaxed) != nullptr) continue;
    char *none = nullptr, *block = static_cast<char *>(std::malloc(kSpareSize));
    if (!spare.compare_exchange_strong(none, block)) std::free(block);
  }
}

// Like strdup; without memory, the text's beginning in a spare block.
char *__wrap_strdup(const char *text) {
  const size_t size = std::strlen(text) + 1;
  if (auto *copy = static_cast<char *>(std::malloc(size))) return static_cast<char *>(std::memcpy(copy, text, size));
  for (auto &spare : spares)
    if (char *copy = spare.exchange(nullptr)) {
      copy[0] = '\0';
      return std::strncat(copy, text, kSpareSize - 1);
    }
  return nullptr;
}

}  // extern "C"
