/* The C interface in C99: every operation against plain loops, every element, views, parts, threads, texts, and each error. */

#define _POSIX_C_SOURCE 200809L /* threads */

#include "check.h"

#include <math.h>
#include <pthread.h>

/* Numbers between -1 and 1. */
static float *numbers(size_t len) {
  static unsigned state = 1;
  float *array = memory(len * sizeof(float));
  for (size_t i = 0; i < len; i++) {
    state = state * 1664525u + 1013904223u;
    array[i] = (float)(state >> 8) / 8388608.0f - 1.0f;
  }
  return array;
}

static dw_array array(const float *data, size_t len) {
  dw_array array = {data, len};
  return array;
}

static dw_tensor tensor(const float *data, size_t len, dw_shape shape, dw_layout layout) {
  dw_tensor tensor;
  OK(dw_tensor_init(&tensor, data, len, DW_ELEMENT_F32, shape, layout));
  return tensor;
}

static dw_tensor_mut tensor_mut(float *data, size_t len, dw_shape shape, dw_layout layout) {
  dw_tensor_mut tensor;
  OK(dw_tensor_mut_init(&tensor, data, len, DW_ELEMENT_F32, shape, layout));
  return tensor;
}

/* A convolution of the least code: groups, window, no padding but `pad` on each side; weights in PyTorch's order. */
typedef struct {
  size_t in, out, groups, k[2], stride[2], dilation[2], pad[2];
  const float *weights, *bias; /* bias may be NULL */
} plain;

static dw_shape plain_shape(plain p, dw_shape x) {
  size_t extent[2], in[2] = {x.h, x.w};
  for (int i = 0; i < 2; i++) {
    extent[i] = (in[i] + 2 * p.pad[i] - (p.k[i] - 1) * p.dilation[i] - 1) / p.stride[i] + 1;
  }
  return shape(x.n, p.out, extent[0], extent[1]);
}

/* One output, in double. */
static double plain_at(plain p, const float *x, dw_shape s, dw_strides st, size_t n, size_t o, size_t i, size_t j) {
  size_t in = p.in / p.groups, first = o / (p.out / p.groups) * in;
  double sum = p.bias != NULL ? p.bias[o] : 0.0;
  for (size_t u = 0; u < p.k[0]; u++) {
    for (size_t v = 0; v < p.k[1]; v++) {
      size_t h = i * p.stride[0] + u * p.dilation[0], w = j * p.stride[1] + v * p.dilation[1];
      if (h < p.pad[0] || w < p.pad[1] || h - p.pad[0] >= s.h || w - p.pad[1] >= s.w) continue;
      for (size_t c = 0; c < in; c++) {
        sum += (double)x[at(st, n, first + c, h - p.pad[0], w - p.pad[1])] *
               p.weights[((o * in + c) * p.k[0] + u) * p.k[1] + v];
      }
    }
  }
  return sum;
}

static void compare(plain p, const float *x, dw_shape in, const float *y, dw_layout layout, double tolerance) {
  dw_shape out = plain_shape(p, in);
  dw_strides x_strides = contiguous(in, layout), y_strides = contiguous(out, layout);
  for (size_t n = 0; n < out.n; n++)
    for (size_t c = 0; c < out.c; c++)
      for (size_t h = 0; h < out.h; h++)
        for (size_t w = 0; w < out.w; w++) {
          double expected = plain_at(p, x, in, x_strides, n, c, h, w);
          CHECK(fabs(y[at(y_strides, n, c, h, w)] - expected) <= tolerance);
        }
}

static dw_descriptor descriptor(dw_operation operation, plain p, dw_layout layout) {
  dw_descriptor d;
  OK(dw_descriptor_init(&d, sizeof d, operation, p.in, p.out));
  d.layout = layout;
  if (operation != DW_OPERATION_POINTWISE) {
    for (int i = 0; i < 2; i++) {
      d.kernel_size[i] = p.k[i];
      d.stride[i] = p.stride[i];
      d.dilation[i] = p.dilation[i];
    }
    d.padding.kind = DW_PADDING_KIND_EXPLICIT;
    d.padding.top = d.padding.bottom = p.pad[0];
    d.padding.left = d.padding.right = p.pad[1];
  }
  if (operation == DW_OPERATION_DEPTHWISE) d.channel_multiplier = p.out / p.in;
  if (operation == DW_OPERATION_ANY) d.groups = p.groups;
  d.weights = array(p.weights, p.out * (p.in / p.groups) * p.k[0] * p.k[1]);
  if (p.bias != NULL) d.bias = array(p.bias, p.out);
  return d;
}

static void operations(void) {
  const plain cases[] = {
      {5, 10, 5, {3, 3}, {1, 1}, {1, 1}, {1, 1}, NULL, NULL},
      {16, 16, 16, {5, 3}, {2, 1}, {1, 2}, {2, 2}, NULL, NULL},
      {7, 9, 1, {1, 1}, {1, 1}, {1, 1}, {0, 0}, NULL, NULL},
      {3, 8, 1, {3, 3}, {2, 2}, {1, 1}, {1, 1}, NULL, NULL},
  };
  const dw_operation kinds[] = {DW_OPERATION_DEPTHWISE, DW_OPERATION_DEPTHWISE, DW_OPERATION_POINTWISE,
                                DW_OPERATION_STANDARD};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    plain p = cases[i];
    float *weights = numbers(p.out * (p.in / p.groups) * p.k[0] * p.k[1]), *bias = numbers(p.out);
    dw_shape in = shape(2, p.in, 9, 11), out = plain_shape(p, in), said;
    float *x = numbers(volume(in)), *y = memory(volume(out) * sizeof(float)), *again = memory(volume(out) * sizeof(float));
    p.weights = weights;
    for (int with_bias = 0; with_bias < 2; with_bias++)
      for (dw_layout layout = DW_LAYOUT_NCHW; layout <= DW_LAYOUT_NHWC; layout++) {
        dw_plan *plan, *any, *clone;
        p.bias = with_bias ? bias : NULL;
        dw_descriptor d = descriptor(kinds[i], p, layout);
        OK(dw_plan_new(&d, &plan));
        OK(dw_plan_output_shape(plan, in, &said));
        CHECK(memcmp(&said, &out, sizeof said) == 0);
        dw_tensor input = tensor(x, volume(in), in, layout);
        dw_tensor_mut output = tensor_mut(y, volume(out), out, layout);
        OK(dw_plan_run(plan, &input, &output, NULL));
        compare(p, x, in, y, layout, 1e-5);

        /* The same by its groups, and by another handle once the first is freed. */
        d = descriptor(DW_OPERATION_ANY, p, layout);
        OK(dw_plan_new(&d, &any));
        OK(dw_plan_clone(any, &clone));
        dw_plan_free(any);
        output = tensor_mut(again, volume(out), out, layout);
        OK(dw_plan_run(clone, &input, &output, NULL));
        CHECK(memcmp(y, again, volume(out) * sizeof(float)) == 0);
        dw_plan_free(clone);
        dw_plan_free(plan);
      }
    free(again);
    free(y);
    free(x);
    free(bias);
    free(weights);
  }
}

/* Separable: two plain ones, with activations and a residual; fused and in two passes. And TFLite's order, and a batch norm. */
static void separable(void) {
  const size_t in = 6, multiplier = 2, mid = in * multiplier, out = 5;
  float *first = numbers(mid * 9), *second = numbers(out * mid), *bias = numbers(out), *first_bias = numbers(mid);
  dw_shape x_shape = shape(1, in, 8, 7), z_shape = shape(1, mid, 8, 7), y_shape = shape(1, out, 8, 7);
  float *x = numbers(volume(x_shape)), *residual = numbers(volume(y_shape));
  float *z = memory(volume(z_shape) * sizeof(float)), *y = memory(volume(y_shape) * sizeof(float));
  float *bits = memory(volume(y_shape) * sizeof(float));
  plain dw = {in, mid, in, {3, 3}, {1, 1}, {1, 1}, {1, 1}, first, first_bias};
  plain pw = {mid, out, 1, {1, 1}, {1, 1}, {1, 1}, {0, 0}, second, bias};
  dw_strides strides = contiguous(z_shape, DW_LAYOUT_NHWC);
  for (size_t c = 0; c < mid; c++)
    for (size_t h = 0; h < 8; h++)
      for (size_t w = 0; w < 7; w++) {
        double sum = plain_at(dw, x, x_shape, contiguous(x_shape, DW_LAYOUT_NHWC), 0, c, h, w);
        z[at(strides, 0, c, h, w)] = (float)(sum < 0 ? 0 : sum > 6 ? 6 : sum);
      }
  for (dw_fusion fusion = DW_FUSION_AUTO; fusion <= DW_FUSION_TWO_PASS; fusion++) {
    dw_descriptor d;
    dw_plan *plan;
    dw_run_options options;
    OK(dw_descriptor_init(&d, sizeof d, DW_OPERATION_SEPARABLE, in, out));
    d.layout = DW_LAYOUT_NHWC;
    d.fusion = fusion;
    d.channel_multiplier = multiplier;
    d.depthwise_weights = array(first, mid * 9);
    d.depthwise_bias = array(first_bias, mid);
    d.depthwise_activation.kind = DW_ACTIVATION_KIND_RELU6;
    d.weights = array(second, out * mid);
    d.bias = array(bias, out);
    d.activation.kind = DW_ACTIVATION_KIND_CLAMP;
    d.activation.alpha = -0.5f;
    d.activation.beta = 1.5f;
    OK(dw_plan_new(&d, &plan));
    dw_tensor input = tensor(x, volume(x_shape), x_shape, DW_LAYOUT_NHWC);
    dw_tensor added = tensor(residual, volume(y_shape), y_shape, DW_LAYOUT_NHWC);
    dw_tensor_mut output = tensor_mut(y, volume(y_shape), y_shape, DW_LAYOUT_NHWC);
    OK(dw_run_options_init(&options, sizeof options));
    options.residual = &added;
    OK(dw_plan_run(plan, &input, &output, &options));
    strides = contiguous(y_shape, DW_LAYOUT_NHWC);
    for (size_t c = 0; c < out; c++)
      for (size_t h = 0; h < 8; h++)
        for (size_t w = 0; w < 7; w++) {
          double sum = plain_at(pw, z, z_shape, contiguous(z_shape, DW_LAYOUT_NHWC), 0, c, h, w);
          sum += residual[at(strides, 0, c, h, w)];
          sum = sum < -0.5 ? -0.5 : sum > 1.5 ? 1.5 : sum;
          CHECK(fabs(y[at(strides, 0, c, h, w)] - sum) < 1e-4);
        }
    if (fusion == DW_FUSION_AUTO) memcpy(bits, y, volume(y_shape) * sizeof(float));
    CHECK(memcmp(bits, y, volume(y_shape) * sizeof(float)) == 0);
    dw_plan_free(plan);
  }

  /* One pixel: batch norm (5 * 1 - 3) / 2 * 2 + 1, in TFLite's order. */
  const float weight = 5, gamma = 2, beta = 1, mean = 3, variance = 4, pixel = 1;
  float result = 0;
  dw_batch_norm norm = {{&gamma, 1}, {&beta, 1}, {&mean, 1}, {&variance, 1}, 0};
  dw_descriptor d;
  dw_plan *plan;
  OK(dw_descriptor_init(&d, sizeof d, DW_OPERATION_POINTWISE, 1, 1));
  d.weights = array(&weight, 1);
  d.weight_order = DW_WEIGHT_ORDER_TFLITE;
  d.batch_norm = &norm;
  OK(dw_plan_new(&d, &plan));
  dw_tensor input = tensor(&pixel, 1, shape(1, 1, 1, 1), DW_LAYOUT_NCHW);
  dw_tensor_mut output = tensor_mut(&result, 1, shape(1, 1, 1, 1), DW_LAYOUT_NCHW);
  OK(dw_plan_run(plan, &input, &output, NULL));
  CHECK(result == 3.0f);
  dw_plan_free(plan);
  norm.variance.data = NULL;
  FAILS(dw_plan_new(&d, &plan), DW_STATUS_NULL_POINTER, "batch_norm.variance is NULL");
  CHECK(plan == NULL);

  free(bits);
  free(y);
  free(z);
  free(residual);
  free(x);
  free(first_bias);
  free(bias);
  free(second);
  free(first);
}

/* 16 bits: what is stored is what was computed, rounded. Every activation takes its number. */
static void elements(void) {
  plain p = {4, 4, 4, {3, 3}, {1, 1}, {1, 1}, {1, 1}, NULL, NULL};
  float *weights = numbers(4 * 9);
  dw_shape s = shape(1, 4, 5, 6);
  size_t len = volume(s);
  float *x = numbers(len), *y = memory(len * sizeof(float));
  p.weights = weights;
  for (dw_element element = DW_ELEMENT_F32; element <= DW_ELEMENT_BF16; element++) {
    size_t size = element == DW_ELEMENT_F32 ? 4 : 2;
    void *narrow_x = memory(len * size), *narrow_y = memory(len * size);
    dw_descriptor d = descriptor(DW_OPERATION_DEPTHWISE, p, DW_LAYOUT_NHWC);
    dw_plan *plan;
    dw_tensor input;
    dw_tensor_mut output;
    d.element = element;
    OK(dw_plan_new(&d, &plan));
    OK(dw_narrow(x, narrow_x, element, len));
    OK(dw_widen(narrow_x, element, x, len)); /* what it sees */
    OK(dw_tensor_init(&input, narrow_x, len, element, s, DW_LAYOUT_NHWC));
    OK(dw_tensor_mut_init(&output, narrow_y, len, element, s, DW_LAYOUT_NHWC));
    OK(dw_plan_run(plan, &input, &output, NULL));
    OK(dw_widen(narrow_y, element, y, len));
    compare(p, x, s, y, DW_LAYOUT_NHWC, element == DW_ELEMENT_F32 ? 1e-5 : element == DW_ELEMENT_F16 ? 5e-3 : 4e-2);
    output.element = (element + 1) % 3;
    FAILS(dw_plan_run(plan, &input, &output, NULL), DW_STATUS_INVALID_ARGUMENT, "the output has elements of");
    dw_plan_free(plan);
    free(narrow_y);
    free(narrow_x);
  }

  const float expected[] = {-2.0f, 0.0f, 0.0f, -1.0f, -0.5f, -0.33333334f, 0.16666667f, 0.11920292f,
                            -0.23840584f, -0.04550026f, -0.25250148f, -0.9640276f};
  for (dw_activation_kind kind = DW_ACTIVATION_KIND_NONE; kind <= DW_ACTIVATION_KIND_TANH; kind++) {
    const float one = 1, minus_two = -2;
    float result;
    dw_descriptor d;
    dw_plan *plan;
    OK(dw_descriptor_init(&d, sizeof d, DW_OPERATION_POINTWISE, 1, 1));
    d.weights = array(&one, 1);
    d.activation.kind = kind;
    d.activation.alpha = kind == DW_ACTIVATION_KIND_CLAMP ? -1.0f : 0.25f;
    d.activation.beta = 1;
    OK(dw_plan_new(&d, &plan));
    dw_tensor input = tensor(&minus_two, 1, shape(1, 1, 1, 1), DW_LAYOUT_NCHW);
    dw_tensor_mut output = tensor_mut(&result, 1, shape(1, 1, 1, 1), DW_LAYOUT_NCHW);
    OK(dw_plan_run(plan, &input, &output, NULL));
    CHECK(fabsf(result - expected[kind]) < 1e-5f);
    dw_plan_free(plan);
  }
  free(y);
  free(x);
  free(weights);
}

/* Views with gaps, parts of an output, a batch of none. */
static void views(void) {
  plain p = {3, 3, 3, {3, 3}, {1, 1}, {1, 1}, {1, 1}, NULL, NULL};
  float *weights = numbers(27);
  dw_shape s = shape(1, 3, 6, 5);
  size_t len = volume(s), wide = 6 * 5 * 8;
  float *x = numbers(len), *y = memory(len * sizeof(float)), *joined = memory(wide * sizeof(float));
  dw_plan *plan;
  p.weights = weights;
  dw_descriptor d = descriptor(DW_OPERATION_DEPTHWISE, p, DW_LAYOUT_NHWC);
  OK(dw_plan_new(&d, &plan));
  dw_tensor input = tensor(x, len, s, DW_LAYOUT_NHWC);
  dw_tensor_mut output = tensor_mut(y, len, s, DW_LAYOUT_NHWC);
  OK(dw_plan_run(plan, &input, &output, NULL));

  /* Channels 2 to 4 of 8; the others stay. */
  for (size_t i = 0; i < wide; i++) joined[i] = 77;
  output.data = joined + 2;
  output.len = wide - 2;
  output.strides.n = wide, output.strides.h = 5 * 8, output.strides.w = 8;
  OK(dw_plan_run(plan, &input, &output, NULL));
  for (size_t i = 0; i < wide; i++) {
    size_t c = i % 8;
    CHECK(joined[i] == (c >= 2 && c < 5 ? y[i / 8 * 3 + c - 2] : 77));
  }
  output.len = (5 * 5 * 8) + 4 * 8 + 3; /* up to the last element */
  OK(dw_plan_run(plan, &input, &output, NULL));
  output.len--;
  FAILS(dw_plan_run(plan, &input, &output, NULL), DW_STATUS_INVALID_ARGUMENT, "needs a slice of 235 elements, but it has 234");

  /* Rows 2 and 3 alone. */
  float rows[2 * 5 * 3];
  dw_range range = {{0, 0, 2, 0}, {1, 3, 4, 5}};
  dw_run_options options;
  OK(dw_run_options_init(&options, sizeof options));
  options.range = &range;
  dw_tensor_mut part = tensor_mut(rows, 30, shape(1, 3, 2, 5), DW_LAYOUT_NHWC);
  OK(dw_plan_run(plan, &input, &part, &options));
  CHECK(memcmp(rows, y + 30, sizeof rows) == 0);
  range.end.h = 7;
  FAILS(dw_plan_run(plan, &input, &part, &options), DW_STATUS_INVALID_ARGUMENT, "2..7");

  /* No image, no buffer. */
  dw_shape none = shape(0, 3, 6, 5);
  dw_tensor nothing = tensor(NULL, 0, none, DW_LAYOUT_NHWC);
  dw_tensor_mut nowhere = tensor_mut(NULL, 0, none, DW_LAYOUT_NHWC);
  OK(dw_plan_run(plan, &nothing, &nowhere, NULL));

  dw_plan_free(plan);
  free(joined);
  free(y);
  free(x);
  free(weights);
}

/* An executor that starts a thread for each task. */
typedef struct {
  dw_task task;
  void *argument;
  size_t index;
} call;

static void *call_task(void *given) {
  call *c = given;
  c->task(c->argument, c->index);
  return NULL;
}

static void execute(void *context, size_t tasks, dw_task task, void *argument) {
  pthread_t threads[8];
  call calls[8];
  CHECK(tasks <= 8);
  *(size_t *)context += tasks;
  for (size_t i = 0; i < tasks; i++) {
    calls[i].task = task, calls[i].argument = argument, calls[i].index = i;
    CHECK(pthread_create(&threads[i], NULL, call_task, &calls[i]) == 0);
  }
  for (size_t i = 0; i < tasks; i++) CHECK(pthread_join(threads[i], NULL) == 0);
}

/* One that leaves the last task undone. */
static void forgetful(void *context, size_t tasks, dw_task task, void *argument) {
  (void)context;
  for (size_t i = 0; i + 1 < tasks; i++) task(argument, i);
}

/* One whose run asks for the workspace that is at work. */
typedef struct {
  const dw_plan *plan;
  const dw_tensor *input;
  const dw_tensor_mut *output;
  dw_run_options options;
  dw_status status;
} within;

static void reenter(void *context, size_t tasks, dw_task task, void *argument) {
  within *w = context;
  w->status = dw_plan_run(w->plan, w->input, w->output, &w->options);
  for (size_t i = 0; i < tasks; i++) task(argument, i);
}

static void threads(void) {
  /* Enough work to be shared. */
  const size_t channels = 64;
  dw_shape s = shape(1, channels, 112, 112);
  size_t len = volume(s), bytes = len * sizeof(float), called = 0, needed, tasks_len;
  float *first = numbers(channels * 9), *second = numbers(channels * channels), *x = numbers(len);
  float *serial = memory(bytes), *y = memory(bytes), *other = memory(bytes);
  dw_plan *plan;
  dw_descriptor d;
  dw_workspace *workspace;
  dw_choice *choice;
  OK(dw_descriptor_init(&d, sizeof d, DW_OPERATION_SEPARABLE, channels, channels));
  d.layout = DW_LAYOUT_NHWC;
  d.depthwise_weights = array(first, channels * 9);
  d.weights = array(second, channels * channels);
  OK(dw_plan_new(&d, &plan));
  dw_tensor input = tensor(x, len, s, DW_LAYOUT_NHWC);
  dw_tensor_mut output = tensor_mut(serial, len, s, DW_LAYOUT_NHWC);
  OK(dw_plan_run(plan, &input, &output, NULL));
  output.data = y;

  dw_parallelism parallelism = {DW_PARALLELISM_KIND_EXECUTOR, 4, execute, &called};
  dw_run_options options;
  OK(dw_run_options_init(&options, sizeof options));
  options.parallelism = &parallelism;
  memset(y, 255, bytes);
  OK(dw_plan_run(plan, &input, &output, &options));
  CHECK(called > 1);
  CHECK(memcmp(serial, y, bytes) == 0);

  /* With a workspace and a choice of its own. */
  OK(dw_plan_workspace_len(plan, s, &parallelism, &needed));
  OK(dw_plan_prepare(plan, s, &parallelism, &choice));
  OK(dw_choice_workspace_len(choice, &tasks_len));
  CHECK(needed == tasks_len && needed > 0);
  OK(dw_workspace_new(needed, &workspace));
  options.workspace = workspace;
  options.choice = choice;
  memset(y, 255, bytes);
  OK(dw_plan_run(plan, &input, &output, &options));
  CHECK(memcmp(serial, y, bytes) == 0);
  parallelism.threads = 3;
  FAILS(dw_plan_run(plan, &input, &output, &options), DW_STATUS_INVALID_ARGUMENT, "a choice that was made for");
  options.choice = NULL;
  parallelism.threads = 4;

  parallelism.execute = forgetful;
  FAILS(dw_plan_run(plan, &input, &output, &options), DW_STATUS_INVALID_ARGUMENT, "tasks");

  dw_tensor_mut elsewhere = tensor_mut(other, len, s, DW_LAYOUT_NHWC);
  within inner = {plan, &input, &elsewhere, options, DW_STATUS_OK};
  inner.options.parallelism = NULL;
  parallelism.execute = reenter;
  parallelism.context = &inner;
  OK(dw_plan_run(plan, &input, &output, &options));
  CHECK(inner.status == DW_STATUS_BUSY);
  CHECK(strstr(dw_last_error_message(), "at work") != NULL);
  CHECK(memcmp(serial, y, bytes) == 0);
  inner.options.workspace = options.workspace = NULL; /* the thread's own, within itself */
  memset(other, 255, bytes);
  OK(dw_plan_run(plan, &input, &output, &options));
  CHECK(inner.status == DW_STATUS_OK);
  CHECK(memcmp(serial, other, bytes) == 0);

  parallelism.threads = 0;
  FAILS(dw_plan_run(plan, &input, &output, &options), DW_STATUS_INVALID_ARGUMENT, "0 threads");
  parallelism.threads = 4;
  parallelism.execute = NULL;
  FAILS(dw_plan_run(plan, &input, &output, &options), DW_STATUS_NULL_POINTER, "`execute`");
  parallelism.kind = 3;
  FAILS(dw_plan_run(plan, &input, &output, &options), DW_STATUS_INVALID_ARGUMENT, "3 is no dw_parallelism_kind: they are 0 to 2");
  parallelism.kind = DW_PARALLELISM_KIND_RAYON;
  memset(y, 255, bytes);
  OK(dw_plan_run(plan, &input, &output, &options));
  CHECK(memcmp(serial, y, bytes) == 0);

  dw_choice_free(choice);
  dw_workspace_free(workspace);
  dw_plan_free(plan);
  free(other);
  free(y);
  free(serial);
  free(x);
  free(second);
  free(first);
}

static void texts(void) {
  float weights[18] = {0};
  char text[1000], again[1000];
  size_t len, whole;
  dw_descriptor d;
  dw_plan *plan;
  dw_choice *choice, *same;
  dw_isa isa;
  dw_shape s = shape(1, 2, 6, 4);
  CHECK(DW_VERSION_MAJOR == 0 ? strncmp(dw_version(), "0.", 2) == 0 : 1);
  snprintf(text, sizeof text, "%d.%d.%d", DW_VERSION_MAJOR, DW_VERSION_MINOR, DW_VERSION_PATCH);
  CHECK(strcmp(text, dw_version()) == 0);

  OK(dw_descriptor_init(&d, sizeof d, DW_OPERATION_DEPTHWISE, 2, 2));
  d.weights = array(weights, 18);
  d.isa = DW_ISA_PORTABLE;
  OK(dw_plan_new(&d, &plan));
  OK(dw_plan_isa(plan, &isa));
  CHECK(isa == DW_ISA_PORTABLE && dw_isa_is_available(isa));
  OK(dw_plan_describe(plan, text, sizeof text, &whole));
  CHECK(strlen(text) == whole && strstr(text, "portable") != NULL);
  OK(dw_plan_describe(plan, NULL, 0, &len));
  CHECK(len == whole);
  memset(again, 'x', sizeof again);
  OK(dw_plan_describe(plan, again, 6, NULL));
  CHECK(strlen(again) == 5 && strncmp(again, text, 5) == 0 && again[6] == 'x');
  FAILS(dw_plan_describe(plan, NULL, 6, &len), DW_STATUS_NULL_POINTER, "text is NULL");

  OK(dw_plan_prepare(plan, s, NULL, &choice));
  OK(dw_choice_describe(choice, text, sizeof text, NULL));
  CHECK(strstr(text, "dw_") != NULL && strstr(text, "portable") != NULL);
  OK(dw_choice_to_text(choice, text, sizeof text, &len));
  OK(dw_plan_choice_from_text(plan, text, &same));
  OK(dw_choice_to_text(same, again, sizeof again, &len));
  CHECK(strcmp(text, again) == 0);
  dw_choice_free(same);
  FAILS(dw_plan_choice_from_text(plan, "no choice", &same), DW_STATUS_INVALID_ARGUMENT, "no choice");
  CHECK(same == NULL);
  OK(dw_plan_tune(plan, s, NULL, 0.001, &same));
  dw_choice_free(same);
  FAILS(dw_plan_tune(plan, s, NULL, -1, &same), DW_STATUS_INVALID_ARGUMENT, "-1 seconds");
  dw_choice_free(choice);
  dw_plan_free(plan);
}

/* A thread has messages of its own. */
static void *other_thread(void *given) {
  (void)given;
  CHECK(strcmp(dw_last_error_message(), "") == 0);
  FAILS(dw_workspace_new(1, NULL), DW_STATUS_NULL_POINTER, "workspace is NULL");
  return NULL;
}

static void errors(void) {
  float weights[18] = {0}, x[48] = {0}, y[48];
  dw_descriptor d, fresh;
  dw_plan *plan, *sentinel;
  dw_shape s = shape(1, 2, 6, 4), out;
  dw_tensor input = tensor(x, 48, s, DW_LAYOUT_NCHW);
  dw_tensor_mut output = tensor_mut(y, 48, s, DW_LAYOUT_NCHW);
  dw_run_options options;
  pthread_t thread;
  size_t len;
  const dw_status null = DW_STATUS_NULL_POINTER, invalid = DW_STATUS_INVALID_ARGUMENT;

  /* NULL, everywhere; to free it does nothing. */
  dw_plan_free(NULL);
  dw_workspace_free(NULL);
  dw_choice_free(NULL);
  FAILS(dw_descriptor_init(NULL, sizeof d, DW_OPERATION_STANDARD, 1, 1), null, "descriptor is NULL");
  FAILS(dw_run_options_init(NULL, sizeof options), null, "options is NULL");
  FAILS(dw_tensor_init(NULL, x, 48, DW_ELEMENT_F32, s, DW_LAYOUT_NCHW), null, "tensor is NULL");
  FAILS(dw_tensor_mut_init(NULL, y, 48, DW_ELEMENT_F32, s, DW_LAYOUT_NCHW), null, "tensor is NULL");
  FAILS(dw_plan_new(NULL, &plan), null, "dw_descriptor is NULL");
  FAILS(dw_plan_clone(NULL, &plan), null, "plan is NULL");
  FAILS(dw_plan_output_shape(NULL, s, &out), null, "plan is NULL");
  FAILS(dw_plan_workspace_len(NULL, s, NULL, &len), null, "plan is NULL");
  FAILS(dw_plan_run(NULL, &input, &output, NULL), null, "plan is NULL");
  FAILS(dw_choice_workspace_len(NULL, &len), null, "choice is NULL");
  FAILS(dw_widen(NULL, DW_ELEMENT_F16, y, 4), null, "from is NULL");
  FAILS(dw_narrow(x, NULL, DW_ELEMENT_BF16, 4), null, "to is NULL");
  CHECK(pthread_create(&thread, NULL, other_thread, NULL) == 0 && pthread_join(thread, NULL) == 0);
  CHECK(strcmp(dw_last_error_message(), "to is NULL") == 0);

  /* Descriptors. */
  FAILS(dw_descriptor_init(&d, sizeof d + 8, DW_OPERATION_DEPTHWISE, 2, 2), invalid, "bytes was given, but this library's has");
  FAILS(dw_descriptor_init(&d, sizeof d, 5, 2, 2), invalid, "5 is no dw_operation: they are 0 to 4");
  OK(dw_descriptor_init(&fresh, sizeof fresh, DW_OPERATION_DEPTHWISE, 2, 2));
  d = fresh;
  FAILS(dw_plan_new(&d, NULL), null, "plan is NULL");
  sentinel = plan = (dw_plan *)x;
  FAILS(dw_plan_new(&d, &plan), invalid, "the depthwise weights must be given");
  CHECK(plan == NULL && sentinel != NULL);
  fresh.weights = array(weights, 18);
  d = fresh, d.size = 0;
  FAILS(dw_plan_new(&d, &plan), invalid, "dw_descriptor of 0 bytes");
  d = fresh, d.weights.len = 17;
  FAILS(dw_plan_new(&d, &plan), invalid, "17 elements were given for the depthwise weights, but 18 are needed");
  d = fresh, d.weights.data = NULL;
  FAILS(dw_plan_new(&d, &plan), null, "weights is NULL");
  d = fresh, d.weights.data = (const float *)(const void *)((const char *)weights + 1);
  FAILS(dw_plan_new(&d, &plan), invalid, "aligned to 4 bytes");
  d = fresh, d.weights.len = (size_t)-1;
  FAILS(dw_plan_new(&d, &plan), invalid, "does not fit the address space");
  d = fresh, d.layout = -1;
  FAILS(dw_plan_new(&d, &plan), invalid, "-1 is no dw_layout");
  d = fresh, d.element = 6;
  FAILS(dw_plan_new(&d, &plan), invalid, "6 is no dw_element");
  d = fresh, d.element = DW_ELEMENT_U8;
  FAILS(dw_plan_new(&d, &plan), invalid, "fill in a dw_int8_descriptor");
  d = fresh, d.weight_order = 2;
  FAILS(dw_plan_new(&d, &plan), invalid, "2 is no dw_weight_order");
  d = fresh, d.isa = 6;
  FAILS(dw_plan_new(&d, &plan), invalid, "6 is no dw_isa");
  CHECK(!dw_isa_is_available(6) && dw_isa_is_available(DW_ISA_AUTO));
  for (dw_isa isa = DW_ISA_PORTABLE; isa <= DW_ISA_NEON; isa++) {
    d = fresh, d.isa = isa;
    if (dw_isa_is_available(isa)) {
      OK(dw_plan_new(&d, &plan));
      dw_plan_free(plan);
    } else {
      FAILS(dw_plan_new(&d, &plan), DW_STATUS_UNSUPPORTED, "but this CPU and target have");
    }
  }
  d = fresh, d.activation.kind = 12;
  FAILS(dw_plan_new(&d, &plan), invalid, "12 is no dw_activation_kind");
  d = fresh, d.activation.kind = DW_ACTIVATION_KIND_CLAMP, d.activation.alpha = 2;
  FAILS(dw_plan_new(&d, &plan), invalid, "cannot clamp to 2 ..= 0");
  d = fresh, d.padding.kind = 5;
  FAILS(dw_plan_new(&d, &plan), invalid, "5 is no dw_padding_kind");
  d = fresh, d.padding.top = 1;
  FAILS(dw_plan_new(&d, &plan), invalid, "`padding.kind` is not DW_PADDING_KIND_EXPLICIT");
  d = fresh, d.kernel_size[1] = 2, d.weights.len = 12;
  FAILS(dw_plan_new(&d, &plan), invalid, "set `padding.kind`");
  d = fresh, d.stride[0] = 0;
  FAILS(dw_plan_new(&d, &plan), invalid, "the stride is 0");
  d = fresh, d.out_channels = 3;
  FAILS(dw_plan_new(&d, &plan), invalid, "has not 3 output channels");
  d = fresh, d.groups = 2;
  FAILS(dw_plan_new(&d, &plan), invalid, "`groups` was set, but a depthwise convolution");
  d = fresh, d.fusion = DW_FUSION_FUSED;
  FAILS(dw_plan_new(&d, &plan), invalid, "`fusion` was set");
  d = fresh, d.depthwise_bias = array(weights, 2);
  FAILS(dw_plan_new(&d, &plan), invalid, "`depthwise_weights`");
  d = fresh, d.operation = DW_OPERATION_STANDARD, d.channel_multiplier = 2;
  FAILS(dw_plan_new(&d, &plan), invalid, "`channel_multiplier` was set, but a standard");
  d = fresh, d.operation = DW_OPERATION_POINTWISE;
  FAILS(dw_plan_new(&d, &plan), invalid, "`kernel_size`");
  OK(dw_descriptor_init(&d, sizeof d, DW_OPERATION_ANY, 8, 8));
  d.groups = 4;
  d.weights = array(x, 48);
  FAILS(dw_plan_new(&d, &plan), DW_STATUS_UNSUPPORTED, "4");
  d.groups = 3;
  FAILS(dw_plan_new(&d, &plan), invalid, "8 input and 8 output channels cannot be in 3 groups");
  FAILS(dw_workspace_new((size_t)-1 / 8, (dw_workspace **)&plan), DW_STATUS_OUT_OF_MEMORY, "no memory");

  /* Runs. */
  OK(dw_plan_new(&fresh, &plan));
  FAILS(dw_plan_clone(plan, NULL), null, "clone is NULL");
  FAILS(dw_plan_output_shape(plan, s, NULL), null, "output is NULL");
  FAILS(dw_plan_output_shape(plan, shape(1, 3, 6, 4), &out), invalid, "the input has 3 channels, but the plan was built for 2");
  FAILS(dw_plan_workspace_len(plan, s, NULL, NULL), null, "len is NULL");
  FAILS(dw_plan_run(plan, NULL, &output, NULL), null, "input is NULL");
  FAILS(dw_plan_run(plan, &input, NULL, NULL), null, "output is NULL");
  memset(&options, 0, sizeof options);
  FAILS(dw_plan_run(plan, &input, &output, &options), invalid, "dw_run_options of 0 bytes");
  FAILS(dw_run_options_init(&options, 4), invalid, "dw_run_options of 4 bytes");
  OK(dw_run_options_init(&options, sizeof options));
  options.residual = &input;
  OK(dw_plan_run(plan, &input, &output, &options));
  FAILS(dw_tensor_init(&input, x, 47, DW_ELEMENT_F32, s, DW_LAYOUT_NCHW), invalid, "has 48 elements, but the buffer has 47");
  FAILS(dw_tensor_init(&input, x, 48, DW_ELEMENT_F32, s, 2), invalid, "2 is no dw_layout");
  FAILS(dw_tensor_mut_init(&output, y, 49, DW_ELEMENT_F32, s, DW_LAYOUT_NHWC), invalid, "but the buffer has 49");
  dw_tensor wrong = input;
  wrong.data = NULL;
  FAILS(dw_plan_run(plan, &wrong, &output, NULL), null, "input is NULL");
  wrong = input, wrong.data = (const char *)x + 2;
  FAILS(dw_plan_run(plan, &wrong, &output, NULL), invalid, "aligned to 4 bytes");
  wrong = input, wrong.element = DW_ELEMENT_F16;
  FAILS(dw_plan_run(plan, &wrong, &output, NULL), invalid, "but the plan was made for f32");
  wrong = input, wrong.strides.h = (size_t)-1;
  FAILS(dw_plan_run(plan, &wrong, &output, NULL), invalid, "does not fit the address space");
  wrong = input, wrong.strides.w = 2, wrong.len = 1000;
  wrong.len = 48, wrong.shape.h = 5, wrong.shape.w = 2;
  FAILS(dw_plan_run(plan, &wrong, &output, NULL), invalid, "the output has shape");
  wrong = input, wrong.data = y;
  FAILS(dw_plan_run(plan, &wrong, &output, NULL), invalid, "the output and the input overlap");
  wrong = input, wrong.data = y;
  options.residual = &wrong;
  FAILS(dw_plan_run(plan, &input, &output, &options), invalid, "the output and the residual overlap");
  dw_tensor_mut meeting = output;
  wrong = input, wrong.data = NULL, meeting.data = NULL;
  FAILS(dw_plan_run(plan, &wrong, &meeting, NULL), null, "output is NULL");
  wrong = input, wrong.data = (char *)y - 2, wrong.element = DW_ELEMENT_F16;
  FAILS(dw_plan_run(plan, &wrong, &output, NULL), invalid, "the input has elements of");
  meeting = output, meeting.strides.h = 1;
  FAILS(dw_plan_run(plan, &input, &meeting, NULL), invalid, "two elements at the same place");
  FAILS(dw_widen(x, DW_ELEMENT_F32, x + 1, 4), invalid, "overlap");
  FAILS(dw_widen(x, 6, y, 4), invalid, "6 is no dw_element");
  FAILS(dw_widen(x, DW_ELEMENT_U8, y, 4), invalid, "which this function does not know");
  dw_plan_free(plan);
}

int main(void) {
  CHECK(strcmp(dw_last_error_message(), "") == 0);
  operations();
  separable();
  elements();
  views();
  threads();
  texts();
  errors();
  printf("C: %d checks passed\n", checks);
  return 0;
}
