// Attention that sums up its own weights while they are in a core's cache; `sums.py` says what the sums are.
//
// Every sequence and head is a unit of work for one core. ROWS rows of scores are a product of queries and keys, their
// weights are made and summed in two passes over a row, and a product with the values ends them. The products are
// oneDNN's small ones, through ATen; their second factor is cut into blocks of columns and packed for them once a unit.
// Their sizes are rounded up, for oneDNN makes a kernel for each; what is added is 0.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/native/CPUBlas.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <type_traits>
#include <vector>

namespace {

using at::Tensor;
namespace blas = at::native::cpublas;

constexpr int64_t ROWS = 64, KEYS = 64, DIMENSIONS = 32;  // what rows, columns and the width d are rounded up to
constexpr float LOWEST = -80;  // of a logarithm: an exponential much lower is no normal number, and slow

int64_t rounded(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

template <typename To, typename From>
To as(From x) {
  if constexpr (std::is_same_v<To, From>) {
    return x;
  } else if constexpr (std::is_same_v<To, at::BFloat16>) {
    // To the nearest, ties to even. ATen's own conversion looks for NaN, and is not done for many numbers at once.
    const uint32_t bits = __builtin_bit_cast(uint32_t, static_cast<float>(x));
    return {static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16), To::from_bits()};
  } else {
    return static_cast<To>(static_cast<float>(x));
  }
}

// The second factor (inner, outer) of products with ROWS rows.
template <typename Number>
class Factor {
 public:
  explicit Factor(int64_t wide) : wide_(wide) {}

  void clear(int64_t inner, int64_t outer) {
    inner_ = inner;
    outer_ = outer;
    plain_.assign(inner * outer, Number(0));
  }

  // The place of a number; the next row is `wide` further, and within a block the next column is the next number.
  Number* at(int64_t row, int64_t column) {
    return plain_.data() + (column / wide_ * inner_ + row) * wide_ + column % wide_;
  }

  void pack() {
    if constexpr (PACKED) {
      const auto type = c10::CppTypeToScalarType<Number>::value;
      packed_.resize(plain_.size());
      for (int64_t block = 0; block < inner_ * outer_; block += inner_ * wide_)
        blas::pack(inner_, wide_, wide_, wide_, type, type, plain_.data() + block, packed_.data() + block);
    }
  }

  // (ROWS, inner) x (inner, outer) -> (ROWS, outer)
  void times(const Number* left, float* out) const {
    const Number* right = PACKED ? packed_.data() : plain_.data();
    for (int64_t column = 0; column < outer_; column += wide_)
      blas::brgemm(ROWS, wide_, inner_, inner_, wide_, outer_, false, left, right + column * inner_, out + column, PACKED);
  }

  static constexpr bool PACKED = !std::is_same_v<Number, float>;

 private:
  int64_t wide_, inner_ = 0, outer_ = 0;
  std::vector<Number> plain_, packed_;
};

// exp(x) for LOWEST <= x <= 0, to 3e-7 of itself: 2^n 2^f with |f| <= 1/2, the latter by its Taylor series.
inline float exponential(float x) {
  const float y = x * 1.44269504089f;
  const int32_t n = static_cast<int32_t>(y - 0.5f);
  const float f = y - static_cast<float>(n);
  float power = 1.5403530e-4f;
  power = power * f + 1.3333558e-3f;
  power = power * f + 9.6181291e-3f;
  power = power * f + 5.5504109e-2f;
  power = power * f + 2.4022651e-1f;
  power = power * f + 6.9314718e-1f;
  power = power * f + 1.0f;
  return power * __builtin_bit_cast(float, (n + 127) << 23);
}

struct Row {
  float peak, total, spread, distance;  // max_j s, sum_j E, sum_j E (s - peak), sum_j E |i - j|
};

// Turns a row of scores into E.
Row exponentials(float* __restrict row, int32_t size, float scale, float place) {
  float peak = std::numeric_limits<float>::lowest();
#pragma omp simd reduction(max : peak)
  for (int32_t j = 0; j < size; ++j) peak = row[j] > peak ? row[j] : peak;
  float total = 0, spread = 0, distance = 0;
#pragma omp simd reduction(+ : total, spread, distance)
  for (int32_t j = 0; j < size; ++j) {
    float x = (row[j] - peak) * scale;
    x = x < LOWEST ? LOWEST : x;
    const float e = exponential(x);
    row[j] = e;
    total += e;
    spread += e * x;
    distance += e * std::fabs(static_cast<float>(j) - place);
  }
  return {peak * scale, total, spread, distance};
}

// Writes weights E / t for the product with the values, and adds them to what the columns get.
template <typename Number>
void spend(const float* __restrict row, int32_t size, float share, Number* __restrict weights, float* __restrict got) {
#pragma omp simd
  for (int32_t j = 0; j < size; ++j) {
    const float weight = row[j] * share;
    got[j] += weight;
    weights[j] = as<Number>(weight);
  }
}

float dot(const float* __restrict x, const float* __restrict y, int64_t size) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < size; ++j) sum += x[j] * y[j];
  return sum;
}

// Queries, keys or values: (tokens, heads, d), d without gaps.
template <typename Stored>
struct Vectors {
  explicit Vectors(const Tensor& x) : data(x.const_data_ptr<Stored>()), token(x.stride(0)), head(x.stride(1)) {}
  const Stored* data;
  int64_t token, head;  // strides
};

struct Question {
  const int64_t* bounds;  // (sequences + 1): where each begins, and the end
  int64_t sequences, heads, width, classes, reach;
  float scale;
  const float* members;  // (tokens, classes)
  std::vector<int64_t> sources;
  const float *second, *norms;  // (tokens), (tokens, heads), or nullptr
};

struct Answer {  // as `Sums`
  float *lse, *entropy, *masses, *distance, *received, *offsets, *confidence, *own_text, *weighted;
};

// `Stored` is what queries, keys and values are, `Number` what their products are made of.
template <typename Stored, typename Number>
class Worker {
 public:
  Worker(const Tensor& query, const Tensor& key, const Tensor& value, Stored* mixed, const Question& question,
         const Answer& answer)
      : query_(query), key_(key), value_(value), out_(mixed), ask_(question), answer_(answer),
        inner_(rounded(question.width, DIMENSIONS)), queries_(ROWS * inner_), mixed_(ROWS * inner_) {}

  ~Worker() { blas::brgemm_release(Factor<Number>::PACKED); }

  void unit(int64_t sequence, int64_t head) {
    first_ = ask_.bounds[sequence];
    size_ = ask_.bounds[sequence + 1] - first_;
    head_ = head;
    sum_ = sequence * ask_.heads + head;
    lay_out();
    for (int64_t start = 0; start < size_; start += ROWS) {
      const int64_t rows = std::min(ROWS, size_ - start);
      for (int64_t row = 0; row < rows; ++row) copy(query_, start + row, queries_.data() + row * inner_, 1);
      keys_.times(queries_.data(), scores_.data());
      for (int64_t row = 0; row < rows; ++row) sum_up(start + row, row);
      values_.times(weights_.data(), mixed_.data());
      for (int64_t row = 0; row < rows; ++row) {
        Stored* out = out_ + ((first_ + start + row) * ask_.heads + head_) * ask_.width;
        for (int64_t c = 0; c < ask_.width; ++c) out[c] = as<Stored>(mixed_[row * inner_ + c]);
      }
    }
    sum_columns();
  }

 private:
  void lay_out() {
    wide_ = rounded(size_, KEYS);
    keys_.clear(inner_, wide_);
    values_.clear(wide_, inner_);
    for (int64_t j = 0; j < size_; ++j) {
      copy(key_, j, keys_.at(0, j), KEYS);
      for (int64_t c = 0; c < ask_.width; c += DIMENSIONS) copy(value_, j, values_.at(j, c), 1, c, DIMENSIONS);
    }
    keys_.pack();
    values_.pack();
    scores_.resize(ROWS * wide_);
    weights_.resize(ROWS * wide_);
    for (int64_t row = 0; row < ROWS; ++row)
      std::fill(weights_.begin() + row * wide_ + size_, weights_.begin() + (row + 1) * wide_, Number(0));
    got_.assign((1 + ask_.sources.size()) * size_, 0);
  }

  // Some dimensions of a token of this unit, `step` apart.
  void copy(const Vectors<Stored>& from, int64_t token, Number* to, int64_t step, int64_t start = 0, int64_t many = 1 << 30) {
    const Stored* row = from.data + (first_ + token) * from.token + head_ * from.head;
    const int64_t stop = std::min(ask_.width, start + many);
    for (int64_t c = start; c < stop; ++c) to[(c - start) * step] = as<Number>(row[c]);
  }

  // The row of token i, which is row `row` of the scores.
  void sum_up(int64_t i, int64_t row) {
    float* exps = scores_.data() + row * wide_;
    const Row found = exponentials(exps, size_, ask_.scale, i);
    const float share = 1 / found.total, log = std::log(found.total), entropy = log - found.spread * share;
    spend(exps, size_, share, weights_.data() + row * wide_, got_.data());
    answer_.lse[(first_ + i) * ask_.heads + head_] = found.peak + log;
    answer_.confidence[sum_] += share;
    answer_.distance[sum_] += found.distance * share;
    float* offsets = answer_.offsets + sum_ * (2 * ask_.reach + 1) + ask_.reach;
    for (int64_t o = std::max(-ask_.reach, -i); o <= std::min(ask_.reach, size_ - 1 - i); ++o)
      offsets[o] += exps[i + o] * share;
    float* entropies = answer_.entropy + sum_ * (1 + ask_.sources.size());
    entropies[0] += entropy;
    for (size_t source = 0; source < ask_.sources.size(); ++source) {
      const float member = ask_.members[(first_ + i) * ask_.classes + ask_.sources[source]];
      if (member == 0) continue;
      entropies[1 + source] += entropy * member;
      float* got = got_.data() + (1 + source) * size_;
      for (int64_t j = 0; j < size_; ++j) got[j] += exps[j] * share * member;
    }
    if (ask_.second != nullptr) {
      const float to_second = dot(exps, ask_.second + first_, size_) * share;
      answer_.own_text[sum_] += ask_.second[first_ + i] != 0 ? to_second : 1 - to_second;
    }
  }

  // From what the columns got, when all rows have given.
  void sum_columns() {
    const int64_t classes = ask_.classes, givers = 1 + ask_.sources.size();
    float* masses = answer_.masses + sum_ * givers * classes;
    float* weighted = answer_.weighted + sum_ * (classes + 1);
    for (int64_t j = 0; j < size_; ++j) {
      const float* member = ask_.members + (first_ + j) * classes;
      for (int64_t giver = 0; giver < givers; ++giver)
        for (int64_t c = 0; c < classes; ++c) masses[giver * classes + c] += got_[giver * size_ + j] * member[c];
      answer_.received[sum_] += got_[j] * j;
      if (ask_.norms != nullptr) {
        const float brought = got_[j] * ask_.norms[(first_ + j) * ask_.heads + head_];
        for (int64_t c = 0; c < classes; ++c) weighted[c] += brought * member[c];
        weighted[classes] += brought;
      }
    }
  }

  const Vectors<Stored> query_, key_, value_;
  Stored* const out_;
  const Question& ask_;
  const Answer& answer_;
  const int64_t inner_;  // d, rounded up
  int64_t first_ = 0, size_ = 0, wide_ = 0, head_ = 0, sum_ = 0;
  Factor<Number> keys_{KEYS}, values_{DIMENSIONS};
  std::vector<Number> queries_, weights_;
  std::vector<float> mixed_, scores_, got_;  // got: what each column gets from all rows, then from each source's
};

std::vector<Tensor> attend(
    const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& bounds, double scale,
    const Tensor& members, at::IntArrayRef sources, int64_t reach, const std::optional<Tensor>& second,
    const std::optional<Tensor>& norms) {
  const int64_t sequences = bounds.size(0) - 1, heads = query.size(1), width = query.size(2);
  const int64_t givers = 1 + sources.size(), classes = members.size(1);
  const Question question{
      bounds.const_data_ptr<int64_t>(), sequences, heads, width, classes, reach, static_cast<float>(scale),
      members.const_data_ptr<float>(), sources.vec(), second ? second->const_data_ptr<float>() : nullptr,
      norms ? norms->const_data_ptr<float>() : nullptr};
  std::vector<Tensor> found{at::empty(query.sizes(), query.options())};
  const auto zeros = [&](at::IntArrayRef shape) {
    found.push_back(at::zeros(shape, members.options()));
    return found.back().data_ptr<float>();
  };
  const Answer answer{
      zeros({query.size(0), heads}), zeros({sequences, heads, givers}), zeros({sequences, heads, givers, classes}),
      zeros({sequences, heads}), zeros({sequences, heads}), zeros({sequences, heads, 2 * reach + 1}),
      zeros({sequences, heads}), zeros({sequences, heads}), zeros({sequences, heads, classes + 1})};
  const auto work = [&]<typename Stored, typename Number>(Stored, Number) {
    // Units of one head are neighbours: cores that share them evenly get sequences of all lengths.
    at::parallel_for(0, heads * sequences, 1, [&](int64_t from, int64_t to) {
      Worker<Stored, Number> worker(query, key, value, found[0].data_ptr<Stored>(), question, answer);
      for (int64_t unit = from; unit < to; ++unit) worker.unit(unit % sequences, unit / sequences);
    });
  };
  const auto type = query.scalar_type();
  if (type == at::kFloat) work(float(), float());
  else if (type == at::kHalf) work(at::Half(), float());
  else if (blas::could_pack(at::kBFloat16)) work(at::BFloat16(), at::BFloat16());
  else work(at::BFloat16(), float());  // without matrix instructions halves are no faster
  return found;
}

}  // namespace

TORCH_LIBRARY(regard, library) {
  library.def(
      "attend(Tensor query, Tensor key, Tensor value, Tensor bounds, float scale, Tensor members, int[] sources, "
      "int reach, Tensor? second, Tensor? norms) -> Tensor[]");
  library.impl("attend", c10::DispatchKey::CPU, attend);
}
