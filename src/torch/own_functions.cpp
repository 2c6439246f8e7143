// libtorch calls the functions that it contains. It has MKL, libuv and others in it and exports their C functions, so
// the dynamic linker binds libtorch's own calls to the first library of the process that has the names: a host's BLAS,
// if it comes first. When libbiv is loaded these bindings become libtorch's own again. C++ functions are left alone,
// and so are variables, of which a program may hold the only copy.

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <dlfcn.h>
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

namespace {

#ifdef __aarch64__
constexpr unsigned CALL = R_AARCH64_JUMP_SLOT, ADDRESS = R_AARCH64_GLOB_DAT, WORD = R_AARCH64_ABS64;
#else
constexpr unsigned CALL = R_X86_64_JUMP_SLOT, ADDRESS = R_X86_64_GLOB_DAT, WORD = R_X86_64_64;
#endif

// A loaded library as the dynamic linker sees it.
struct Library {
  ElfW(Addr) base = 0;
  const ElfW(Rela) * tables[2] = {};
  size_t sizes[2] = {};
  const ElfW(Sym) *symbols = nullptr;
  const char *names = nullptr;
  // What the dynamic linker has made read-only.
  ElfW(Addr) read_only = 0;
  size_t read_only_size = 0;

  explicit Library(const dl_phdr_info &info) : base(info.dlpi_addr) {
    const ElfW(Dyn) *entry = nullptr;
    for (int i = 0; i < info.dlpi_phnum; ++i) {
      const ElfW(Phdr) &part = info.dlpi_phdr[i];
      if (part.p_type == PT_DYNAMIC) entry = reinterpret_cast<const ElfW(Dyn) *>(base + part.p_vaddr);
      if (part.p_type != PT_GNU_RELRO) continue;
      const ElfW(Addr) page = sysconf(_SC_PAGESIZE), start = base + part.p_vaddr;
      read_only = start / page * page;
      read_only_size = (start + part.p_memsz) / page * page - read_only;
    }
    for (; entry && entry->d_tag != DT_NULL; ++entry) {
      const auto value = entry->d_un.d_ptr;
      switch (entry->d_tag) {
        case DT_JMPREL:
          tables[0] = reinterpret_cast<const ElfW(Rela) *>(value);
          break;
        case DT_PLTRELSZ:
          sizes[0] = value / sizeof(ElfW(Rela));
          break;
        case DT_RELA:
          tables[1] = reinterpret_cast<const ElfW(Rela) *>(value);
          break;
        case DT_RELASZ:
          sizes[1] = value / sizeof(ElfW(Rela));
          break;
        case DT_SYMTAB:
          symbols = reinterpret_cast<const ElfW(Sym) *>(value);
          break;
        case DT_STRTAB:
          names = reinterpret_cast<const char *>(value);
          break;
      }
    }
  }

  // Calls visit(name, symbol, place, own) for each place with the address of a function, which is `own` if the library
  // contains that.
  template <class Visit>
  void each_binding(Visit visit) const {
    if (!symbols || !names) return;
    for (int table = 0; table < 2; ++table) {
      for (size_t i = 0; i < sizes[table]; ++i) {
        const ElfW(Rela) &binding = tables[table][i];
        const auto type = ELF64_R_TYPE(binding.r_info);
        if (type != CALL && type != ADDRESS && type != WORD) continue;
        const ElfW(Sym) &symbol = symbols[ELF64_R_SYM(binding.r_info)];
        const ElfW(Addr) own = base + symbol.st_value + (type == WORD ? binding.r_addend : 0);
        visit(names + symbol.st_name, symbol, reinterpret_cast<ElfW(Addr) *>(base + binding.r_offset), own);
      }
    }
  }

  bool is_read_only(const ElfW(Addr) * place) const {
    return reinterpret_cast<ElfW(Addr)>(place) - read_only < read_only_size;
  }
  bool set_read_only(bool on) const {
    return !mprotect(reinterpret_cast<void *>(read_only), read_only_size, on ? PROT_READ : PROT_READ | PROT_WRITE);
  }
};

// Calls found(libtorch).
template <class Found>
void with_libtorch(Found found) {
  dl_iterate_phdr(
      [](dl_phdr_info *info, size_t, void *data) {
        const char *slash = strrchr(info->dlpi_name, '/');
        if (strncmp(slash ? slash + 1 : info->dlpi_name, "libtorch_cpu", 12)) return 0;
        (*static_cast<Found *>(data))(Library(*info));
        return 1;
      },
      &found);
}

__attribute__((constructor)) void bind_libtorch_to_itself() {
  with_libtorch([](const Library &library) {
    bool open = false;
    library.each_binding([&](const char *name, const ElfW(Sym) & symbol, ElfW(Addr) * place, ElfW(Addr) own) {
      const bool is_cpp = name[0] == '_' && name[1] == 'Z';
      if (symbol.st_shndx == SHN_UNDEF || ELF64_ST_TYPE(symbol.st_info) != STT_FUNC || is_cpp || *place == own) return;
      if (library.is_read_only(place) && !open && !(open = library.set_read_only(false))) return;
      // Other threads may call it meanwhile.
      __atomic_store_n(place, own, __ATOMIC_RELAXED);
    });
    if (open) library.set_read_only(true);
  });
}

}  // namespace

// The file whose dgemm_ libtorch calls for products of matrices. The caller frees it; NULL where it cannot be told.
extern "C" char *biv_torch_blas() {
  try {
    // The first call looks up the address, where libtorch contains no such function.
    at::NoGradGuard no_grad;
    at::Tensor ones = at::ones({32, 32}, at::kDouble);
    at::mm(ones, ones);
    ElfW(Addr) called = 0;
    with_libtorch([&](const Library &library) {
      library.each_binding([&](const char *name, const ElfW(Sym) &, ElfW(Addr) * place, ElfW(Addr)) {
        if (!strcmp(name, "dgemm_")) called = *place;
      });
    });
    Dl_info owner;
    if (!called || !dladdr(reinterpret_cast<void *>(called), &owner) || !owner.dli_fname) return nullptr;
    return strdup(owner.dli_fname);
  } catch (...) {
    return nullptr;
  }
}
