/**
 * @file
 * libbiv in C++17: batch inverse-variance training for regression labels of known noise.
 *
 * A thin layer over biv.h, header-only; link with -lbiv. What biv.h says about options, units, threads and
 * reproducibility holds here. The differences:
 *
 * - Dataset, Model and Trainer own their handles: they are moved, not copied, and free themselves, in any order. Using
 *   one that was moved from is an Error.
 * - Every failure is an Error with the library's status and message, which is thrown. Where BIV_NO_EXCEPTIONS is
 *   defined or exceptions are turned off, it is in the Result that every function returns, and create() makes objects.
 * - Arrays are passed as View and copied before the call returns, except by Dataset::borrowed() and
 *   Dataset::from_dlpack(); vectors, spans, Eigen's matrices and mdspans are Views. Results are std::vector<double>,
 *   row-major.
 * - Options are JSON text or nested braces: {{"kind", "mlp"}, {"inputs", 19}, {"hidden", {100, 50}}}.
 * - Callbacks are lambdas; an exception that one throws stops the training and comes out of the call.
 *
 * Strings are UTF-8.
 */
#ifndef BIV_HPP
#define BIV_HPP

#include <biv.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <initializer_list>
#include <limits>
#include <locale>
#include <memory>
#include <mutex>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>
#if __has_include(<version>)
#include <version>
#endif
#ifdef __cpp_lib_jthread
#include <stop_token>
#endif

#if !defined(BIV_NO_EXCEPTIONS) && !defined(__cpp_exceptions)
#define BIV_NO_EXCEPTIONS
#endif

namespace biv {
#ifdef BIV_NO_EXCEPTIONS
inline namespace results { /* other functions than those that throw, for the linker too */
#endif

/** A failure of the library; what() is its message: what was wrong, where, what would be right. */
class Error : public std::runtime_error {
 public:
  Error(biv_status status, const std::string &message) : std::runtime_error(message), status_(status) {}

  /** The status, for example BIV_ERROR_SHAPE. */
  biv_status status() const noexcept { return status_; }

  /** The status' name, for example "BIV_ERROR_SHAPE". */
  const char *name() const noexcept { return biv_status_name(status_); }

 private:
  biv_status status_;
};

#ifdef BIV_NO_EXCEPTIONS

/** What a function gives: a T or, where it failed, an Error. Asking for the one that it is not ends the program. */
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : content_(std::move(value)) {}
  Result(Error error) : content_(std::move(error)) {}

  /** Whether there is a T. */
  explicit operator bool() const noexcept { return content_.index() == 0; }

  T &operator*() & { return std::get<0>(content_); }
  const T &operator*() const & { return std::get<0>(content_); }
  T &&operator*() && { return std::get<0>(std::move(content_)); }
  T *operator->() { return &**this; }
  const T *operator->() const { return &**this; }

  const Error &error() const { return std::get<1>(content_); }

 private:
  std::variant<T, Error> content_;
};

/** Nothing or, where the function failed, an Error. */
template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}

  /** Whether all went well. */
  explicit operator bool() const noexcept { return !error_; }

  const Error &error() const { return error_.value(); }

 private:
  std::optional<Error> error_;
};

#define BIV_FAIL(status, message) return Error(status, message)
#define BIV_TRY(name, call)                         \
  auto name##_result = call;                        \
  if (!name##_result) return name##_result.error(); \
  auto name = *std::move(name##_result)

#else

/** What a function gives; failures are thrown. */
template <class T>
using Result = T;

#define BIV_FAIL(status, message) throw Error(status, message)
#define BIV_TRY(name, call) auto name = call

#endif

/** The sizes of a data set. */
using DatasetInfo = ::biv_dataset_info;
/** The sizes of a model. */
using ModelInfo = ::biv_model_info;
/** What one step did. */
using Step = ::biv_step;
/** Errors of predictions on a data set, in the labels' unit and in normalised ones, and how well error bars hold. */
using Metrics = ::biv_metrics;
/** How far training has come. */
using Progress = ::biv_progress;
/** What residuals say of known variances; `verdict` is one of the BIV_VERDICT_ numbers. */
using VarianceModel = ::biv_variance_model;
/** How far fit() has come. */
using FitProgress = ::biv_fit_progress;
/** Called by fit() some ten times a second and after each epoch, on the calling thread; true to continue, false to
 * stop. */
using FitCallback = std::function<bool(const FitProgress &)>;

class Options;
class Dataset;
struct Fit;

/** A value among Options: a truth value, a number, a text, a list, or a list of fields, which is an object. */
class Value {
 public:
  Value(std::nullptr_t) : json_("null") {}
  Value(const char *text) : Value(std::string(text)) {}
  Value(const std::string &text) : json_(quoted(text)) {}
  Value(const Options &object);

  template <class T, std::enable_if_t<std::is_arithmetic_v<T>, int> = 0>
  Value(T number) : json_(written(number)) {}

  template <class T>
  Value(const std::vector<T> &values) {
    for (const T &value : values) json_ += (json_.empty() ? "" : ",") + Value(value).json_;
    json_ = '[' + json_ + ']';
  }

  /** {32, 16} is an array; {{"kind", "biv"}, {"epsilon", 0.1}}, pairs that begin with a text, is an object. */
  Value(std::initializer_list<Value> values) {
    const bool object = values.size() > 0 && std::all_of(values.begin(), values.end(),
                                                         [](const Value &value) { return !value.field_.empty(); });
    for (const Value &value : values) json_ += (json_.empty() ? "" : ",") + (object ? value.field_ : value.json_);
    json_ = object ? '{' + json_ + '}' : '[' + json_ + ']';
    if (values.size() == 2 && values.begin()->json_[0] == '"')
      field_ = values.begin()->json_ + ':' + (values.begin() + 1)->json_;
  }

 private:
  friend class Options;

  static std::string quoted(const std::string &text) {
    static const char digits[] = "0123456789abcdef";
    std::string json = "\"";
    for (const char c : text) {
      const auto code = static_cast<unsigned char>(c);
      if (code < 0x20) {
        json += std::string("\\u00") + digits[code / 16] + digits[code % 16];
      } else {
        if (c == '"' || c == '\\') json += '\\';
        json += c;
      }
    }
    return json + '"';
  }

  /** With every digit that counts, and a point whatever the locale. */
  template <class T>
  static std::string written(T number) {
    if constexpr (std::is_same_v<T, bool>) {
      return number ? "true" : "false";
    } else {
      std::ostringstream json;
      json.imbue(std::locale::classic());
      json.precision(std::numeric_limits<T>::max_digits10);
      json << +number;
      return json.str();
    }
  }

  std::string json_;
  std::string field_; /**< The list as a field of an object; empty where it cannot be one. */
};

/** A named value among Options. */
struct Field {
  std::string name;
  Value value;
};

/**
 * Options: JSON text, or fields in braces, for example {{"loss", {{"kind", "biv"}, {"epsilon", 0.1}}}, {"batch_size",
 * 25}}. Without any, the library's defaults. The library checks them strictly; config_schema() describes them.
 */
class Options {
 public:
  Options() = default;
  Options(const char *json) : Options(std::string(json)) {}
  Options(const std::string &json) : given_(true), json_(json) {}
  Options(std::initializer_list<Field> fields) : given_(true) {
    for (const Field &field : fields)
      json_ += (json_.empty() ? "" : ",") + Value::quoted(field.name) + ':' + field.value.json_;
    json_ = '{' + json_ + '}';
  }

  /** The JSON; NULL for the library's defaults. */
  const char *json() const noexcept { return given_ ? json_.c_str() : nullptr; }

 private:
  bool given_ = false;
  std::string json_;
};

inline Value::Value(const Options &object) : json_(object.json() != nullptr ? object.json() : "{}") {}

/** The size of each dimension of an array, or its strides: {rows, columns}, of any integer type. */
class Shape {
 public:
  Shape() = default;
  Shape(std::vector<std::int64_t> sizes) : sizes_(std::move(sizes)) {}
  template <class... Sizes, std::enable_if_t<(sizeof...(Sizes) > 0) && (std::is_integral_v<Sizes> && ...), int> = 0>
  Shape(Sizes... sizes) : sizes_{static_cast<std::int64_t>(sizes)...} {}

  const std::vector<std::int64_t> &sizes() const noexcept { return sizes_; }

 private:
  std::vector<std::int64_t> sizes_;
};

namespace detail {

class Input;

/** The elements of an array: what its data() or data_handle() points to. */
template <class Array>
auto address(const Array &array) -> decltype(array.data()) {
  return array.data();
}
template <class Array>
auto address(const Array &array) -> decltype(array.data_handle()) {
  return array.data_handle();
}
template <class Array>
using Element = std::remove_cv_t<std::remove_pointer_t<decltype(address(std::declval<const Array &>()))>>;

template <class Array>
constexpr bool has_numbers = std::is_same_v<Element<Array>, float> || std::is_same_v<Element<Array>, double>;

/* The kinds of arrays that are Views, by what they have. */
template <class Array, class = void>
constexpr bool is_range = false;
template <class Array>
constexpr bool is_range<Array, std::void_t<decltype(std::declval<const Array &>().size()), Element<Array>>> =
    has_numbers<Array>;

template <class Array, class = void>
constexpr bool is_matrix = false;
template <class Array>
constexpr bool is_matrix<
    Array, std::void_t<decltype(std::declval<const Array &>().rows() + std::declval<const Array &>().cols() +
                                std::declval<const Array &>().rowStride() + std::declval<const Array &>().colStride()),
                       Element<Array>>> = has_numbers<Array>;

template <class Array, class = void>
constexpr bool is_mdspan = false;
template <class Array>
constexpr bool
    is_mdspan<Array, std::void_t<decltype(std::declval<const Array &>().rank(), std::declval<const Array &>().extent(0),
                                          std::declval<const Array &>().stride(0)),
                                 Element<Array>>> = has_numbers<Array>;

/** Whether a matrix is a vector by its type, as Eigen's are, and so an array of one dimension. */
template <class Matrix, class = void>
constexpr bool is_column = false;
template <class Matrix>
constexpr bool is_column<Matrix, std::void_t<decltype(Matrix::ColsAtCompileTime)>> = Matrix::ColsAtCompileTime == 1;

}  // namespace detail

/**
 * An array of float or double that belongs to someone else and has to live as long as the call that it is passed to.
 *
 * Row-major without strides; a column-major matrix of n rows has shape {n, d} and strides {1, n}, in elements. The
 * first dimension is the rows. View() is no array, where one may be left out.
 */
class View {
 public:
  View() = default;

  /** `size` is how many elements there are from `data` on, to be checked against; 0 when not stated. */
  View(const float *data, Shape shape, Shape strides = {}, std::int64_t size = 0)
      : View(BIV_F32, data, std::move(shape), std::move(strides), size) {}
  View(const double *data, Shape shape, Shape strides = {}, std::int64_t size = 0)
      : View(BIV_F64, data, std::move(shape), std::move(strides), size) {}

  /** A vector, std::array, std::span and the like (data() and size()) as an array of one dimension. */
  template <
      class Range,
      std::enable_if_t<detail::is_range<Range> && !detail::is_matrix<Range> && !detail::is_mdspan<Range>, int> = 0>
  View(const Range &values) : View(values, Shape(values.size())) {}

  /** The same as an array of several dimensions, which must not reach beyond it. */
  template <class Range, std::enable_if_t<detail::is_range<Range>, int> = 0>
  View(const Range &values, Shape shape, Shape strides = {})
      : View(values.size() > 0 ? values.data() : nullptr, std::move(shape), std::move(strides),
             static_cast<std::int64_t>(values.size())) {}

  /**
   * A matrix with rows(), cols(), rowStride(), colStride() and data(), as Eigen's matrices, blocks, transposes and maps
   * are, in either order. A column vector of Eigen's is an array of one dimension.
   */
  template <class Matrix, std::enable_if_t<detail::is_matrix<Matrix>, int> = 0>
  View(const Matrix &matrix)
      : View(matrix.data(), Shape(matrix.rows(), matrix.cols()), Shape(matrix.rowStride(), matrix.colStride())) {
    if constexpr (detail::is_column<Matrix>) {
      shape_.pop_back();
      strides_.pop_back();
    }
  }

  /** An array with rank(), extent(), stride() and data_handle() or data(), as std::mdspan and Kokkos::View are. */
  template <class Array, std::enable_if_t<detail::is_mdspan<Array> && !detail::is_matrix<Array>, int> = 0>
  View(const Array &array) : View(detail::address(array), Shape()) {
    for (std::size_t axis = 0; axis < static_cast<std::size_t>(array.rank()); ++axis) {
      shape_.push_back(static_cast<std::int64_t>(array.extent(axis)));
      strides_.push_back(static_cast<std::int64_t>(array.stride(axis)));
    }
  }

  /** The size of each dimension; none where there is no array. */
  const std::vector<std::int64_t> &shape() const noexcept { return shape_; }

 private:
  friend class detail::Input;

  View(std::int32_t dtype, const void *data, Shape shape, Shape strides, std::int64_t size)
      : dtype_(dtype), data_(data), shape_(shape.sizes()), strides_(strides.sizes()), size_(size) {
    if (strides_.empty() || strides_.size() == shape_.size()) return;
#ifdef BIV_NO_EXCEPTIONS
    shape_.clear(); /* which the library refuses */
#else
    throw Error(BIV_ERROR_SHAPE, "the array has " + std::to_string(shape_.size()) + " dimensions and " +
                                     std::to_string(strides_.size()) + " strides");
#endif
  }

  std::int32_t dtype_ = 0;
  const void *data_ = nullptr;
  std::vector<std::int64_t> shape_, strides_;
  std::int64_t size_ = 0;
};

/* What the classes below are made of; not for users. */
namespace detail {

inline Result<void> check(biv_status status) {
  if (status != BIV_OK) BIV_FAIL(status, biv_last_error_message());
  return Result<void>();
}

/** What `make` gives, where the C function returned BIV_OK. */
template <class Make>
auto checked(biv_status status, Make make) -> Result<decltype(make())> {
  if (status != BIV_OK) BIV_FAIL(status, biv_last_error_message());
  return make();
}

/** The struct that a C function fills. */
template <class Struct, class Function, class... Arguments>
Result<Struct> filled(Function function, const Arguments &...arguments) {
  Struct result{};
  result.struct_size = sizeof result;
  return checked(function(arguments..., &result), [&] { return result; });
}

/** The bytes that a C function copies. */
template <class Bytes, class Function, class Handle>
Result<Bytes> copied(Function function, const Handle *handle) {
  std::size_t needed = 0;
  function(handle, nullptr, 0, &needed);
  Bytes bytes(std::max<std::size_t>(needed, 1), typename Bytes::value_type());
  return checked(function(handle, bytes.data(), bytes.size(), &needed), [&] {
    bytes.resize(needed);
    return std::move(bytes);
  });
}

/** The text that a C function copies. */
template <class Function, class Handle>
Result<std::string> copied_text(Function function, const Handle *handle) {
  BIV_TRY(text, copied<std::string>(function, handle));
  text.pop_back();
  return text;
}

/** A text that stays the library's. */
template <class Function, class... Arguments>
Result<std::string> text(Function function, const Arguments &...arguments) {
  const char *result = nullptr;
  return checked(function(arguments..., &result), [&] { return std::string(result); });
}

/** The object of a handle that a C function makes. */
template <class Object, class Handle>
struct New {
  template <class Function, class... Arguments>
  static Result<Object> from(Function function, const Arguments &...arguments) {
    Handle *handle = nullptr;
    return checked(function(arguments..., &handle), [&] { return Object(handle); });
  }
};

/** A copy of a library's struct, of the fields that both have. */
template <class Struct>
Struct known(const Struct &given) {
  Struct result{};
  std::memcpy(&result, &given, std::min(sizeof result, given.struct_size));
  result.struct_size = sizeof result;
  return result;
}

/** A View as the C functions read it. */
class Input {
 public:
  explicit Input(const View &view)
      : array_{view.data_,
               view.dtype_,
               static_cast<std::int32_t>(view.shape_.size()),
               view.shape_.data(),
               view.strides_.empty() ? nullptr : view.strides_.data(),
               view.size_} {}

  operator const biv_array *() const { return array_.dtype != 0 ? &array_ : nullptr; }

  /** The rows that there can be: of a vector that is too short for its shape no more than its elements. */
  std::int64_t rows() const {
    const std::int64_t rows = array_.rank > 0 ? std::max<std::int64_t>(array_.shape[0], 0) : 0;
    return array_.strides == nullptr && array_.size > 0 ? std::min(rows, array_.size) : rows;
  }

 private:
  biv_array array_;
};

/** Room for results, and its description. */
class Output {
 public:
  explicit Output(std::vector<std::int64_t> shape) : shape_(std::move(shape)) {
    std::int64_t count = 1;
    bool fits = true;
    for (const std::int64_t size : shape_) {
      fits = fits && (size <= 0 || count <= std::numeric_limits<std::int64_t>::max() / size);
      if (fits) count *= std::max<std::int64_t>(size, 0);
    }
#ifdef BIV_NO_EXCEPTIONS
    if (fits) values_.resize(static_cast<std::size_t>(count)); /* else the library refuses it */
#else
    try {
      if (!fits) throw std::length_error("shape");
      values_.resize(static_cast<std::size_t>(count));
    } catch (const std::exception &) {
      throw Error(BIV_ERROR_OUT_OF_MEMORY, "there is no memory for the results");
    }
#endif
    array_ = {values_.data(), BIV_F64, static_cast<std::int32_t>(shape_.size()), shape_.data(), nullptr, count};
  }
  Output(const Output &) = delete;
  Output &operator=(const Output &) = delete;

  operator const biv_array_out *() const { return &array_; }

  const std::vector<std::int64_t> &shape() const { return shape_; }

  std::vector<double> take() { return std::move(values_); }

 private:
  std::vector<std::int64_t> shape_;
  std::vector<double> values_;
  biv_array_out array_{};
};

/** The one owner of a handle. */
template <class T, void (*free_handle)(T *)>
class Handle {
 public:
  Handle(const char *type, T *handle) : type_(type), handle_(handle) {}

  /** NULL, which the library refuses, where it was moved from. */
  T *get() const {
#ifndef BIV_NO_EXCEPTIONS
    if (!handle_) throw Error(BIV_ERROR_INVALID_HANDLE, std::string("the ") + type_ + " was moved from");
#endif
    return handle_.get();
  }

 private:
  struct Free {
    void operator()(T *handle) const noexcept { free_handle(handle); }
  };
  const char *type_;
  std::unique_ptr<T, Free> handle_;
};

/** The text that a C function made, where its status is BIV_OK. */
inline Result<std::string> taken_text(biv_status status, biv_text *made) {
  const Handle<biv_text, biv_text_free> owner("text", made);
  if (status != BIV_OK) BIV_FAIL(status, biv_last_error_message());
  return text(biv_text_get, owner.get());
}

/** A lambda that C calls. Its exception stops the computation and waits for rethrow(). */
template <class Report, class Given>
class Callback {
 public:
  using Function = std::function<bool(const Report &)>;

  explicit Callback(const Function &function) : function_(function) {}

  /** As C takes it, beside the address of this object. */
  auto pointer() const { return function_ ? &call : nullptr; }

  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  static std::int32_t call(void *user, const Given *given) noexcept {
    auto &self = *static_cast<Callback *>(user);
#ifdef BIV_NO_EXCEPTIONS
    return self.function_(Report(known(*given))) ? 0 : 1;
#else
    try {
      return self.function_(Report(known(*given))) ? 0 : 1;
    } catch (...) {
      self.error_ = std::current_exception();
      return 1;
    }
#endif
  }

  const Function &function_;
  std::exception_ptr error_;
};

}  // namespace detail

/**
 * Features, labels and, where they are known, the variances of the labels' noise. It never changes after it was made,
 * so any number of threads may use it.
 */
class Dataset {
 public:
  /**
   * Of arrays, which are copied.
   *
   * @param features shape {rows, ...}: any number of dimensions, the first is the rows.
   * @param labels shape {rows} or {rows, outputs}, in any unit.
   * @param variances as labels, in the square of their unit, at least 0; none when they are unknown. An infinite one
   *   masks its label: it has no weight and counts in no metric.
   * @throws Error BIV_ERROR_SHAPE; BIV_ERROR_INVALID_ARGUMENT for no rows, NaN, infinity and negative variances.
   */
  static Result<Dataset> create(const View &features, const View &labels, const View &variances = {}) {
    return New::from(biv_dataset_create_from_arrays, detail::Input(features), detail::Input(labels),
                     detail::Input(variances));
  }

  /**
   * Of arrays, with everything that may be known of the labels.
   *
   * @param noise the variances of the labels' noise or, with "standard_deviations" true, their square roots; none when
   *   they are unknown.
   * @param groups shape {rows}: rows of one number belong together, and no fold of fit() parts them. View() for none.
   * @param options schema "arrays": {{"standard_deviations", true}, {"missing_labels", "mask"}}: then a label of NaN is
   *   masked.
   */
  static Result<Dataset> create(const View &features, const View &labels, const View &noise, const View &groups,
                                const Options &options = {}) {
    return New::from(biv_dataset_create, detail::Input(features), detail::Input(labels), detail::Input(noise),
                     detail::Input(groups), options.json());
  }

#ifndef BIV_NO_EXCEPTIONS
  /** As create(). */
  Dataset(const View &features, const View &labels, const View &variances = {})
      : Dataset(create(features, labels, variances)) {}

  /** As create(). */
  Dataset(const View &features, const View &labels, const View &noise, const View &groups, const Options &options = {})
      : Dataset(create(features, labels, noise, groups, options)) {}
#endif

  /** The same with the standard deviations of the labels' noise, in the labels' unit, instead of variances. */
  static Result<Dataset> with_standard_deviations(const View &features, const View &labels,
                                                  const View &standard_deviations) {
    return New::from(biv_dataset_create_from_arrays_with_std, detail::Input(features), detail::Input(labels),
                     detail::Input(standard_deviations));
  }

  /**
   * Of arrays that are lent: float features and double labels and variances, dense and in row-major order, are not
   * copied. They must not change until `release` is called: once, on any thread, when nothing shares them any more or
   * when this function throws. It must not throw.
   *
   * @param noise @param groups @param options as for the constructor.
   */
  static Result<Dataset> borrowed(const View &features, const View &labels, const View &noise,
                                  std::function<void()> release, const View &groups = {}, const Options &options = {}) {
    const auto call = [](void *user) {
      const std::unique_ptr<std::function<void()>> function(static_cast<std::function<void()> *>(user));
      if (*function) (*function)();
    };
    const detail::Input x(features), y(labels), v(noise), g(groups);
    const biv_release_callback callback = call;
    auto *const user = new std::function<void()>(std::move(release));
    return New::from(biv_dataset_create_borrowed, x, y, v, g, callback, user, options.json());
  }

  /**
   * Of tensors by DLPack 1.x, as NumPy, PyTorch, CuPy and JAX hand them over: the library's from the call on, also
   * where it throws. It calls the deleter of each once. What it keeps in their memory must not change until then.
   *
   * @param features @param labels @param noise @param groups dlpack.h's structs; nullptr for no noise and no groups.
   * @param stream that on which tensors on a GPU are written, as for biv_dataset_create_from_dlpack().
   */
  static Result<Dataset> from_dlpack(DLManagedTensorVersioned *features, DLManagedTensorVersioned *labels,
                                     DLManagedTensorVersioned *noise = nullptr,
                                     DLManagedTensorVersioned *groups = nullptr, const Options &options = {},
                                     void *stream = nullptr) {
    return New::from(biv_dataset_create_from_dlpack, features, labels, noise, groups, stream, options.json());
  }

  /**
   * Of a CSV file with a header.
   *
   * @param options schema "csv": {{"labels", {"Income"}}, {"standard_errors", {"IncomeErr"}},
   * {"error_divisor", 1.645}}.
   * @throws Error BIV_ERROR_NOT_FOUND for a file or column, BIV_ERROR_PARSE with row and column.
   */
  static Result<Dataset> from_csv(const std::string &path, const Options &options) {
    return New::from(biv_dataset_create_from_csv, path.c_str(), options.json());
  }

  /** Of a format that has a name, "bike" or "wine": `path` is its file, or the folder that holds it. */
  static Result<Dataset> named(const std::string &name, const std::string &path) {
    return New::from(biv_dataset_create_named, name.c_str(), path.c_str());
  }

  /** Of Friedman's function, whose values are known; schema "synthetic": {{"rows", 2000}, {"features", 10}}. */
  static Result<Dataset> synthetic(const Options &options) {
    return New::from(biv_dataset_create_synthetic, options.json());
  }

  /**
   * Of a folder of images labelled by the number that their names begin with, as UTKFace's. A row's features have
   * shape {3, height, width}.
   *
   * @param options schema "images": {{"size", {{"height", 64}, {"width", 64}}}, {"corrupt", "skip"}}.
   */
  static Result<Dataset> from_images(const std::string &folder, const Options &options = {}) {
    return New::from(biv_dataset_create_from_images, folder.c_str(), options.json());
  }

  /**
   * A copy with simulated noise on the labels and the variances of that noise; the labels before it are kept.
   *
   * @param options schema "noise": {{"distribution", {{"kind", "gamma"}, {"mean", 20}, {"variance", 400}}}, {"seed",
   * 7}}.
   */
  Result<Dataset> add_noise(const Options &options) const {
    return New::from(biv_dataset_add_noise, handle_.get(), options.json());
  }

  /** Copies of two parts, for training and testing; schema "split": {{"train_size", 500}, {"seed", 7}}. */
  Result<std::pair<Dataset, Dataset>> split(const Options &options) const {
    biv_dataset *train = nullptr, *test = nullptr;
    return detail::checked(biv_dataset_split(handle_.get(), options.json(), &train, &test),
                           [&] { return std::pair(Dataset(train), Dataset(test)); });
  }

  /** A copy of the rows `indices`, counted from 0, in that order; a row may occur more than once. */
  Result<Dataset> subset(const std::vector<std::int64_t> &indices) const {
    return New::from(biv_dataset_subset, handle_.get(), indices.data(), indices.size());
  }

  /** A copy with the rows in a random order, which `seed` determines. */
  Result<Dataset> shuffle(std::uint64_t seed) const { return New::from(biv_dataset_shuffle, handle_.get(), seed); }

  /**
   * These rows and then those of `more`, in shared memory: it takes time for the new rows only.
   *
   * @throws Error BIV_ERROR_SHAPE for rows of another shape; BIV_ERROR_INVALID_ARGUMENT where only one has variances.
   */
  Result<Dataset> append(const Dataset &more) const {
    return New::from(biv_dataset_append, handle_.get(), more.handle_.get());
  }

  /** The last `rows` rows, or all where there are no more, in shared memory: a window over data that keep coming. */
  Result<Dataset> latest(std::size_t rows) const { return New::from(biv_dataset_latest, handle_.get(), rows); }

  /**
   * The same rows with other variances of the labels' noise; everything else is shared.
   *
   * @param noise the variances, of the labels' shape; with {{"standard_deviations", true}} their square roots.
   * @param options schema "variances".
   */
  Result<Dataset> with_variances(const View &noise, const Options &options = {}) const {
    return New::from(biv_dataset_with_variances, handle_.get(), detail::Input(noise), options.json());
  }

  /** The numbers of rows, features and outputs, and what is known about the noise. */
  Result<DatasetInfo> info() const { return detail::filled<DatasetInfo>(biv_dataset_get_info, handle_.get()); }

  /** The columns by name, and what was left out when the data were read, as JSON. */
  Result<std::string> describe() const { return detail::copied_text(biv_dataset_describe, handle_.get()); }

  /** A copy of the features, rows * features numbers. */
  Result<std::vector<double>> features() const {
    BIV_TRY(sizes, info());
    return features({sizes.rows, sizes.features});
  }

  /** The same for rows of more than one dimension: `shape` is that of all features, images' {rows, 3, height, width}.
   */
  Result<std::vector<double>> features(const Shape &shape) const {
    return copy(&biv_dataset_copy_features, shape.sizes());
  }

  /** A copy of the labels, rows * outputs numbers in their unit. */
  Result<std::vector<double>> labels() const { return copy_labels(&biv_dataset_copy_labels); }

  /** The labels as they were before simulated noise; without such noise, the labels. */
  Result<std::vector<double>> clean_labels() const { return copy_labels(&biv_dataset_copy_clean_labels); }

  /** The variances of the labels' noise. @throws Error BIV_ERROR_UNSUPPORTED when they are unknown. */
  Result<std::vector<double>> variances() const { return copy_labels(&biv_dataset_copy_variances); }

 private:
  friend class Model;
  friend class Trainer;
  friend Result<Fit> fit(const Dataset &, const Options &, const Options &, const FitCallback &);

  using New = detail::New<Dataset, biv_dataset>;
  friend New;

  explicit Dataset(biv_dataset *handle) : handle_("Dataset", handle) {}

  template <class Function>
  Result<std::vector<double>> copy_labels(Function function) const {
    BIV_TRY(sizes, info());
    return copy(function, {sizes.rows, sizes.outputs});
  }

  template <class Function>
  Result<std::vector<double>> copy(Function function, std::vector<std::int64_t> shape) const {
    detail::Output out(std::move(shape));
    return detail::checked(function(handle_.get(), out), [&] { return out.take(); });
  }

  detail::Handle<biv_dataset, biv_dataset_free> handle_;
};

/** One of a model's tensors: its shape and its values, row-major. */
struct Tensor {
  std::vector<std::int64_t> shape;
  std::vector<double> values;
};

/** Predictions of true values, and the variances of their errors in the square of the labels' unit; row-major. */
struct Prediction {
  std::vector<double> values;
  std::vector<double> variances;
};

/** A network and, once it was trained, the normalisation of its data. Threads that use one model take turns. */
class Model {
 public:
  /** A new network on the CPU; schema "model": {{"kind", "mlp"}, {"inputs", 19}, {"hidden", {100, 50}}, {"seed", 0}}.
   */
  static Result<Model> create(const Options &options) { return New::from(biv_model_create, options.json()); }

#ifndef BIV_NO_EXCEPTIONS
  /** As create(). */
  explicit Model(const Options &options) : Model(create(options)) {}
#endif

  /** The model that save() wrote, or that of a trainer's checkpoint. @throws Error BIV_ERROR_NOT_FOUND,
   * BIV_ERROR_CORRUPT. */
  static Result<Model> load(const std::string &path) { return New::from(biv_model_load, path.c_str()); }

  /** As load(), of the file's bytes in memory. */
  static Result<Model> load_from_memory(const void *bytes, std::size_t size) {
    return New::from(biv_model_load_from_memory, bytes, size);
  }

  /** The bytes of the file that save() writes. */
  Result<std::vector<unsigned char>> save_to_memory() const {
    return detail::copied<std::vector<unsigned char>>(biv_model_save_to_memory, handle_.get());
  }

  /** A model of its own with the same network, weights and normalisation. */
  Result<Model> copy() const { return New::from(biv_model_copy, handle_.get()); }

  /** Writes the model for other programs, in the format that the path ends with: .onnx or .safetensors. */
  Result<void> export_to(const std::string &path, const Options &options = {}) const {
    return detail::check(biv_model_export(handle_.get(), path.c_str(), options.json()));
  }

  /**
   * Takes the weights of a safetensors file that PyTorch, say, saved, by their names and shapes: all, or on error none.
   * {{"strict", false}} takes those that both have. Returns JSON: what was "imported", is "missing" and was
   * "left_over".
   */
  Result<std::string> import_weights(const std::string &path, const Options &options = {}) {
    biv_text *report = nullptr;
    const biv_status status = biv_model_import_weights(handle_.get(), path.c_str(), options.json(), &report);
    return detail::taken_text(status, report);
  }

  /** Saves weights and normalisation; a file at `path` is replaced in one go. */
  Result<void> save(const std::string &path) const {
    return detail::check(biv_model_save(handle_.get(), path.c_str()));
  }

  /** Predicts labels, in their unit: rows * outputs numbers for `features` of shape {rows, ...}. */
  Result<std::vector<double>> predict(const View &features) const {
    const detail::Input input(features);
    BIV_TRY(sizes, info());
    detail::Output out({input.rows(), sizes.outputs});
    return detail::checked(biv_model_predict(handle_.get(), input, out), [&] { return out.take(); });
  }

  /**
   * Predicts into a tensor by DLPack 1.x: float or double, on the CPU. Both tensors are the library's from the call on,
   * and it calls the deleter of each once before it returns or throws.
   */
  Result<void> predict_dlpack(DLManagedTensorVersioned *features, DLManagedTensorVersioned *out) const {
    return detail::check(biv_model_predict_dlpack(handle_.get(), features, out));
  }

  /**
   * Predicts true values and the variances of their errors, for a model that knows them: one of fit(), or of kind
   * "mean_variance". For a label with noise of variance v, scale * v comes to it; describe() has the scale.
   *
   * @throws Error BIV_ERROR_UNSUPPORTED when the model knows nothing of its errors.
   */
  Result<Prediction> predict_with_variance(const View &features) const {
    const detail::Input input(features);
    BIV_TRY(sizes, info());
    detail::Output values({input.rows(), sizes.outputs}), variances(values.shape());
    return detail::checked(biv_model_predict_with_variance(handle_.get(), input, values, variances), [&] {
      return Prediction{values.take(), variances.take()};
    });
  }

  /** The errors of the predictions on a data set, and how well the error bars hold. */
  Result<Metrics> evaluate(const Dataset &dataset) const {
    return detail::filled<Metrics>(biv_model_evaluate, handle_.get(), dataset.handle_.get());
  }

  /**
   * Gives the model a normalisation: a feature x becomes (x - mean) / std before the network, and its outputs, times
   * the labels' std plus their mean, the predictions. A trainer that is made later keeps it.
   *
   * @param feature_mean @param feature_std {inputs} numbers, or one for all features.
   * @param label_mean @param label_std {outputs} numbers.
   */
  Result<void> set_normalization(const View &feature_mean, const View &feature_std, const View &label_mean,
                                 const View &label_std) {
    return detail::check(biv_model_set_normalization(handle_.get(), detail::Input(feature_mean),
                                                     detail::Input(feature_std), detail::Input(label_mean),
                                                     detail::Input(label_std)));
  }

  /** Takes the normalisation away: features and predictions are then the network's own. */
  Result<void> reset_normalization() { return detail::check(biv_model_reset_normalization(handle_.get())); }

  /** The numbers of inputs, outputs and parameters, and whether predictions undo a normalisation. */
  Result<ModelInfo> info() const { return detail::filled<ModelInfo>(biv_model_get_info, handle_.get()); }

  /** The number of trainable values. */
  Result<std::int64_t> parameter_count() const {
    BIV_TRY(sizes, info());
    return sizes.parameters;
  }

  /** Options, device, the name and shape of every tensor, normalisation, error bars and columns, as JSON. */
  Result<std::string> describe() const { return detail::copied_text(biv_model_describe, handle_.get()); }

  /** A copy of a tensor by PyTorch's name: "0.weight" has shape {outputs, inputs}. @throws Error BIV_ERROR_NOT_FOUND.
   */
  Result<Tensor> tensor(const std::string &name) const {
    BIV_TRY(shape, tensor_shape(name));
    detail::Output out(shape);
    return detail::checked(biv_model_get_tensor(handle_.get(), name.c_str(), out), [&] {
      return Tensor{shape, out.take()};
    });
  }

  /** Overwrites a tensor with values of exactly its shape, all finite. */
  Result<void> set_tensor(const std::string &name, const View &values) {
    return detail::check(biv_model_set_tensor(handle_.get(), name.c_str(), detail::Input(values)));
  }

 private:
  friend class Trainer;
  friend Result<Fit> fit(const Dataset &, const Options &, const Options &, const FitCallback &);

  using New = detail::New<Model, biv_model>;
  friend New;

  explicit Model(biv_model *handle) : handle_("Model", handle) {}

  /** From describe(), which lists {"name": ..., "shape": [...]}; none for a tensor that is not there. */
  Result<std::vector<std::int64_t>> tensor_shape(const std::string &name) const {
    BIV_TRY(json, describe());
    std::vector<std::int64_t> shape;
    const std::string shape_key = "\"shape\":[";
    std::size_t at = json.find("\"name\":\"" + name + '"', json.find("\"tensors\""));
    if (at == std::string::npos || (at = json.find(shape_key, at)) == std::string::npos) return shape;
    std::istringstream sizes(json.substr(at + shape_key.size()));
    sizes.imbue(std::locale::classic());
    std::int64_t size;
    while (sizes >> size) {
      shape.push_back(size);
      sizes.ignore();
    }
    return shape;
  }

  detail::Handle<biv_model, biv_model_free> handle_;
};

/** What one epoch did. */
struct Epoch {
  std::int64_t epoch;            /**< The number of epochs completed, this one included. */
  std::int64_t batches;          /**< Mini-batches seen. */
  std::int64_t skipped;          /**< How many were skipped because the cutoff left them no label. */
  double loss;                   /**< The mean loss of the others, in normalised units. */
  double effective_batch_size;   /**< The mean effective batch size of the others. */
  std::optional<Metrics> test{}; /**< The errors on the test set, where one was given. */
  double validation_loss;        /**< The loss on the validation set, in normalised units; NaN without one. */
  std::int64_t best_epoch;       /**< The epoch of the least validation_loss so far; 0 without a validation set. */
  double learning_rate;          /**< The learning rate of the last step, as the schedule had it. */

  explicit Epoch(const ::biv_epoch &given)
      : epoch(given.epoch),
        batches(given.batches),
        skipped(given.skipped),
        loss(given.loss),
        effective_batch_size(given.effective_batch_size),
        validation_loss(given.validation_loss),
        best_epoch(given.best_epoch),
        learning_rate(given.learning_rate) {
    if (given.test != nullptr) test = detail::known(*given.test);
  }
};

/** Called after every epoch, on the thread that called fit(); true to continue, false to stop. */
using EpochCallback = std::function<bool(const Epoch &)>;

/**
 * Trains one model. It keeps what it needs of model and data. Threads that use one trainer take turns, except
 * cancel() and progress(), which never wait.
 */
class Trainer {
 public:
  /**
   * Starts from the model's present weights; predictions of the model follow the training.
   *
   * @param options schema "trainer": {{"loss", {{"kind", "biv"}, {"epsilon", 0.1}}}, {"batch_size", 256},
   *   {"learning_rate", 0.001}, {"optimizer", {{"kind", "adam"}}}, {"seed", 0}, {"device", "cpu"}}.
   * @throws Error BIV_ERROR_SHAPE when model and data do not fit; BIV_ERROR_INVALID_ARGUMENT when the loss needs
   *   variances and there are none.
   */
  static Result<Trainer> create(const Model &model, const Dataset &dataset, const Options &options = {}) {
    return New::from(biv_trainer_create, model.handle_.get(), dataset.handle_.get(), options.json());
  }

  /** Without a data set, for step_on() alone. */
  static Result<Trainer> create(const Model &model, const Options &options = {}) {
    return New::from(biv_trainer_create, model.handle_.get(), nullptr, options.json());
  }

#ifndef BIV_NO_EXCEPTIONS
  /** As create(). */
  Trainer(const Model &model, const Dataset &dataset, const Options &options = {})
      : Trainer(create(model, dataset, options)) {}

  /** As create(). */
  explicit Trainer(const Model &model, const Options &options = {}) : Trainer(create(model, options)) {}
#endif

  /**
   * The trainer that save() saved, with a model of its own. On a CPU it continues bit for bit as if it had never
   * stopped.
   *
   * @param dataset the one it was trained on; none when it had none.
   * @param device replaces the saved one, unless empty.
   */
  static Result<Trainer> load(const std::string &path, const Dataset *dataset = nullptr,
                              const std::string &device = {}) {
    return New::from(biv_trainer_load, path.c_str(), handle_of(dataset), device.empty() ? nullptr : device.c_str());
  }

  /** As load(), with options, schema "load": {{"accept_data", true}} goes on with other data. */
  static Result<Trainer> load_with(const std::string &path, const Dataset *dataset, const Options &options) {
    return New::from(biv_trainer_load_with, path.c_str(), handle_of(dataset), options.json());
  }

  /** One step on the next mini-batch of the data set: a seeded shuffle, anew every epoch. */
  Result<Step> step() { return detail::filled<Step>(biv_trainer_step, handle_.get()); }

  /** One step on a mini-batch of yours; arrays as for Dataset. */
  Result<Step> step_on(const View &features, const View &labels, const View &variances = {}) {
    return detail::filled<Step>(biv_trainer_step_on, handle_.get(), detail::Input(features), detail::Input(labels),
                                detail::Input(variances));
  }

  /**
   * Goes on with other data, as those of Dataset::append(): weights, Adam's state, normalisation and the numbers of
   * steps and epochs stay. The same data change no bit of what follows.
   */
  Result<void> set_data(const Dataset &dataset) {
    return detail::check(biv_trainer_set_data(handle_.get(), dataset.handle_.get()));
  }

  /**
   * Judges the model on a validation set after each epoch of fit() from now on. Each fit() then ends with the weights
   * of the best epoch so far and, with the option "patience", when that is so many epochs ago. A loss of epsilon "auto"
   * gets its epsilon from there. After load(), give the same set again.
   *
   * @param dataset rows that are not trained on.
   */
  Result<void> set_validation(const Dataset &dataset) {
    return detail::check(biv_trainer_set_validation(handle_.get(), dataset.handle_.get()));
  }

  /**
   * Trains for `epochs` epochs; with a validation set for fewer, if "patience" says so.
   *
   * @param test evaluated after each epoch, where there is one.
   * @param callback called after each epoch, with the trainer free to evaluate, predict and save. An exception that it
   *   throws stops the training and comes out of here; the trainer can continue.
   * @return whether training came to its end; false when the callback or cancel() stopped it.
   */
  Result<bool> fit(std::int64_t epochs, const Dataset *test = nullptr, const EpochCallback &callback = {}) {
    detail::Callback<Epoch, biv_epoch> guarded(callback);
    const biv_status status = biv_trainer_fit(handle_.get(), epochs, handle_of(test), guarded.pointer(), &guarded);
    guarded.rethrow();
    if (status == BIV_ERROR_CANCELLED) return false;
    return detail::checked(status, [] { return true; });
  }

#ifdef __cpp_lib_jthread
  /** As fit(), until `stop` is requested: then it ends after its present step, as by cancel(). */
  Result<bool> fit(std::int64_t epochs, const Dataset *test, const EpochCallback &callback,
                   const std::stop_token &stop) {
    if (stop.stop_requested()) return false;
    biv_trainer *const trainer = handle_.get();
    std::optional<std::stop_callback<std::function<void()>>> cancels(std::in_place, stop,
                                                                     [trainer] { biv_trainer_cancel(trainer); });
    /* Whenever the stop comes, no epoch begins after it. */
    BIV_TRY(complete, fit(epochs, test, [&](const Epoch &epoch) {
              return (!callback || callback(epoch)) && !stop.stop_requested();
            }));
    /* One that came when the training had ended must not cancel the next. */
    cancels.reset();
    if (stop.stop_requested()) (void)biv_trainer_fit(trainer, 0, nullptr, nullptr, nullptr);
    return complete;
  }
#endif

  /**
   * Makes the fit() that is running stop after its present step; where none is running, the next one before its first.
   * A fit() that returns has used it up: fit(0) takes it back. Never waits.
   */
  Result<void> cancel() { return detail::check(biv_trainer_cancel(handle_.get())); }

  /** How far training has come. Never waits. */
  Result<Progress> progress() const { return detail::filled<Progress>(biv_trainer_get_progress, handle_.get()); }

  /** JSON: "options", "device", "accepted", and the "kernel" that takes the steps, as biv_trainer_describe() has them.
   */
  Result<std::string> describe() const { return detail::copied_text(biv_trainer_describe, handle_.get()); }

  /** The model's errors on a data set. */
  Result<Metrics> evaluate(const Dataset &dataset) const {
    return detail::filled<Metrics>(biv_trainer_evaluate, handle_.get(), dataset.handle_.get());
  }

  /** Predicts as Model::predict() does. */
  Result<std::vector<double>> predict(const View &features) const {
    BIV_TRY(network, model());
    return network.predict(features);
  }

  /** The learning rate, which the schedule multiplies: Step and Epoch have the product. */
  Result<double> learning_rate() const {
    double rate = 0;
    return detail::checked(biv_trainer_get_learning_rate(handle_.get(), &rate), [&] { return rate; });
  }

  /** Sets it from the next step on; greater than 0. */
  Result<void> set_learning_rate(double learning_rate) {
    return detail::check(biv_trainer_set_learning_rate(handle_.get(), learning_rate));
  }

  /** The model in training, which it shares. */
  Result<Model> model() const { return Model::New::from(biv_trainer_get_model, handle_.get()); }

  /** Saves a checkpoint: model, normalisation, optimiser, options and position. A file there is replaced in one go. */
  Result<void> save(const std::string &path) const {
    return detail::check(biv_trainer_save(handle_.get(), path.c_str()));
  }

  /** The bytes of the file that save() writes. */
  Result<std::vector<unsigned char>> save_to_memory() const {
    return detail::copied<std::vector<unsigned char>>(biv_trainer_save_to_memory, handle_.get());
  }

  /** As load(), of the file's bytes in memory. */
  static Result<Trainer> load_from_memory(const void *bytes, std::size_t size, const Dataset *dataset = nullptr,
                                          const Options &options = {}) {
    return New::from(biv_trainer_load_from_memory, bytes, size, handle_of(dataset), options.json());
  }

 private:
  using New = detail::New<Trainer, biv_trainer>;
  friend New;

  explicit Trainer(biv_trainer *handle) : handle_("Trainer", handle) {}

  static biv_dataset *handle_of(const Dataset *dataset) { return dataset ? dataset->handle_.get() : nullptr; }

  detail::Handle<biv_trainer, biv_trainer_free> handle_;
};

/** A loss on a mini-batch. */
struct Loss {
  double value;
  double effective_batch_size;  /**< (sum w)^2 / sum w^2; the mean over the outputs. */
  double epsilon;               /**< The epsilon that was used; 0 for a loss without an epsilon. */
  std::int64_t samples_used;    /**< How many rows have a weight that is not 0. */
  std::vector<double> gradient; /**< The derivative by each prediction, of the predictions' shape. */
};

/**
 * A loss and its gradient by themselves, in double precision.
 *
 * @param options schema "loss": {{"kind", "biv"}, {"epsilon", 0.1}}; epsilon is in the unit of the variances.
 * @param predictions shape {rows} or {rows, outputs}.
 * @param labels as predictions.
 * @param variances as predictions; mse needs none.
 */
inline Result<Loss> compute_loss(const Options &options, const View &predictions, const View &labels,
                                 const View &variances = {}) {
  const detail::Input input(predictions);
  std::vector<std::int64_t> shape = predictions.shape();
  if (!shape.empty()) shape[0] = input.rows();
  detail::Output gradient(std::move(shape));
  biv_loss_result result{};
  result.struct_size = sizeof result;
  return detail::checked(
      biv_loss_compute(options.json(), input, detail::Input(labels), detail::Input(variances), &result, gradient), [&] {
        return Loss{result.value, result.effective_batch_size, result.epsilon, result.samples_used, gradient.take()};
      });
}

/** Draws `count` noise variances; schema "distribution": {{"kind", "gamma"}, {"alpha", 2}, {"beta", 0.5}}. */
inline Result<std::vector<double>> sample_noise(const Options &distribution, std::uint64_t seed, std::size_t count) {
  std::vector<double> variances(count);
  return detail::checked(biv_noise_sample(distribution.json(), seed, variances.data(), count),
                         [&] { return std::move(variances); });
}

/** What ExperimentProgress counts. */
enum class Stage { loading = BIV_STAGE_LOADING, training = BIV_STAGE_TRAINING, sweep = BIV_STAGE_SWEEP };

/** How far a long computation has come. */
struct ExperimentProgress {
  Stage stage;               /**< What `done` and `total` count: images, mini-batches or runs. */
  std::string run;           /**< The run: its tag, in a sweep its variant and seed. */
  std::int64_t done;         /**< How many are done. */
  std::int64_t total;        /**< How many there are. */
  std::int64_t epoch;        /**< The number of epochs completed. */
  std::int64_t epochs;       /**< The number of epochs in all; 0 outside training. */
  double loss;               /**< The mean training loss of the present epoch; NaN where there is none. */
  double rmse;               /**< The last RMSE on the test set, in the labels' unit; NaN before the first. */
  double samples_per_second; /**< Images or training rows; NaN for Stage::sweep. */
  double seconds_left;       /**< The estimated time to the end; NaN before there is one. */

  explicit ExperimentProgress(const ::biv_experiment_progress &given)
      : stage(static_cast<Stage>(given.stage)),
        run(given.run ? given.run : ""),
        done(given.done),
        total(given.total),
        epoch(given.epoch),
        epochs(given.epochs),
        loss(given.loss),
        rmse(given.rmse),
        samples_per_second(given.samples_per_second),
        seconds_left(given.seconds_left) {}
};

/** Called often, on the thread that called; true to continue, false to stop with BIV_ERROR_CANCELLED. */
using ExperimentCallback = std::function<bool(const ExperimentProgress &)>;

namespace detail {

/** Runs an experiment or a sweep. */
template <class Function>
Result<std::string> run(Function function, const Options &options, const ExperimentCallback &callback) {
  Callback<ExperimentProgress, biv_experiment_progress> guarded(callback);
  biv_text *made = nullptr;
  const biv_status status = function(options.json(), guarded.pointer(), &guarded, &made);
  guarded.rethrow();
  return taken_text(status, made);
}

}  // namespace detail

/**
 * What residuals say of the variances that are known of the labels' noise, and so of the epsilon of the weights.
 *
 * @param residuals shape {rows}: label minus prediction, of rows that training has not seen.
 * @param variances the same shape, the square of the residuals' unit, at least 0; a row of an infinite one counts
 *   nothing.
 */
inline Result<VarianceModel> variance_model(const View &residuals, const View &variances) {
  return detail::filled<VarianceModel>(biv_variance_model_fit, detail::Input(residuals), detail::Input(variances));
}

/** What fit() makes. */
struct Fit {
  Model model;
  std::string report; /**< JSON: the variance model, coverage and warnings. */
};

/**
 * Makes a trained model with error bars of a data set: nothing has to be tuned, and known variances help where they can
 * and do no harm where they cannot.
 *
 * @param model schema "model", of one network; by default a multi-layer perceptron with hidden layers of 100 and 50.
 * @param options schema "fit": {{"members", 5}, {"epochs", 100}, {"checkpoint", "fit.biv"}}. A fit that finds its own
 *   checkpoint goes on from there.
 * @param on_progress an exception that it throws stops the fit and comes out of here.
 * @throws Error BIV_ERROR_CANCELLED when on_progress stopped it.
 */
inline Result<Fit> fit(const Dataset &dataset, const Options &model = {}, const Options &options = {},
                       const FitCallback &on_progress = {}) {
  detail::Callback<FitProgress, biv_fit_progress> guarded(on_progress);
  biv_model *made = nullptr;
  biv_text *found = nullptr;
  const biv_status status =
      biv_fit(model.json(), dataset.handle_.get(), options.json(), guarded.pointer(), &guarded, &made, &found);
  Model fitted(made);
  guarded.rethrow();
  BIV_TRY(report, detail::taken_text(status, found));
  return Fit{std::move(fitted), std::move(report)};
}

#ifdef __cpp_lib_jthread
/** As fit(), until `stop` is requested: then it ends as where on_progress returned false. */
inline Result<Fit> fit(const Dataset &dataset, const Options &model, const Options &options,
                       const FitCallback &on_progress, const std::stop_token &stop) {
  return fit(dataset, model, options, [&](const FitProgress &progress) {
    return (!on_progress || on_progress(progress)) && !stop.stop_requested();
  });
}
#endif

/** Checks an experiment's description, schema "experiment", and returns it with every default filled in, as JSON. */
inline Result<std::string> resolve_experiment(const Options &config) {
  biv_text *made = nullptr;
  const biv_status status = biv_experiment_resolve(config.json(), &made);
  return detail::taken_text(status, made);
}

/**
 * Runs an experiment: reads and splits the data, adds noise to the labels, trains and evaluates.
 *
 * @param callback called after each mini-batch. An exception that it throws stops the run and comes out of here.
 * @return JSON with the test errors at the end ("last") and at their best ("best").
 * @throws Error BIV_ERROR_CANCELLED when the callback stopped it.
 */
inline Result<std::string> run_experiment(const Options &config, const ExperimentCallback &callback = {}) {
  return detail::run(&biv_experiment_run, config, callback);
}

/** Runs every combination of losses, noises and seeds, schema "sweep"; returns the table and the runs as JSON. */
inline Result<std::string> run_sweep(const Options &sweep, const ExperimentCallback &callback = {}) {
  return detail::run(&biv_sweep_run, sweep, callback);
}

/** The library's version, for example "0.1.0". */
inline std::string version() { return biv_version(); }

/** What the library is built from and runs on, as JSON. */
inline Result<std::string> build_info() { return detail::text(biv_build_info); }

/** How much a LogFunction hears. */
enum class LogLevel { silent = BIV_LOG_SILENT, warning = BIV_LOG_WARNING, info = BIV_LOG_INFO };

/** Hears a message of the library's and its level. It may call the library. An exception that it throws is dropped. */
using LogFunction = std::function<void(LogLevel, const std::string &)>;

namespace detail {

/** The function that hears the log. It is shared, so that it lives as long as it runs. */
class Log {
 public:
  static void set(LogFunction function) {
    auto next = std::make_shared<const LogFunction>(std::move(function));
    const std::lock_guard<std::mutex> lock(mutex());
    std::swap(current(), next);
  }

  static void call(void *, std::int32_t level, const char *message) noexcept {
#ifndef BIV_NO_EXCEPTIONS
    try {
#endif
      const std::shared_ptr<const LogFunction> function = get();
      if (function && *function) (*function)(static_cast<LogLevel>(level), message);
#ifndef BIV_NO_EXCEPTIONS
    } catch (...) {
    }
#endif
  }

 private:
  static std::shared_ptr<const LogFunction> get() {
    const std::lock_guard<std::mutex> lock(mutex());
    return current();
  }
  /* Never destroyed: the library may be called while the process ends. */
  static std::mutex &mutex() {
    static std::mutex &mutex = *new std::mutex;
    return mutex;
  }
  static std::shared_ptr<const LogFunction> &current() {
    static auto &current = *new std::shared_ptr<const LogFunction>;
    return current;
  }
};

}  // namespace detail

/**
 * Sets who hears what the library says beside errors, each message once: by default nobody; then `function`, instead of
 * the one before. It is called on a thread that is in a function of the library, never on two at the same time.
 *
 * When this returns, the function before it is not running, unless it is the one that calls this; the caller must hold
 * no lock that it takes.
 */
inline Result<void> set_log(LogLevel level, LogFunction function = {}) {
  const bool listens = function != nullptr;
  detail::Log::set(std::move(function));
  return detail::check(biv_set_log(static_cast<std::int32_t>(level), listens ? &detail::Log::call : nullptr, nullptr));
}

/** The JSON Schema of the options called `name`, for example "trainer". */
inline Result<std::string> config_schema(const std::string &name) {
  return detail::text(biv_config_schema, name.c_str());
}

/** The number of CUDA devices that can be used; 0 is no error. */
inline Result<int> cuda_device_count() {
  std::int32_t count = 0;
  return detail::checked(biv_cuda_device_count(&count), [&] { return int{count}; });
}

/** How many threads libtorch uses inside one operation on the CPU, in the whole process. */
inline Result<int> num_threads() {
  std::int32_t threads = 0;
  return detail::checked(biv_get_num_threads(&threads), [&] { return int{threads}; });
}

/** Sets that number, at least 1, while nothing is training. Results are reproducible for one number of threads. */
inline Result<void> set_num_threads(int threads) { return detail::check(biv_set_num_threads(threads)); }

#undef BIV_FAIL
#undef BIV_TRY

#ifdef BIV_NO_EXCEPTIONS
}  // namespace results
#endif
}  // namespace biv

#endif
