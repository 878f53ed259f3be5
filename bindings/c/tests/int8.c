/* Plans of 8 bits in C99: every operation, type and rule against plain loops, bit for bit, and each error. */

#include "check.h"

#include <math.h>
#include <stdint.h>

static uint32_t random_bits(void) {
  static uint32_t state = 1;
  state = state * 1664525u + 1013904223u;
  return state >> 8;
}

static int32_t between(int32_t low, int32_t high) { return low + (int32_t)(random_bits() % (uint32_t)(high - low + 1)); }

static int32_t least(dw_element element) { return element == DW_ELEMENT_U8 ? 0 : -128; }

static int32_t limited(int64_t x, int64_t low, int64_t high) { return (int32_t)(x < low ? low : x > high ? high : x); }

/* Whole numbers of that type, at random. */
static int32_t *wholes(size_t len, dw_element element) {
  int32_t *array = memory(len * sizeof *array);
  for (size_t i = 0; i < len; i++) array[i] = between(least(element), least(element) + 255);
  return array;
}

/* The same as elements of the type. */
static void *packed(const int32_t *array, size_t len) {
  uint8_t *bytes = memory(len);
  for (size_t i = 0; i < len; i++) bytes[i] = (uint8_t)(array[i] & 255);
  return bytes;
}

static int32_t element_at(const void *data, dw_element element, size_t i) {
  if (element == DW_ELEMENT_U8) return ((const uint8_t *)data)[i];
  if (element == DW_ELEMENT_I8) return ((const int8_t *)data)[i];
  return ((const int32_t *)data)[i];
}

/* TensorFlow Lite's reference: a factor is q / 2^31 * 2^shift. */
static int32_t tflite(int32_t sum, double factor) {
  int shift;
  int64_t q = (int64_t)round(frexp(factor, &shift) * 2147483648.0);
  if (q == INT64_C(1) << 31) q /= 2, shift++;
  CHECK(shift > -31 && shift < 31);
  int left = shift > 0 ? shift : 0, right = shift > 0 ? 0 : -shift;
  int64_t product = (int64_t)sum * (INT64_C(1) << left) * q;
  /* The upper half of twice the product, rounded; then a division by a power of two, halves away from zero. */
  int32_t high = (int32_t)((product + (product >= 0 ? 1 << 30 : 1 - (1 << 30))) / (INT64_C(1) << 31));
  int32_t mask = (int32_t)((INT64_C(1) << right) - 1), rest = high & mask;
  int32_t threshold = (mask >> 1) + (high < 0 ? 1 : 0);
  /* What >> does to a negative number is the compiler's choice in C. */
  int32_t down = (int32_t)((high - rest) / (INT64_C(1) << right));
  return down + (rest > threshold ? 1 : 0);
}

static int32_t requantized(int32_t sum, float from, float weight, dw_quantized to, dw_rounding rounding, dw_clamp clamp) {
  int64_t rounded;
  if (rounding == DW_ROUNDING_NEAREST_EVEN) {
    float factor = from * weight / to.scale, product = (float)sum * factor;
    rounded = (int64_t)rintf(product);
  } else {
    double product = rounding == DW_ROUNDING_TFLITE ? (double)from * (double)weight : (double)(from * weight);
    rounded = tflite(sum, product / (double)to.scale);
  }
  int32_t in_type = limited(rounded + to.zero_point, least(to.element), least(to.element) + 255);
  return limited(in_type, clamp.low, clamp.high);
}

/* A convolution on all channels of `depth` at a time. */
typedef struct {
  size_t in, out, depth, k, stride, dilation, pad;
  int32_t *weights, *bias;
  float *scales;
  size_t scales_len;
  dw_element element;
  int32_t zero_point;
  void *bytes;
} plain;

static plain stage(size_t in, size_t out, size_t depth, size_t k, dw_element element, size_t scales_len, float factor) {
  plain p = {in, out, depth, k, 1, 1, 0, NULL, NULL, NULL, scales_len, element, 0, NULL};
  size_t len = out * depth * k * k;
  p.weights = wholes(len, element);
  p.bytes = packed(p.weights, len);
  p.zero_point = element == DW_ELEMENT_U8 ? 121 : 0;
  p.bias = memory(out * sizeof *p.bias);
  for (size_t i = 0; i < out; i++) p.bias[i] = between(-20000, 20000);
  p.scales = memory(scales_len * sizeof *p.scales);
  for (size_t i = 0; i < scales_len; i++) p.scales[i] = factor * (1.0f + (float)(random_bits() % 1000) / 1000.0f);
  return p;
}

static void release(plain p) {
  free(p.weights);
  free(p.bias);
  free(p.scales);
  free(p.bytes);
}

static dw_int8_weights weights_of(plain p) {
  dw_int8_weights w = {p.bytes, p.out * p.depth * p.k * p.k, p.element, p.zero_point, {p.scales, p.scales_len}};
  return w;
}

static dw_shape outputs_of(plain p, dw_shape s) {
  size_t reach = (p.k - 1) * p.dilation + 1;
  return shape(s.n, p.out, (s.h + 2 * p.pad - reach) / p.stride + 1, (s.w + 2 * p.pad - reach) / p.stride + 1);
}

/* All outputs of a stage, in NCHW. */
static int32_t *run_plain(plain p, const int32_t *x, dw_shape s, dw_quantized from, dw_quantized to, dw_rounding rounding,
                          dw_clamp clamp) {
  dw_shape o = outputs_of(p, s);
  dw_strides xs = contiguous(s, DW_LAYOUT_NCHW), ys = contiguous(o, DW_LAYOUT_NCHW);
  int32_t *y = memory(volume(o) * sizeof *y);
  size_t groups = p.in / p.depth;
  for (size_t n = 0; n < o.n; n++)
    for (size_t c = 0; c < o.c; c++)
      for (size_t i = 0; i < o.h; i++)
        for (size_t j = 0; j < o.w; j++) {
          int32_t sum = p.bias[c];
          for (size_t d = 0; d < p.depth; d++)
            for (size_t u = 0; u < p.k; u++)
              for (size_t v = 0; v < p.k; v++) {
                size_t h = i * p.stride + u * p.dilation, w = j * p.stride + v * p.dilation;
                if (h < p.pad || w < p.pad || h - p.pad >= s.h || w - p.pad >= s.w) continue;
                size_t channel = c / (p.out / groups) * p.depth + d;
                sum += (x[at(xs, n, channel, h - p.pad, w - p.pad)] - from.zero_point) *
                       (p.weights[((c * p.depth + d) * p.k + u) * p.k + v] - p.zero_point);
              }
          if (to.element != DW_ELEMENT_I32) {
            sum = requantized(sum, from.scale, p.scales[p.scales_len == 1 ? 0 : c], to, rounding, clamp);
          }
          y[at(ys, n, c, i, j)] = sum;
        }
  return y;
}

static dw_quantized quantized(dw_element element, float scale, int32_t zero_point) {
  dw_quantized q = {element, scale, zero_point};
  return q;
}

/* Runs a plan on `x`, in NCHW, in both layouts and on several threads, and compares all outputs with `expected`. */
static void compare(dw_int8_descriptor d, const int32_t *x, dw_shape in, const int32_t *expected, dw_shape out) {
  size_t size = d.output.element == DW_ELEMENT_I32 ? 4 : 1;
  void *bytes = memory(volume(in)), *y = memory(volume(out) * size);
  const dw_parallelism rayon = {DW_PARALLELISM_KIND_RAYON, 0, NULL, NULL};
  for (dw_layout layout = DW_LAYOUT_NCHW; layout <= DW_LAYOUT_NHWC; layout++) {
    dw_strides xs = contiguous(in, layout), ys = contiguous(out, layout), plain_x = contiguous(in, DW_LAYOUT_NCHW);
    dw_strides plain_y = contiguous(out, DW_LAYOUT_NCHW);
    dw_plan *plan;
    dw_shape said;
    dw_tensor input;
    dw_tensor_mut output;
    dw_run_options options;
    for (size_t n = 0; n < in.n; n++)
      for (size_t c = 0; c < in.c; c++)
        for (size_t h = 0; h < in.h; h++)
          for (size_t w = 0; w < in.w; w++)
            ((uint8_t *)bytes)[at(xs, n, c, h, w)] = (uint8_t)(x[at(plain_x, n, c, h, w)] & 255);
    d.layout = layout;
    OK(dw_int8_plan_new(&d, &plan));
    OK(dw_plan_output_shape(plan, in, &said));
    CHECK(memcmp(&said, &out, sizeof said) == 0);
    OK(dw_tensor_init(&input, bytes, volume(in), d.input.element, in, layout));
    OK(dw_tensor_mut_init(&output, y, volume(out), d.output.element, out, layout));
    OK(dw_run_options_init(&options, sizeof options));
    for (int threads = 0; threads < 2; threads++) {
      size_t len;
      options.parallelism = threads ? &rayon : NULL;
      OK(dw_plan_workspace_len(plan, in, options.parallelism, &len));
      OK(dw_workspace_new(len, &options.workspace));
      memset(y, 0x55, volume(out) * size);
      OK(dw_plan_run(plan, &input, &output, &options));
      dw_workspace_free(options.workspace);
      for (size_t n = 0; n < out.n; n++)
        for (size_t c = 0; c < out.c; c++)
          for (size_t h = 0; h < out.h; h++)
            for (size_t w = 0; w < out.w; w++)
              CHECK(element_at(y, d.output.element, at(ys, n, c, h, w)) == expected[at(plain_y, n, c, h, w)]);
    }
    dw_plan_free(plan);
  }
  free(y);
  free(bytes);
}

static void operations(void) {
  const struct {
    dw_operation operation;
    size_t in, out, depth, k, stride, dilation, pad;
  } cases[] = {
      {DW_OPERATION_DEPTHWISE, 67, 67, 1, 3, 1, 1, 1}, {DW_OPERATION_DEPTHWISE, 19, 38, 1, 3, 2, 1, 0},
      {DW_OPERATION_DEPTHWISE, 8, 8, 1, 5, 1, 2, 3},   {DW_OPERATION_POINTWISE, 70, 33, 70, 1, 1, 1, 0},
      {DW_OPERATION_STANDARD, 3, 17, 3, 3, 2, 1, 1},
  };
  const dw_element types[][2] = {{DW_ELEMENT_U8, DW_ELEMENT_U8}, {DW_ELEMENT_I8, DW_ELEMENT_I8},
                                 {DW_ELEMENT_U8, DW_ELEMENT_I8}, {DW_ELEMENT_I8, DW_ELEMENT_U8},
                                 {DW_ELEMENT_U8, DW_ELEMENT_I32}, {DW_ELEMENT_I8, DW_ELEMENT_I32}};
  const dw_clamp all = {INT32_MIN, INT32_MAX};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++)
      for (int weights = 0; weights < 3; weights++)
        for (dw_rounding rounding = DW_ROUNDING_NEAREST_EVEN; rounding <= DW_ROUNDING_TFLITE_LEGACY; rounding++) {
          dw_element element = weights == 2 ? DW_ELEMENT_U8 : DW_ELEMENT_I8;
          size_t scales = weights == 0 ? cases[i].out : 1;
          float factor = 0.02f / sqrtf((float)(cases[i].depth * cases[i].k * cases[i].k));
          plain p = stage(cases[i].in, cases[i].out, cases[i].depth, cases[i].k, element, scales, factor);
          p.stride = cases[i].stride, p.dilation = cases[i].dilation, p.pad = cases[i].pad;
          dw_quantized from = quantized(types[t][0], 0.05f, least(types[t][0]) + 130);
          dw_quantized to = quantized(types[t][1], 0.1f, least(types[t][1]) + 100);
          if (to.element == DW_ELEMENT_I32) to = quantized(DW_ELEMENT_I32, 0, 0);
          dw_shape in = shape(2, p.in, 9, 11), out = outputs_of(p, in);
          int32_t *x = wholes(volume(in), from.element);
          dw_int8_descriptor d;
          OK(dw_int8_descriptor_init(&d, sizeof d, cases[i].operation, p.in, p.out));
          d.rounding = rounding, d.input = from, d.output = to;
          if (cases[i].operation != DW_OPERATION_POINTWISE) {
            d.kernel_size[0] = d.kernel_size[1] = p.k;
            d.stride[0] = d.stride[1] = p.stride;
            d.dilation[0] = d.dilation[1] = p.dilation;
            d.padding.kind = DW_PADDING_KIND_EXPLICIT;
            d.padding.top = d.padding.left = d.padding.bottom = d.padding.right = p.pad;
          }
          if (cases[i].operation == DW_OPERATION_DEPTHWISE) d.channel_multiplier = p.out / p.in;
          d.weights = weights_of(p);
          d.bias.data = p.bias, d.bias.len = p.out;
          if (to.element != DW_ELEMENT_I32 && weights == 1) {
            /* ReLU, and an upper bound. */
            d.clamp.low = to.zero_point, d.clamp.high = least(to.element) + 230;
          }
          int32_t *expected = run_plain(p, x, in, from, to, rounding, d.clamp);
          compare(d, x, in, expected, out);
          if (to.element == DW_ELEMENT_I32) CHECK(memcmp(&d.clamp, &all, sizeof all) == 0);
          free(expected);
          free(x);
          release(p);
        }
}

static void separable(void) {
  for (dw_rounding rounding = DW_ROUNDING_NEAREST_EVEN; rounding <= DW_ROUNDING_TFLITE_LEGACY; rounding++) {
    plain first = stage(20, 40, 1, 3, DW_ELEMENT_I8, 40, 0.007f), second = stage(40, 9, 40, 1, DW_ELEMENT_I8, 9, 0.003f);
    first.stride = 2, first.pad = 1;
    dw_quantized from = quantized(DW_ELEMENT_I8, 0.05f, -3), mid = quantized(DW_ELEMENT_I8, 0.1f, -128);
    dw_quantized to = quantized(DW_ELEMENT_U8, 0.1f, 120);
    dw_shape in = shape(1, 20, 13, 12), between_shape = outputs_of(first, in), out = outputs_of(second, between_shape);
    int32_t *x = wholes(volume(in), from.element);
    dw_int8_descriptor d;
    OK(dw_int8_descriptor_init(&d, sizeof d, DW_OPERATION_SEPARABLE, 20, 9));
    d.channel_multiplier = 2, d.stride[0] = d.stride[1] = 2, d.rounding = rounding;
    d.input = from, d.between = mid, d.output = to;
    d.depthwise_weights = weights_of(first), d.weights = weights_of(second);
    d.depthwise_bias.data = first.bias, d.depthwise_bias.len = 40;
    d.bias.data = second.bias, d.bias.len = 9;
    d.depthwise_clamp.high = 90;
    int32_t *z = run_plain(first, x, in, from, mid, rounding, d.depthwise_clamp);
    int32_t *expected = run_plain(second, z, between_shape, mid, to, rounding, d.clamp);
    compare(d, x, in, expected, out);
    free(expected);
    free(z);
    free(x);
    release(first);
    release(second);
  }
}

static void errors(void) {
  const dw_status null = DW_STATUS_NULL_POINTER, invalid = DW_STATUS_INVALID_ARGUMENT;
  int8_t weights[18] = {0};
  float scales[2] = {0.5f, 0.25f};
  int32_t bias[2] = {0, 0}, sums[48];
  uint8_t x[48] = {0}, y[48];
  dw_shape s = shape(1, 2, 6, 4);
  dw_int8_descriptor fresh, d;
  dw_plan *plan;
  dw_tensor input;
  dw_tensor_mut output;
  dw_run_options options;
  dw_choice *choice;
  dw_isa isa;
  char text[200];
  FAILS(dw_int8_descriptor_init(NULL, sizeof d, DW_OPERATION_DEPTHWISE, 2, 2), null, "descriptor is NULL");
  FAILS(dw_int8_descriptor_init(&d, 8, DW_OPERATION_DEPTHWISE, 2, 2), invalid, "dw_int8_descriptor of 8 bytes");
  FAILS(dw_int8_plan_new(NULL, &plan), null, "dw_int8_descriptor is NULL");
  OK(dw_int8_descriptor_init(&fresh, sizeof fresh, DW_OPERATION_DEPTHWISE, 2, 2));
  FAILS(dw_int8_plan_new(&fresh, NULL), null, "plan is NULL");
  FAILS(dw_int8_plan_new(&fresh, &plan), invalid, "set `input`");
  fresh.input = quantized(DW_ELEMENT_U8, 0.5f, 128);
  FAILS(dw_int8_plan_new(&fresh, &plan), invalid, "set `output`");
  fresh.output = quantized(DW_ELEMENT_U8, 1, 0);
  FAILS(dw_int8_plan_new(&fresh, &plan), invalid, "the depthwise weights must be given");
  fresh.weights.data = weights, fresh.weights.len = 18;
  FAILS(dw_int8_plan_new(&fresh, &plan), null, "weights.scales is NULL");
  fresh.weights.scales.data = scales, fresh.weights.scales.len = 2;
  d = fresh, d.weights.len = 17;
  FAILS(dw_int8_plan_new(&d, &plan), invalid, "17 elements were given for the depthwise weights, but 18 are needed");
  CHECK(plan == NULL);
  d = fresh, d.weights.element = DW_ELEMENT_F32;
  FAILS(dw_int8_plan_new(&d, &plan), invalid, "they must be DW_ELEMENT_I8 or DW_ELEMENT_U8");
  d = fresh, d.weights.zero_point = 200;
  FAILS(dw_int8_plan_new(&d, &plan), invalid, "200");
  d = fresh, d.weights.scales.len = 3, d.weights.scales.data = (const float *)sums;
  memset(sums, 0, sizeof sums);
  FAILS(dw_int8_plan_new(&d, &plan), invalid, "one, or one for each of 2 output channels");
  d = fresh, d.weights.scales.len = 1, d.weights.scales.data = (const float *)sums;
  FAILS(dw_int8_plan_new(&d, &plan), invalid, "scale");
  d = fresh, d.bias.data = bias, d.bias.len = 1;
  FAILS(dw_int8_plan_new(&d, &plan), invalid, "the depthwise bias");
  d = fresh, bias[1] = INT32_MAX, weights[9] = 1, d.bias.data = bias, d.bias.len = 2;
  FAILS(dw_int8_plan_new(&d, &plan), invalid, "channel 1");
  d = fresh, d.input.scale = -1;
  FAILS(dw_int8_plan_new(&d, &plan), invalid, "-1");
  d = fresh, d.input.element = DW_ELEMENT_I32;
  FAILS(dw_int8_plan_new(&d, &plan), invalid, "the input has elements of I32");
  d = fresh, d.output.element = DW_ELEMENT_F16;
  FAILS(dw_int8_plan_new(&d, &plan), invalid, "DW_ELEMENT_I32 for sums");
  d = fresh, d.output = quantized(DW_ELEMENT_I32, 1, 0);
  FAILS(dw_int8_plan_new(&d, &plan), invalid, "leave them 0");
  d = fresh, d.output.zero_point = 256;
  FAILS(dw_int8_plan_new(&d, &plan), invalid, "256");
  d = fresh, d.clamp.low = 5, d.clamp.high = 4;
  FAILS(dw_int8_plan_new(&d, &plan), invalid, "5");
  d = fresh, d.output = quantized(DW_ELEMENT_I32, 0, 0), d.clamp.low = 0;
  FAILS(dw_int8_plan_new(&d, &plan), invalid, "a clamp of outputs of i32");
  d = fresh, d.rounding = 3;
  FAILS(dw_int8_plan_new(&d, &plan), invalid, "3 is no dw_rounding: they are 0 to 2");
  d = fresh, d.operation = DW_OPERATION_ANY;
  FAILS(dw_int8_plan_new(&d, &plan), DW_STATUS_UNSUPPORTED, "there is no DW_OPERATION_ANY of 8 bits");
  d = fresh, d.operation = DW_OPERATION_POINTWISE;
  FAILS(dw_int8_plan_new(&d, &plan), invalid, "`kernel_size`");
  d = fresh, d.operation = DW_OPERATION_SEPARABLE;
  FAILS(dw_int8_plan_new(&d, &plan), invalid, "set `between`");
  d = fresh, d.between = d.input;
  FAILS(dw_int8_plan_new(&d, &plan), invalid, "only a separable convolution has such fields");
  d = fresh, d.out_channels = 4;
  FAILS(dw_int8_plan_new(&d, &plan), invalid, "has not 4 output channels");

  OK(dw_int8_plan_new(&fresh, &plan));
  OK(dw_plan_isa(plan, &isa));
  CHECK(isa != DW_ISA_AUTO && dw_isa_is_available(isa));
  OK(dw_plan_describe(plan, text, sizeof text, NULL));
  CHECK(strstr(text, "elements from u8 to u8") != NULL);
  FAILS(dw_plan_prepare(plan, s, NULL, &choice), DW_STATUS_UNSUPPORTED, "a plan of 8 bits has no choices");
  FAILS(dw_plan_tune(plan, s, NULL, 0.01, &choice), DW_STATUS_UNSUPPORTED, "a plan of 8 bits has no choices");
  FAILS(dw_plan_choice_from_text(plan, "", &choice), DW_STATUS_UNSUPPORTED, "a plan of 8 bits has no choices");
  OK(dw_tensor_init(&input, x, 48, DW_ELEMENT_U8, s, DW_LAYOUT_NCHW));
  OK(dw_tensor_mut_init(&output, y, 48, DW_ELEMENT_U8, s, DW_LAYOUT_NCHW));
  OK(dw_plan_run(plan, &input, &output, NULL));
  OK(dw_run_options_init(&options, sizeof options));
  options.residual = &input;
  FAILS(dw_plan_run(plan, &input, &output, &options), invalid, "`residual` was set, but a plan of 8 bits takes none");
  input.element = DW_ELEMENT_I8;
  FAILS(dw_plan_run(plan, &input, &output, NULL), invalid, "the input has elements of I8, but the plan was made for u8");
  input.element = DW_ELEMENT_U8, output.element = DW_ELEMENT_I32, output.data = sums;
  FAILS(dw_plan_run(plan, &input, &output, NULL), invalid, "the output has elements of I32, but the plan was made for u8");
  output.element = DW_ELEMENT_U8, output.data = x + 4, output.len = 44;
  FAILS(dw_plan_run(plan, &input, &output, NULL), invalid, "the output and the input overlap");
  dw_plan_free(plan);
}

int main(void) {
  operations();
  separable();
  errors();
  printf("C, 8 bits: %d checks passed\n", checks);
  return 0;
}
