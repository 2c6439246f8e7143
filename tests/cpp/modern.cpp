// What newer standards of C++ bring: spans, arrays shaped as std::mdspan, stop tokens. Compiled as C++20 and C++23.
#include <array>
#include <atomic>
#include <span>
#include <stop_token>
#include <thread>

#include "check.hpp"

/* As std::mdspan<const T, dextents<2>, Layout>, which few compilers have. */
template <class T>
struct Mdspan {
  static constexpr std::size_t rank() noexcept { return 2; }
  std::size_t extent(std::size_t axis) const { return extents[axis]; }
  std::size_t stride(std::size_t axis) const { return strides[axis]; }
  std::size_t size() const { return extents[0] * extents[1]; }
  const T *data_handle() const { return pointer; }

  const T *pointer;
  std::array<std::size_t, 2> extents, strides;
};

/* As Kokkos::View, which has data(), and whose rank is an object. */
struct KokkosView {
  static constexpr struct {
    constexpr unsigned operator()() const { return 2; }
  } rank{};
  std::size_t extent(std::size_t axis) const { return axis == 0 ? 3 : 2; }
  std::size_t stride(std::size_t axis) const { return axis == 0 ? 1 : 3; }
  const double *data() const { return pointer; }

  const double *pointer;
};

static_assert(!std::is_convertible_v<std::span<int>, biv::View> && !std::is_convertible_v<Mdspan<int>, biv::View>);
static_assert(!std::is_convertible_v<std::string_view, biv::View>);

static void arrays() {
  const std::array<double, 6> columns{1, 3, 5, 2, 4, 6};
  const std::array<float, 3> labels{1, 2, 3};
  const std::vector<double> expected{1, 2, 3, 4, 5, 6};
  const auto stored = [&](const biv::View &view) { return biv::Dataset(view, labels).features(); };

  CHECK(biv::Dataset(labels, std::span(labels)).labels() == (std::vector<double>{1, 2, 3}));
  CHECK(stored({std::span(columns), {3, 2}, {1, 3}}) == expected);
  CHECK(stored(std::span(columns).first(3)) == (std::vector<double>{1, 3, 5}));
  CHECK_ERROR(stored({std::span(columns).first(5), {3, 2}}), BIV_ERROR_SHAPE, "size is 5");
  CHECK(stored(Mdspan<double>{columns.data(), {3, 2}, {1, 3}}) == expected);
  CHECK(biv::View(Mdspan<double>{columns.data(), {3, 2}, {1, 3}}).shape() == (std::vector<std::int64_t>{3, 2}));
  CHECK(stored(KokkosView{columns.data()}) == expected);
}

static void stops() {
  const biv::Dataset data = biv::Dataset::synthetic({{"rows", 200}, {"features", 5}});
  const biv::Options network{{"kind", "mlp"}, {"inputs", 5}, {"hidden", {8}}};
  const biv::Model model(network);
  biv::Trainer trainer(model, data, {{"batch_size", 50}, {"loss", {{"kind", "mse"}}}});
  std::atomic<bool> trains{false}, came_to_its_end{true};
  {
    std::jthread worker([&](std::stop_token stop) {
      const auto callback = [&](const biv::Epoch &) {
        trains = true;
        trains.notify_one();
        return true;
      };
      came_to_its_end = trainer.fit(1'000'000'000, nullptr, callback, stop);
    });
    trains.wait(false);
  } /* where the thread is asked to stop and joined */
  CHECK(!came_to_its_end && trainer.progress().epoch > 0);

  std::stop_source source;
  CHECK(trainer.fit(1, nullptr, {}, source.get_token()));
  const auto stop = [&](const biv::Epoch &) { return source.request_stop(); };
  const std::int64_t before = trainer.progress().epoch;
  CHECK(!trainer.fit(9, nullptr, stop, source.get_token()) && trainer.progress().epoch == before + 1);
  CHECK(!trainer.fit(9, nullptr, {}, source.get_token()) && trainer.progress().epoch == before + 1);
  CHECK_ERROR(biv::fit(data, network, {{"members", 2}, {"epochs", 3}}, {}, source.get_token()), BIV_ERROR_CANCELLED,
              "stopped");
}

int main() {
  arrays();
  stops();
  return report();
}
