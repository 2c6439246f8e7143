// A key-value store of several processes and collectives among them, by c10d and gloo. No exception leaves a function:
// it returns NULL, or a message made with strdup that the caller frees.

#define USE_C10D_GLOO 1

#include <c10/util/Logging.h>

#include <mutex>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "guarded.hpp"

C10_DECLARE_int(caffe2_log_level);

namespace {

using Gloo = c10d::ProcessGroupGloo;

c10::intrusive_ptr<c10d::Store> connect(const char *host, uint16_t port, int listening, int64_t timeout) {
  c10d::TCPStoreOptions options;
  options.port = port;
  options.isServer = listening >= 0;
  if (options.isServer) options.masterListenFd = listening;
  options.waitWorkers = false;
  options.timeout = std::chrono::milliseconds(timeout);
  return c10::make_intrusive<c10d::TCPStore>(host, options);
}

// gloo joins the messages of one collective by its number. Where that number depends on what is sent, two ranks that
// send different things wait for each other until the timeout. With equal numbers gloo would end the process.
void number(Gloo &group, uint32_t tag) {
  struct Open : Gloo {
    static uint32_t Gloo::*counter() { return &Open::collectiveCounter_; }
  };
  group.*Open::counter() = tag;
}

}  // namespace

extern "C" {

struct biv_torch_store {
  c10::intrusive_ptr<c10d::Store> store;
};

struct biv_torch_group {
  c10::intrusive_ptr<Gloo> gloo;
};

// Nothing below a fatal error is logged by libtorch from the first call with true until as many with false. The level
// is one for the whole process.
void biv_torch_quiet(bool on) {
  static std::mutex mutex;
  static int count = 0, before = 0;
  std::lock_guard<std::mutex> lock(mutex);
  int &level = FLAGS_caffe2_log_level;
  if (on && count++ == 0) {
    before = level;
    level = c10::GLOG_FATAL;
  } else if (!on && --count == 0 && level == c10::GLOG_FATAL) {
    level = before;
  }
}

// Connects to the store at `host` and `port`. Where `listening` is not negative it is a bound socket, and the store is
// begun there; the socket is the store's from then on, whatever is returned.
char *biv_torch_store_open(const char *host, uint16_t port, int listening, int64_t timeout, biv_torch_store **store) {
  return guarded([&] { *store = new biv_torch_store{connect(host, port, listening, timeout)}; });
}

void biv_torch_store_close(biv_torch_store *store) { delete store; }

char *biv_torch_store_set(biv_torch_store *store, const char *key, const char *value) {
  return guarded([&] { store->store->set(key, std::string(value)); });
}

// The value of a key, made with strdup; NULL where the key is not set.
char *biv_torch_store_get(biv_torch_store *store, const char *key, char **value) {
  return guarded(
      [&] { *value = store->store->check({key}) ? strdup(store->store->get_to_str(key).c_str()) : nullptr; });
}

// Adds 1 to the number at a key and returns the sum.
char *biv_torch_store_count(biv_torch_store *store, const char *key, int64_t *sum) {
  return guarded([&] { *sum = store->store->add(key, 1); });
}

// Sets a key that is not set. Returns the value that it has then, made with strdup.
char *biv_torch_store_first(biv_torch_store *store, const char *key, const char *value, char **first) {
  return guarded([&] { *first = strdup(store->store->compareSet(key, std::string(), std::string(value)).c_str()); });
}

// Connects this rank with all others, over the store at `host` and `port`. `own` is the address of this machine at
// which they reach it.
char *biv_torch_group_open(const char *host, uint16_t port, const char *prefix, const char *own, int rank, int size,
                           int64_t timeout, biv_torch_group **group) {
  return guarded([&] {
    auto store = c10::make_intrusive<c10d::PrefixStore>(prefix, connect(host, port, -1, timeout));
    auto options = Gloo::Options::create(std::chrono::milliseconds(timeout));
    options->devices.push_back(Gloo::createDeviceForHostname(own));
    options->threads = 1;
    *group = new biv_torch_group{c10::make_intrusive<Gloo>(store, rank, size, options)};
  });
}

// Waits for the threads of the group, which may throw nowhere.
void biv_torch_group_close(biv_torch_group *group) { delete group; }

char *biv_torch_group_all_reduce(biv_torch_group *group, uint32_t tag, at::Tensor *sum) {
  return guarded([&] {
    number(*group->gloo, tag);
    std::vector<at::Tensor> tensors{*sum};
    group->gloo->allreduce(tensors)->wait();
  });
}

// `all` are as many tensors as there are ranks.
char *biv_torch_group_all_gather(biv_torch_group *group, uint32_t tag, at::Tensor *own, at::Tensor *const *all) {
  return guarded([&] {
    number(*group->gloo, tag);
    std::vector<at::Tensor> sent{*own};
    std::vector<std::vector<at::Tensor>> received{list(all, group->gloo->getSize())};
    group->gloo->allgather(received, sent)->wait();
  });
}

// From rank 0.
char *biv_torch_group_broadcast(biv_torch_group *group, uint32_t tag, at::Tensor *tensor) {
  return guarded([&] {
    number(*group->gloo, tag);
    std::vector<at::Tensor> tensors{*tensor};
    group->gloo->broadcast(tensors)->wait();
  });
}

}  // extern "C"
