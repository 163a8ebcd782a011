/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the fuzzers share. Each is one libFuzzer program: it takes bytes, makes something hostile of
 * them, hands it to the code as it is, and ends with a report where the answer can't be.
 */
#ifndef SHMBROKER_FUZZ_H
#define SHMBROKER_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* libFuzzer calls them. */
int LLVMFuzzerInitialize(int *argument_count, char ***arguments);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* Each fuzzer has its own: once, before the first input. */
void fuzz_start(void);

/* Says what was expected, with printf's words, and ends the process: libFuzzer keeps the input. */
#define EXPECT(condition, ...)                                                                     \
	do {                                                                                       \
		if (!(condition))                                                                  \
			fuzz_failed(__FILE__, __LINE__, #condition, __VA_ARGS__);                  \
	} while (0)
_Noreturn void fuzz_failed(const char *file, int line, const char *condition, const char *format,
			   ...) __attribute__((format(printf, 4, 5)));

/* The input, taken from its front. At its end there are zeros, and empty strings. */
struct bytes {
	const uint8_t *at;
	size_t left;
};
uint8_t take_byte(struct bytes *bytes);
uint64_t take_number(struct bytes *bytes, size_t size); /* of `size` bytes */
/* Its length is in front of it, in one byte or, where `most` is above 255, two. Borrowed. */
size_t take_text(struct bytes *bytes, size_t most, const uint8_t **ret);

/* How many descriptors this process has; and, for a report, what they are. */
unsigned fuzz_descriptors(void);
const char *fuzz_descriptors_text(void);
/* A directory of this process's own, on a tmpfs where there is one; removed at its end. */
const char *fuzz_directory(void);
/* Removes what is in a directory, and what is empty of its directories. */
void fuzz_empty_directory(int directory);
/* Whether it has no control bytes in it, and nothing beyond ASCII. */
bool fuzz_is_printable(const char *text);

#endif
