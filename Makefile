# The two commands of the README are `make demo` and `make test`; each sets up
# what it needs. Everything that is built goes to target/, build/ and .libtorch/.

CARGO ?= cargo
CC ?= cc
CXX ?= c++
PREFIX ?= /usr/local
DESTDIR ?=

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
TORCH_VERSION := $(shell sed -n 's/^VERSION = "\(.*\)"/\1/p' scripts/libtorch.py)
# The version of the benchmark's other peer.
JAX_VERSION := 0.10.2
SONAME := libbiv.so.$(basename $(VERSION))
STAGE := $(CURDIR)/build/install
DIST := biv-$(VERSION)-$(shell uname -s | tr A-Z a-z)-$(shell uname -m)
# Where libtorch's libraries are.
TORCH ?= $(realpath $(or $(LIBTORCH),$(CURDIR)/.libtorch/torch))/lib
FILL = sed -e 's|@TORCH@|$(TORCH)|' -e 's|@VERSION@|$(VERSION)|' -e 's|@SONAME@|$(SONAME)|'
WARNINGS := -Wall -Wextra -Werror -pedantic
LINK = -I$(STAGE)/include -L$(STAGE)/lib -Wl,-rpath,$(STAGE)/lib -lbiv -lm -pthread
INSTALLED = -DBIV_HEADER='"$(STAGE)/include/biv.h"' -DBIV_PROGRAM='"$(STAGE)/bin/biv"'
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all
C_TESTS := $(notdir $(basename $(wildcard tests/c/*.c)))

# What CI runs each time, and what it runs before a release as well (.ci/run).
TESTS := rust-tests libtorch-test header symbols abi readme examples c-tests kernels host-torch python-test bindings-test install-test clients
CHECKS := deny abi-test sanitize kernels-sanitized valgrind faults killed-ranks stress exits slurm crate aarch64 container dist-test fuzz

.PHONY: all libtorch build install dist wheel stage demo test check tests checks lint $(TESTS) $(CHECKS) miri goldens cuda gpu-check bench bench-fit clean
.DELETE_ON_ERROR:

all: build

## libtorch: fetch the pinned libtorch into .libtorch/ (CUDA=1 for the full CUDA set), or check LIBTORCH
libtorch:
	@python3 scripts/libtorch.py $(if $(filter-out 0,$(CUDA)),--cuda)

build: libtorch
	$(CARGO) build --release

## install: library, header, pkg-config and CMake files and the program biv to DESTDIR/PREFIX
install: build
	install -d $(addprefix $(DESTDIR)$(PREFIX)/,bin include lib/pkgconfig lib/cmake/biv)
	install -m 755 target/release/libbiv.so $(DESTDIR)$(PREFIX)/lib/libbiv.so.$(VERSION)
	ln -sf libbiv.so.$(VERSION) $(DESTDIR)$(PREFIX)/lib/$(SONAME)
	ln -sf $(SONAME) $(DESTDIR)$(PREFIX)/lib/libbiv.so
	install -m 644 target/release/libbiv.a $(DESTDIR)$(PREFIX)/lib/libbiv.a
	if [ -f build/cuda/libbiv_cuda.so ]; then install -m 755 build/cuda/libbiv_cuda.so $(DESTDIR)$(PREFIX)/lib; fi
	install -m 644 include/biv.h include/biv.cdef.h bindings/cpp/biv.hpp $(DESTDIR)$(PREFIX)/include
	install -m 755 target/release/biv $(DESTDIR)$(PREFIX)/bin/biv
	$(FILL) packaging/biv.pc.in > $(DESTDIR)$(PREFIX)/lib/pkgconfig/biv.pc
	$(FILL) packaging/bivConfig.cmake.in > $(DESTDIR)$(PREFIX)/lib/cmake/biv/bivConfig.cmake
	$(FILL) packaging/bivConfigVersion.cmake.in > $(DESTDIR)$(PREFIX)/lib/cmake/biv/bivConfigVersion.cmake

## dist: a tarball with everything, libtorch for CPUs included, that runs wherever it is unpacked, and
## the list of its parts (CycloneDX) and their licences
dist: build
	rm -rf build/dist
	@$(MAKE) --no-print-directory install PREFIX=/$(DIST) DESTDIR=build/dist TORCH='$$$${libdir}/biv/torch/lib'
	cp README.md CHANGELOG.md LICENSE* build/dist/$(DIST)
	scripts/sbom.py $(TORCH) build/dist/$(DIST)
	install -d build/dist/$(DIST)/lib/biv/torch
	cp -r $(TORCH) build/dist/$(DIST)/lib/biv/torch/lib
	if [ -d $(TORCH)/../../nvidia ]; then cp -r $(TORCH)/../../nvidia build/dist/$(DIST)/lib/biv/nvidia; fi
	tar -C build/dist -cf - $(DIST) | gzip -1 > build/$(DIST).tar.gz
	@echo "build/$(DIST).tar.gz"

# Compiled against libtorch's headers. It names libtorch's libraries, whose symbols are not global; they need not be there
# before it is loaded, so it is linked with empty ones of the same names.
KERNELS := $(patsubst src/kernels/cuda/%.cu,build/cuda/%.inc,$(wildcard src/kernels/cuda/*.cu))
CUDA_NEEDS := torch_cuda c10_cuda torch_cpu c10
build/cuda/libbiv_cuda.so: $(wildcard src/kernels/cuda/*.cpp src/kernels/cuda/*.hpp) src/torch/guarded.hpp $(KERNELS) | libtorch
	@python3 scripts/libtorch.py --cuda-headers build/cuda
	@mkdir -p build/cuda/stubs
	@for name in $(CUDA_NEEDS); do $(CC) -shared -Wl,-soname,lib$$name.so -x c /dev/null -o build/cuda/stubs/lib$$name.so || exit 1; done
	$(CXX) -std=c++17 -O2 -Wall -Werror -fPIC -shared -Ibuild/cuda -isystem $(TORCH)/../include \
	  -isystem build/cuda/nvidia/cu13/include $(filter %.cpp,$^) -o $@ \
	  -Lbuild/cuda/stubs -Wl,--no-as-needed $(CUDA_NEEDS:%=-l%)
	@for name in $$(sed -nE 's/.*c"(biv_cuda_[a-z0-9_]+)".*/\1/p' src/kernels/cuda/library.rs); do \
	nm -D --defined-only $@ | grep -q " $$name$$" || { echo "$@ has no $$name"; rm $@; exit 1; }; done

# The kernels' source as a literal.
build/cuda/%.inc: src/kernels/cuda/%.cu
	@mkdir -p build/cuda
	@{ echo 'R"cuda('; cat $<; echo ')cuda"'; } > $@

## cuda: libbiv_cuda.so, kernels and CUDA graphs, beside the library; needs neither a GPU nor CUDA's compiler
cuda: build build/cuda/libbiv_cuda.so
	install -m 755 build/cuda/libbiv_cuda.so target/release

# The GPU's kernels on the CPU: a process for each block, a thread for each of its threads. The sanitizer finds a missing
# __syncthreads.
EMULATED := $(CXX) -std=c++20 -O1 -g1 -fsanitize=$(or $(SANITIZER),thread) -Wall -Wextra -Werror -Wno-unknown-pragmas -pthread -Ibuild/kernels
kernels:
	@mkdir -p build/kernels
	@for name in images mlp; do sed 's/extern __shared__/extern/; s/__shared__/static/' src/kernels/cuda/$$name.cu > build/kernels/$$name.inc || exit 1; done
	@$(EMULATED) tests/kernels/mlp.cpp -o build/kernels/mlp && ./build/kernels/mlp
	@for sizes in "8 3 2 1" "4 2 2 0" "2 3 1 1"; do set -- $$sizes; \
	$(EMULATED) -DWIDTH=$$1 -DSIZE=$$2 -DSTRIDE=$$3 -DPADDING=$$4 tests/kernels/images.cpp -o build/kernels/images && ./build/kernels/images || exit 1; done

# The CPU's kernels in C++ under the address and undefined-behaviour sanitizers, over odd shapes.
SANITIZED := tests/kernels/sanitized src/kernels/cpu/features src/kernels/cpu/conv src/kernels/cpu/norm src/torch/arena
build/sanitized/%.o: %.cpp $(wildcard src/kernels/cpu/*.hpp src/kernels/cpu/winograd/*.hpp) src/torch/guarded.hpp | libtorch
	@mkdir -p $(@D)
	$(CXX) -std=c++17 -O1 -g1 $(SANITIZE) -Wall -Wextra -Werror -isystem $(TORCH)/../include -c $< -o $@
build/sanitized/kernels: $(SANITIZED:%=build/sanitized/%.o)
	$(CXX) $(SANITIZE) $^ -o $@ -L$(TORCH) -Wl,-rpath,$(TORCH) -Wl,--no-as-needed -ltorch_cpu -lc10 -pthread
kernels-sanitized: build/sanitized/kernels
	@./build/sanitized/kernels

GPU_CHECK := build/gpu-check
## gpu-check: fill build/gpu-check with what a machine with a GPU and the same libtorch tests and times: run.sh there
gpu-check: build build/cuda/libbiv_cuda.so
	rm -rf $(GPU_CHECK) && install -d $(GPU_CHECK)
	$(CARGO) build --release --example gpu
	install -s -m 755 $$($(CARGO) test --release --test integration --no-run 2>&1 | sed -n 's|.*Executable tests/integration/main.rs (\(.*\))|\1|p') $(GPU_CHECK)/cuda-tests
	install -s -m 755 $$($(CARGO) test --release --lib --no-run 2>&1 | sed -n 's|.*Executable unittests src/lib.rs (\(.*\))|\1|p') $(GPU_CHECK)/unit-tests
	install -s -m 755 target/release/examples/gpu $(GPU_CHECK)/gpu
	install -m 755 build/cuda/libbiv_cuda.so benches/gpu.py $(GPU_CHECK)
	install -m 755 benches/gpu-check.sh $(GPU_CHECK)/run.sh
	echo $(TORCH_VERSION) > $(GPU_CHECK)/torch-version
	@size=$$(du -sm $(GPU_CHECK) | cut -f1) && test $$size -lt 64 && echo "$(GPU_CHECK): $$size MiB"

stage:
	@$(MAKE) --no-print-directory install PREFIX=$(STAGE) DESTDIR=

## wheel: the Python package as build/wheel/biv-*.whl, with the library; torch brings libtorch
wheel: stage
	rm -rf build/wheel && mkdir -p build/wheel
	@scripts/sbom.py $(TORCH) build/wheel
	@python3 bindings/python/build_wheel.py build/wheel

## demo: a C program trains with four losses and compares them; DATA=.../hour.csv for Bike Sharing
demo: stage
	$(CC) -std=c11 -O2 $(WARNINGS) examples/c/demo.c -o build/demo $(LINK)
	./build/demo $(DATA)

## test: what is tested with each change
test: $(TESTS)

## check: the tests, and everything that takes long: sanitizers, valgrind, injected panics, Slurm, Arm, containers, fuzzing
check: lint test $(CHECKS)

tests:
	@echo $(TESTS)

checks:
	@echo $(CHECKS)

# The ignored ones, where this machine has what they need, after the others.
rust-tests: libtorch
	$(CARGO) test --release
	@mkdir -p build && cd build && $(CARGO) run --release --quiet --example quickstart
	@CARGO=$(CARGO) tests/optional.sh

libtorch-test:
	python3 tests/test_libtorch.py

## lint: format and lints, without changing anything
lint: libtorch
	$(CARGO) fmt --check
	$(CARGO) clippy --release --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --no-deps --quiet
	clang-format --dry-run --Werror $(shell git ls-files "*.c" "*.h" "*.hpp" "*.cpp" "*.cu" | grep -v ^include/)

# The header compiles by itself and twice, in every dialect, without a warning; C90 lacks only <stdint.h>.
header: stage
	@printf '#include <biv.h>\n#include <biv.h>\nint main(void) { return biv_abi_version() != BIV_ABI_VERSION; }\n' > build/header.c
	@for std in c90 c99 c11 c17; do $(CC) -std=$$std $(WARNINGS) -Wstrict-prototypes -Wundef -x c build/header.c -o build/header $(LINK) && ./build/header || exit 1; done
	@for std in c++17 c++20; do $(CXX) -std=$$std $(WARNINGS) -x c++ build/header.c -o build/header $(LINK) && ./build/header || exit 1; done
	@echo "header: compiles as C90, C99, C11, C17, C++17 and C++20"

# The library exports exactly what the header declares, under its soname.
symbols: stage
	@nm -D --defined-only $(STAGE)/lib/libbiv.so | awk '{print $$3}' | sort > build/exported
	@grep -oE '\bbiv_[a-z_]+\(' include/biv.h | grep -v '^\*' | tr -d '(' | sort -u > build/mentioned
	@sed -nE 's/^[a-z].*[ *](biv_[a-z0-9_]+)\(.*/\1/p' include/biv.h | sort > build/declared
	@diff build/exported build/declared || { echo "symbols: the library's exports (<) differ from the header's functions (>)"; exit 1; }
	@test -z "$$(comm -23 build/mentioned build/declared)" || { echo "symbols: the header's text names functions that do not exist:"; comm -23 build/mentioned build/declared; exit 1; }
	@readelf -d $(STAGE)/lib/libbiv.so | grep -q 'SONAME.*\[$(SONAME)\]' || { echo "symbols: the soname is not $(SONAME)"; exit 1; }
	@echo "symbols: $$(wc -l < build/declared) functions, exported as declared"

## abi: the header keeps what packaging/abi/ promises (docs/abi.md)
abi:
	@scripts/abi.sh

# Each kind of break of the ABI is found.
abi-test:
	@scripts/abi.sh --self-test

## deny: licences, bans and sources of the crates, and their known vulnerabilities, by cargo-deny and deny.toml
deny:
	@mkdir -p build; if ! command -v cargo-deny > /dev/null; then echo "deny: SKIPPED: cargo install cargo-deny --locked"; exit 0; fi; \
	$(CARGO) deny --locked check licenses bans sources || exit 1; \
	if $(CARGO) deny fetch db > build/advisories 2>&1; then $(CARGO) deny --locked check advisories; \
	else echo "deny: SKIPPED the known vulnerabilities: their database cannot be fetched"; fi

# The README shows the first program in C; its commands, which C's page has too, end in a trained model.
readme: stage
	@sed -n '/^```c$$/,/^```$$/p' README.md | grep -v '^```' | diff - examples/c/quickstart.c
	@$(CC) -std=c11 $(WARNINGS) examples/c/quickstart.c -o build/quickstart $(LINK)
	@for page in README.md docs/c-api.md; do rm -f build/quickstart; \
	sed -n '/^```sh$$/,/^```$$/p' $$page | grep -v -e '^```' -e '^make stage$$' | bash -e | tee build/readme.out && \
	grep -qE 'predicted 1\.(4|5)' build/readme.out || exit 1; done; rm model.biv
	@awk '/^```/ { inside = /^```rust$$/; count += inside; next } inside && count == 1' docs/rust.md | diff - examples/quickstart.rs
	@echo "readme: its program runs"

# The example of a fit runs, and that of a survey, on the real one where it is.
examples: stage
	@$(CC) -std=c11 $(WARNINGS) examples/c/fit.c -o build/fit $(LINK)
	@./build/fit
	@$(CC) -std=c11 $(WARNINGS) examples/c/incomes.c -o build/incomes $(LINK)
	@cd build && ./incomes $$(ls "$${BIV_DATA_DIR:-../../shared/data}"/acs/*.csv 2> /dev/null)
	@$(CC) -std=c11 $(WARNINGS) examples/c/own_rows.c -o build/own_rows $(LINK)
	@awk 'BEGIN { srand(1); for (r = 0; r < 2; r++) { f = "build/part-" r ".csv"; print "a,b,y,v" > f; \
	for (k = 0; k < 300 + 100 * r; k++) { a = rand(); b = rand(); v = 0.01 + rand(); print a "," b "," a - b + v * (rand() - 0.5) "," v > f } } }'
	@cd build && WORLD_SIZE=1 RANK=0 MASTER_ADDR=127.0.0.1 MASTER_PORT=29500 ./own_rows 'part-{rank}.csv'

build/tests/%: tests/c/%.c $(wildcard tests/c/*.h) include/biv.h
	@mkdir -p build/tests
	$(CC) -std=c11 -g $(WARNINGS) -D_GNU_SOURCE $(INSTALLED) $< -o $@ $(LINK)

c-tests: stage
	@$(MAKE) --no-print-directory $(addprefix build/tests/,$(C_TESTS))
	@for test in $(C_TESTS); do ./build/tests/$$test > build/tests/$$test.out; status=$$?; cat build/tests/$$test.out; [ $$status = 0 ] || exit 1; done
	@echo "c11 ($$($(CC) --version | head -1)): $$(sed -nE 's/^[a-z]+: ([0-9]+) passed.*/\1/p' build/tests/*.out | awk '{ sum += $$1 } END { print sum }') tests, \
	$$(cat build/tests/*.out | grep -c '^skipped: ' || true) skipped"

## sanitize: the C tests again under the address, leak and undefined-behaviour sanitizers (C++: tests/cpp/run.sh)
sanitize: stage
	@mkdir -p build/sanitized
	@for test in $(C_TESTS); do \
	  $(CC) -std=c11 -g $(WARNINGS) $(SANITIZE) -D_GNU_SOURCE $(INSTALLED) tests/c/$$test.c -o build/sanitized/$$test $(LINK) || exit 1; \
	  ASAN_OPTIONS=allocator_may_return_null=1 ./build/sanitized/$$test > build/sanitized/$$test.out 2>&1; status=$$?; \
	  [ $$status = 0 ] || { cat build/sanitized/$$test.out; exit 1; }; tail -1 build/sanitized/$$test.out; \
	done

# Hosts that use libtorch themselves: what the library leaves as it was, and whose memory tensors are in.
TORCH_HOST = $(CXX) -std=c++17 -O1 $(WARNINGS) -isystem $(TORCH)/../include
TORCH_LINK = $(LINK) -L$(TORCH) -Wl,-rpath,$(TORCH) -ltorch_cpu -lc10
host-torch: stage
	@$(TORCH_HOST) tests/host/torch.cpp -o build/host-torch $(TORCH_LINK)
	@$(TORCH_HOST) tests/host/allocator.cpp src/torch/arena.cpp -o build/host-allocator $(TORCH_LINK)
	@$(TORCH_HOST) tests/host/dlpack.cpp -o build/host-dlpack $(TORCH_LINK)
	@$(TORCH_HOST) -isystem $(TORCH)/../include/torch/csrc/api/include examples/cpp-libtorch/own_model.cpp -o build/own-model $(TORCH_LINK)
	@./build/host-torch && ./build/host-allocator && ./build/host-dlpack && ./build/own-model

# Files, weights and memory that go to NumPy and PyTorch and come from them, then the package and the examples in Python,
# where these are installed (PYTHON).
PYTHON ?= python3
python-test: stage
	@for test in tests/python/*.py; do BIV_LIBRARY=$(STAGE)/lib/libbiv.so TORCH_VERSION=$(TORCH_VERSION) $(PYTHON) $$test || exit 1; done
	@PYTHON=$(PYTHON) TORCH_VERSION=$(TORCH_VERSION) bindings/python/tests/run.sh

## faults: panics injected at every point of every function, in a library built for it
faults: stage
	$(CARGO) build --release --lib --features faults --target-dir target/faults
	@mkdir -p build/faults && cp target/faults/release/libbiv.so build/faults/$(SONAME) && ln -sf $(SONAME) build/faults/libbiv.so
	$(CC) -std=c11 -g $(WARNINGS) -D_GNU_SOURCE -DBIV_FAULTS $(INSTALLED) -Wno-unused-function tests/c/contract.c -o build/faults/contract -I$(STAGE)/include -Lbuild/faults -Wl,-rpath,$(CURDIR)/build/faults -lbiv -lm -pthread
	@./build/faults/contract

## killed-ranks: fifty groups of processes, in each of which one is killed at some moment
killed-ranks: libtorch
	BIV_KILLS=50 $(CARGO) test --release --test integration -- --nocapture process_group::a_rank_that_is_killed

## bindings-test: C++, Julia and Octave programs, and the same bits from every language
bindings-test: stage
	@tests/bindings.sh

## install-test: a project outside this one uses the installed library, and docs/linking.md is right
install-test: build
	@tests/install.sh
	@tests/linking.sh

## clients: programs in other languages train the same bits, where their tools are installed
clients: stage
	@PYTHON=$(PYTHON) tests/clients.sh

## crate: a package outside this one uses the crate, and docs/rust.md is right
crate: libtorch
	@CARGO=$(CARGO) tests/crate.sh

# The same for the tarball.
dist-test: dist
	@DIST=build/$(DIST).tar.gz tests/install.sh

## stress: eight threads on the same and different handles for a minute
stress: stage
	@$(MAKE) --no-print-directory build/tests/stress
	@BIV_STRESS_SECONDS=60 ./build/tests/stress

## exits: about a hundred processes that end while their threads train
exits: stage
	@$(MAKE) --no-print-directory build/tests/exit
	@BIV_EXITS=12 ./build/tests/exit

## slurm: the cluster scripts on a Slurm of one machine, started for them (as root)
slurm: stage
	@tests/slurm.sh

## aarch64: the library for 64-bit Arm, whose results under qemu are this machine's
aarch64: stage
	@tests/aarch64.sh

## container: the image for containers, built by Podman and run as docs/cluster.md says (as root)
container:
	@tests/container.sh

## valgrind: the C and C++ tests again, for invalid accesses and leaks of our own
valgrind: stage
	@$(MAKE) --no-print-directory $(addprefix build/tests/,$(C_TESTS))
	$(CXX) -std=c++17 -g $(WARNINGS) -Ibindings/cpp $(INSTALLED) tests/cpp/api.cpp -o build/tests/cpp-api $(LINK)
	@echo $(C_TESTS) cpp-api | xargs -n 1 -P $$(nproc) sh -c 'scripts/valgrind.sh ./build/tests/$$0 > build/tests/$$0.valgrind 2>&1; \
	  status=$$?; cat build/tests/$$0.valgrind; exit $$status'

## fuzz: each fuzz target for SECONDS (15) from its corpus
fuzz: libtorch
	@scripts/fuzz.sh $(or $(SECONDS),15)

## miri: the tests that need no libtorch, every pointer followed (needs nightly with miri)
miri: libtorch
	@scripts/miri.sh

## goldens: write tests/golden/ again (needs PyTorch's Python side)
goldens:
	python3 tests/golden/make_goldens.py

# A Python that has PyTorch, JAX, numpy, pandas and Pillow: by default one of our own.
PYTORCH ?= $(CURDIR)/.libtorch/pytorch/bin/python
$(CURDIR)/.libtorch/pytorch/bin/python:
	@echo "bench: making a Python environment with PyTorch and JAX for the comparison (downloads 2.8 GB); PYTORCH=PATH takes another"
	python3 -m venv .libtorch/pytorch.part
	.libtorch/pytorch.part/bin/pip install --quiet torch==$(TORCH_VERSION) 'jax[cpu]==$(JAX_VERSION)' numpy pandas pillow
	mv .libtorch/pytorch.part .libtorch/pytorch

## bench: libbiv, PyTorch and JAX in turns, and the tables of benches/README.md; ARGS=--quick for a minute, --check, --help
bench: stage $(filter $(CURDIR)/%,$(PYTORCH))
	$(CC) -std=c11 -O2 $(WARNINGS) benches/bench.c -o build/bench $(LINK)
	python3 benches/run.py --python $(PYTORCH) $(ARGS)

## bench-fit: what a fit costs: statistics, epsilon "auto", five networks on two cores against one on one
bench-fit: stage
	$(CC) -std=c11 -D_GNU_SOURCE -O2 $(WARNINGS) benches/fit.c -o build/bench-fit $(LINK)
	./build/bench-fit

clean:
	rm -rf build target
