// A sum over processes through which derivatives go.

#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>

#include <memory>
#include <stdexcept>

#include "guarded.hpp"

namespace {

// Sums a tensor made with new, which becomes the callee's, over the processes of a group.
using Reduce = char *(*)(void *group, void *tensor);
using Release = void (*)(void *group);

// The derivative by one process's term: the sum of all processes' derivatives by the sum.
struct SumGradients : torch::autograd::Node {
  SumGradients(void *group, Reduce reduce, Release release) : group(group, release), reduce(reduce) {}

  torch::autograd::variable_list apply(torch::autograd::variable_list &&gradients) override {
    // A process whose loss does not depend on the sum takes part as well.
    auto sum =
        gradients[0].defined() ? gradients[0].clone(at::MemoryFormat::Contiguous) : input_metadata(0).zeros_like();
    if (char *text = reduce(group.get(), new at::Tensor(sum))) {
      std::string message(text);
      free(text);
      throw std::runtime_error(message);
    }
    return {sum};
  }

  std::unique_ptr<void, Release> group;
  Reduce reduce;
};

}  // namespace

extern "C" {

// Makes `sum`, the sum of all processes' `own`, differentiable by `own`. `group` is given to `reduce` when derivatives
// are asked for, and to `release` once, after that or where this fails.
char *biv_torch_sum_gradients(const at::Tensor *own, at::Tensor *sum, void *group, Reduce reduce, Release release) {
  std::unique_ptr<void, Release> held(group, release);
  return guarded([&] {
    std::shared_ptr<SumGradients> node(new SumGradients(nullptr, reduce, release), torch::autograd::deleteNode);
    node->group = std::move(held);
    node->set_next_edges(torch::autograd::collect_next_edges(*own));
    torch::autograd::set_history(*sum, node);
  });
}

}  // extern "C"
