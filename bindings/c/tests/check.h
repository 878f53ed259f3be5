/* What the programs in C have in common: checks, memory, and where elements lie. */

#include <depthwise.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int checks = 0;

#define CHECK(condition)                                                                        \
  do {                                                                                          \
    checks++;                                                                                   \
    if (!(condition)) {                                                                         \
      fprintf(stderr, "%s:%d: %s\n  the last message: %s\n", __FILE__, __LINE__, #condition,    \
              dw_last_error_message());                                                         \
      exit(1);                                                                                  \
    }                                                                                           \
  } while (0)

#define OK(call) CHECK((call) == DW_STATUS_OK)

/* Fails with that status, and a message that holds these words. */
#define FAILS(call, status, words)                           \
  do {                                                       \
    CHECK((call) == (status));                               \
    CHECK(strstr(dw_last_error_message(), words) != NULL);   \
  } while (0)

static void *memory(size_t bytes) {
  void *place = malloc(bytes > 0 ? bytes : 1);
  CHECK(place != NULL);
  return place;
}

static dw_shape shape(size_t n, size_t c, size_t h, size_t w) {
  dw_shape shape = {n, c, h, w};
  return shape;
}

static size_t volume(dw_shape shape) { return shape.n * shape.c * shape.h * shape.w; }

static dw_strides contiguous(dw_shape s, dw_layout layout) {
  dw_strides nchw = {s.c * s.h * s.w, s.h * s.w, s.w, 1};
  dw_strides nhwc = {s.h * s.w * s.c, 1, s.w * s.c, s.c};
  return layout == DW_LAYOUT_NHWC ? nhwc : nchw;
}

static size_t at(dw_strides s, size_t n, size_t c, size_t h, size_t w) { return n * s.n + c * s.c + h * s.h + w * s.w; }
