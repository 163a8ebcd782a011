/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Bytes that others chose, made fit for a line of a log, a terminal or a
 * message. Shared by the daemon, the library and shmctl; needs libc alone.
 */
#ifndef SHMBROKER_ESCAPE_H
#define SHMBROKER_ESCAPE_H

#include <stddef.h>

#include "proto/prefix.h"

/*
 * Writes `length` bytes of text into buffer, each byte outside 0x20 to 0x7e, and
 * the backslash, as \xNN. What doesn't fit into `size` bytes is left out, an
 * escape whole or not at all; always ends in a NUL byte unless size is 0.
 * Returns the bytes written, without that NUL; 4 * length + 1 always fit all.
 */
size_t escape(char *buffer, size_t size, const char *text, size_t length);

#endif
