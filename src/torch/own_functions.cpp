// libtorch calls the functions that it contains, and those of the BLAS and LAPACK that it comes with. It has MKL, libuv
// and others in it and exports their C functions; on Arm BLAS and LAPACK are libraries of their own, which it needs.
// The dynamic linker binds libtorch's calls to the first library of the process that has the names: a host's BLAS, if
// it comes first. When libbiv is loaded these bindings become libtorch's own again. C++ functions are left alone, and
// so are variables, of which a program may hold the only copy. One function of the system's is called by way of this
// library: the one that registers destructors.

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <cxxabi.h>
#include <dlfcn.h>
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <vector>

namespace {

#ifdef __aarch64__
constexpr unsigned CALL = R_AARCH64_JUMP_SLOT, ADDRESS = R_AARCH64_GLOB_DAT, WORD = R_AARCH64_ABS64;
#else
constexpr unsigned CALL = R_X86_64_JUMP_SLOT, ADDRESS = R_X86_64_GLOB_DAT, WORD = R_X86_64_64;
#endif

// A loaded library as the dynamic linker sees it.
class Library {
 public:
  explicit Library(const dl_phdr_info &info) : path(info.dlpi_name), base_(info.dlpi_addr) {
    const ElfW(Dyn) *entry = nullptr;
    for (int i = 0; i < info.dlpi_phnum; ++i) {
      const ElfW(Phdr) &part = info.dlpi_phdr[i];
      if (part.p_type == PT_DYNAMIC) entry = reinterpret_cast<const ElfW(Dyn) *>(base_ + part.p_vaddr);
      if (part.p_type == PT_LOAD) size_ = std::max<size_t>(size_, part.p_vaddr + part.p_memsz);
      if (part.p_type != PT_GNU_RELRO) continue;
      const ElfW(Addr) page = sysconf(_SC_PAGESIZE), start = base_ + part.p_vaddr;
      read_only_ = start / page * page;
      read_only_size_ = (start + part.p_memsz) / page * page - read_only_;
    }
    for (; entry && entry->d_tag != DT_NULL; ++entry) {
      const auto value = entry->d_un.d_ptr;
      switch (entry->d_tag) {
        case DT_JMPREL:
          tables_[0] = reinterpret_cast<const ElfW(Rela) *>(value);
          break;
        case DT_PLTRELSZ:
          sizes_[0] = value / sizeof(ElfW(Rela));
          break;
        case DT_RELA:
          tables_[1] = reinterpret_cast<const ElfW(Rela) *>(value);
          break;
        case DT_RELASZ:
          sizes_[1] = value / sizeof(ElfW(Rela));
          break;
        case DT_SYMTAB:
          symbols_ = reinterpret_cast<const ElfW(Sym) *>(value);
          break;
        case DT_STRTAB:
          names_ = reinterpret_cast<const char *>(value);
          break;
      }
    }
  }

  bool contains(ElfW(Addr) address) const { return address - base_ < size_; }

  // Calls visit(name, place, is_needed, own) for each place with the address of a C function. `own` is the function
  // that the library contains, or what is added to that of another library, which this one needs.
  template <class Visit>
  void each_function(Visit visit) const {
    if (!symbols_ || !names_) return;
    for (int table = 0; table < 2; ++table) {
      for (size_t i = 0; i < sizes_[table]; ++i) {
        const ElfW(Rela) &binding = tables_[table][i];
        const auto relocation = ELF64_R_TYPE(binding.r_info);
        if (relocation != CALL && relocation != ADDRESS && relocation != WORD) continue;
        const ElfW(Sym) &symbol = symbols_[ELF64_R_SYM(binding.r_info)];
        const char *name = names_ + symbol.st_name;
        const bool is_cpp = name[0] == '_' && name[1] == 'Z', is_needed = symbol.st_shndx == SHN_UNDEF;
        if (is_cpp || ELF64_ST_TYPE(symbol.st_info) != STT_FUNC) continue;
        visit(name, reinterpret_cast<ElfW(Addr) *>(base_ + binding.r_offset), is_needed,
              (is_needed ? 0 : base_ + symbol.st_value) + (relocation == WORD ? binding.r_addend : 0));
      }
    }
  }

  // Lets the place have this address, where the system permits it.
  void bind(ElfW(Addr) * place, ElfW(Addr) address) {
    if (*place == address) return;
    const bool is_read_only = reinterpret_cast<ElfW(Addr)>(place) - read_only_ < read_only_size_;
    if (is_read_only && !is_open_ && !(is_open_ = protect(PROT_READ | PROT_WRITE))) return;
    // Other threads may call it meanwhile.
    __atomic_store_n(place, address, __ATOMIC_RELAXED);
  }
  // Makes read-only again what was.
  void close() {
    if (is_open_) protect(PROT_READ);
  }

  const char *path;

 private:
  bool protect(int access) const { return !mprotect(reinterpret_cast<void *>(read_only_), read_only_size_, access); }

  ElfW(Addr) base_;
  size_t size_ = 0;
  const ElfW(Rela) * tables_[2] = {};
  size_t sizes_[2] = {};
  const ElfW(Sym) *symbols_ = nullptr;
  const char *names_ = nullptr;
  // What the dynamic linker has made read-only, and whether it can be written now.
  ElfW(Addr) read_only_ = 0;
  size_t read_only_size_ = 0;
  bool is_open_ = false;
};

// The name of the library's file, without its folder.
const char *file_of(const dl_phdr_info &info) {
  const char *slash = strrchr(info.dlpi_name, '/');
  return slash ? slash + 1 : info.dlpi_name;
}

// libtorch, and every BLAS and LAPACK of the process, the host's too.
struct Loaded {
  std::deque<Library> torch;
  std::vector<Library> algebra;

  Loaded() {
    dl_iterate_phdr(
        [](dl_phdr_info *info, size_t, void *data) {
          Loaded &loaded = *static_cast<Loaded *>(data);
          const char *file = file_of(*info);
          if (!strncmp(file, "libtorch_cpu", 12)) {
            if (loaded.torch.empty()) loaded.torch.emplace_back(*info);
          } else if (strstr(file, "blas") || strstr(file, "lapack") || strstr(file, "mkl")) {
            loaded.algebra.emplace_back(*info);
          }
          return 0;
        },
        this);
    if (!torch.empty()) scope_ = dlopen(torch[0].path, RTLD_LAZY | RTLD_NOLOAD);
  }
  ~Loaded() {
    if (scope_) dlclose(scope_);
  }
  Loaded(const Loaded &) = delete;
  Loaded &operator=(const Loaded &) = delete;

  // The function that libtorch or the first of the libraries that it needs contains; 0 where there is none.
  ElfW(Addr) own(const char *name) const { return scope_ ? reinterpret_cast<ElfW(Addr)>(dlsym(scope_, name)) : 0; }

 private:
  void *scope_ = nullptr;
};

__attribute__((constructor)) void bind_libtorch_to_itself() {
  try {
    Loaded loaded;
    std::deque<Library> &libraries = loaded.torch;
    // It grows by the BLAS and LAPACK that libtorch comes with.
    for (size_t i = 0; i < libraries.size(); ++i) {
      Library &library = libraries[i];
      library.each_function([&](const char *name, ElfW(Addr) * place, bool is_needed, ElfW(Addr) own) {
        if (!is_needed) return library.bind(place, own);
        if (loaded.algebra.empty()) return;
        const ElfW(Addr) needed = loaded.own(name);
        const auto has_it = [&](const Library &other) { return other.contains(needed); };
        const auto found = std::find_if(loaded.algebra.begin(), loaded.algebra.end(), has_it);
        if (found == loaded.algebra.end()) return;
        library.bind(place, needed + own);
        if (std::none_of(libraries.begin(), libraries.end(), has_it)) libraries.push_back(*found);
      });
      library.close();
    }
  } catch (const std::bad_alloc &) {
    // They stay as they are, and the log says whose the matrix product is.
  }
}

// Told of each destructor that libtorch registers for the end of the process.
void (*listener)() = nullptr;

int register_destructor(void (*destructor)(void *), void *object, void *owner) {
  const int status = abi::__cxa_atexit(destructor, object, owner);
  listener();
  return status;
}

}  // namespace

// Lets libtorch's libraries that are loaded tell `told` of each destructor that they register from now on. To be called
// once.
extern "C" void biv_torch_hear_of_destructors(void (*told)()) noexcept {
  listener = told;
  dl_iterate_phdr(
      [](dl_phdr_info *info, size_t, void *) {
        const char *file = file_of(*info);
        if (strncmp(file, "libtorch", 8) && strncmp(file, "libc10", 6)) return 0;
        Library library(*info);
        library.each_function([&](const char *name, ElfW(Addr) * place, bool is_needed, ElfW(Addr)) {
          if (is_needed && !strcmp(name, "__cxa_atexit"))
            library.bind(place, reinterpret_cast<ElfW(Addr)>(register_destructor));
        });
        library.close();
        return 0;
      },
      nullptr);
}

// The file whose dgemm_ libtorch calls for products of matrices, and whether it is the one that libtorch comes with.
// The caller frees it; NULL where it cannot be told.
extern "C" char *biv_torch_blas(bool *is_own) {
  try {
    // The first call looks up the address, where libtorch contains no such function.
    at::NoGradGuard no_grad;
    at::Tensor ones = at::ones({32, 32}, at::kDouble);
    at::mm(ones, ones);
    const Loaded loaded;
    if (loaded.torch.empty()) return nullptr;
    ElfW(Addr) called = 0;
    loaded.torch[0].each_function([&](const char *name, ElfW(Addr) * place, bool, ElfW(Addr)) {
      if (!strcmp(name, "dgemm_")) called = *place;
    });
    *is_own = called == loaded.own("dgemm_");
    Dl_info owner;
    if (!called || !dladdr(reinterpret_cast<void *>(called), &owner) || !owner.dli_fname) return nullptr;
    return strdup(owner.dli_fname);
  } catch (...) {
    return nullptr;
  }
}
