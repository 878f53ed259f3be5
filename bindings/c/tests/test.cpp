// The C interface in C++17: handles that free themselves, statuses as exceptions, one plan on many threads, an executor.

#include <depthwise.h>

#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

int checks = 0;

void check(bool condition, const char *what) {
  checks++;
  if (!condition) {
    std::fprintf(stderr, "%s\n  the last message: %s\n", what, dw_last_error_message());
    std::exit(1);
  }
}
#define CHECK(condition) check((condition), #condition)

void ok(dw_status status) {
  checks++;
  if (status != DW_STATUS_OK) throw std::runtime_error(dw_last_error_message());
}

struct Free {
  void operator()(dw_plan *plan) const { dw_plan_free(plan); }
  void operator()(dw_workspace *workspace) const { dw_workspace_free(workspace); }
};
using Plan = std::unique_ptr<dw_plan, Free>;
using Workspace = std::unique_ptr<dw_workspace, Free>;

Plan build(const dw_descriptor &descriptor) {
  dw_plan *plan = nullptr;
  ok(dw_plan_new(&descriptor, &plan));
  return Plan(plan);
}

std::vector<float> numbers(std::size_t len) {
  static unsigned state = 7;
  std::vector<float> array(len);
  for (float &x : array) {
    state = state * 1664525u + 1013904223u;
    x = static_cast<float>(state >> 8) / 8388608.0f - 1.0f;
  }
  return array;
}

// Threads that take the next task when they are free.
struct Pool {
  std::size_t threads;
  std::atomic<std::size_t> tasks{0};

  dw_parallelism parallelism() {
    return {DW_PARALLELISM_KIND_EXECUTOR, threads, &Pool::execute, this};
  }

  static void execute(void *context, std::size_t tasks, dw_task task, void *argument) {
    auto &pool = *static_cast<Pool *>(context);
    std::atomic<std::size_t> next{0};
    auto work = [&] {
      for (std::size_t i; (i = next++) < tasks;) {
        pool.tasks++;
        task(argument, i);
      }
    };
    std::vector<std::thread> others;
    for (std::size_t i = 1; i < pool.threads; i++) others.emplace_back(work);
    work();
    for (std::thread &other : others) other.join();
  }
};

} // namespace

int main() {
  const std::size_t channels = 32, h = 96, w = 80;
  const dw_shape shape{1, channels, h, w};
  const std::size_t len = channels * h * w;
  const std::vector<float> weights = numbers(channels * 9), x = numbers(len);

  dw_descriptor descriptor;
  ok(dw_descriptor_init(&descriptor, sizeof descriptor, DW_OPERATION_DEPTHWISE, channels, channels));
  descriptor.layout = DW_LAYOUT_NHWC;
  descriptor.weights = {weights.data(), weights.size()};
  descriptor.activation.kind = DW_ACTIVATION_KIND_RELU;
  const Plan plan = build(descriptor);

  dw_tensor input;
  ok(dw_tensor_init(&input, x.data(), len, DW_ELEMENT_F32, shape, DW_LAYOUT_NHWC));
  auto run = [&](std::vector<float> &y, const dw_run_options *options) {
    dw_tensor_mut output;
    ok(dw_tensor_mut_init(&output, y.data(), y.size(), DW_ELEMENT_F32, shape, DW_LAYOUT_NHWC));
    ok(dw_plan_run(plan.get(), &input, &output, options));
  };
  std::vector<float> y(len);
  run(y, nullptr);

  // Against plain loops.
  for (std::size_t i = 0; i < h; i++) {
    for (std::size_t j = 0; j < w; j++) {
      for (std::size_t c = 0; c < channels; c++) {
        double sum = 0;
        for (std::size_t u = 0; u < 3; u++) {
          for (std::size_t v = 0; v < 3; v++) {
            if (i + u < 1 || j + v < 1 || i + u > h || j + v > w) continue;
            sum += double(x[((i + u - 1) * w + j + v - 1) * channels + c]) * weights[c * 9 + u * 3 + v];
          }
        }
        CHECK(std::fabs(y[(i * w + j) * channels + c] - std::fmax(sum, 0)) < 1e-5);
      }
    }
  }

  // One plan on several threads at once, with and without a workspace; handles of its own in one of them.
  std::vector<std::thread> threads;
  std::vector<std::vector<float>> results(4, std::vector<float>(len));
  for (std::size_t i = 0; i < results.size(); i++) {
    threads.emplace_back([&, i] {
      dw_run_options options;
      dw_workspace *own = nullptr;
      std::size_t needed = 0;
      if (dw_run_options_init(&options, sizeof options) || dw_plan_workspace_len(plan.get(), shape, nullptr, &needed) ||
          dw_workspace_new(needed, &own)) {
        std::abort();
      }
      const Workspace workspace(own);
      if (i % 2 == 0) options.workspace = workspace.get();
      for (int repeat = 0; repeat < 5; repeat++) run(results[i], &options);
    });
  }
  for (std::thread &thread : threads) thread.join();
  for (const std::vector<float> &result : results) CHECK(result == y);

  // The program's own threads.
  Pool pool{4};
  const dw_parallelism parallelism = pool.parallelism();
  dw_run_options options;
  ok(dw_run_options_init(&options, sizeof options));
  options.parallelism = &parallelism;
  std::vector<float> shared(len);
  run(shared, &options);
  CHECK(shared == y);
  CHECK(pool.tasks > 1);

  // Of 8 bits: the sums of a pointwise convolution, by the program's own threads, too.
  const std::size_t outputs = 24;
  std::vector<std::uint8_t> bytes(len);
  for (std::size_t i = 0; i < len; i++) bytes[i] = static_cast<std::uint8_t>(i * i / 7 + i);
  std::vector<std::int8_t> integers(outputs * channels);
  for (std::size_t i = 0; i < integers.size(); i++) integers[i] = static_cast<std::int8_t>(i * 37 % 256 - 128);
  const float scale = 0.5f;
  dw_int8_descriptor of_8_bits;
  ok(dw_int8_descriptor_init(&of_8_bits, sizeof of_8_bits, DW_OPERATION_POINTWISE, channels, outputs));
  of_8_bits.layout = DW_LAYOUT_NHWC;
  of_8_bits.input = {DW_ELEMENT_U8, 0.5f, 7};
  of_8_bits.output = {DW_ELEMENT_I32, 0, 0};
  of_8_bits.weights = {integers.data(), integers.size(), DW_ELEMENT_I8, 0, {&scale, 1}};
  dw_plan *made = nullptr;
  ok(dw_int8_plan_new(&of_8_bits, &made));
  const Plan summing(made);
  const dw_shape summed{1, outputs, h, w};
  ok(dw_tensor_init(&input, bytes.data(), len, DW_ELEMENT_U8, shape, DW_LAYOUT_NHWC));
  for (const dw_run_options *how : {static_cast<const dw_run_options *>(nullptr), static_cast<const dw_run_options *>(&options)}) {
    std::vector<std::int32_t> sums(h * w * outputs);
    dw_tensor_mut output;
    ok(dw_tensor_mut_init(&output, sums.data(), sums.size(), DW_ELEMENT_I32, summed, DW_LAYOUT_NHWC));
    ok(dw_plan_run(summing.get(), &input, &output, how));
    for (std::size_t i = 0; i < sums.size(); i++) {
      std::int32_t sum = 0;
      for (std::size_t c = 0; c < channels; c++) {
        sum += (bytes[i / outputs * channels + c] - 7) * integers[i % outputs * channels + c];
      }
      CHECK(sums[i] == sum);
    }
  }

  // A failure as an exception.
  descriptor.weights.len = 1;
  try {
    build(descriptor);
    CHECK(false);
  } catch (const std::runtime_error &error) {
    CHECK(std::string(error.what()).find("1 elements were given for the depthwise weights, but 288 are needed") == 0);
  }
  std::printf("C++: %d checks passed\n", checks);
}
