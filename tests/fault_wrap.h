/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How a wrapper is written: for fault_wrap.c, fault_wrap_other.c and fault_wrap_bus.c. */
#ifndef SHMBROKER_TESTS_FAULT_WRAP_H
#define SHMBROKER_TESTS_FAULT_WRAP_H

#include <errno.h>

#include "tests/fault.h"

#define FAULT_FROM __builtin_return_address(0)

/* As declared, but that the linker knows both. */
#define FAULT_NAMES(type, name, parameters)                                                        \
	type __real_##name parameters;                                                             \
	type __wrap_##name parameters

/* One that returns `failed`, and says in errno why. */
#define FAULT_WRAP(type, name, parameters, arguments, failed)                                      \
	FAULT_NAMES(type, name, parameters);                                                       \
	type __wrap_##name parameters                                                              \
	{                                                                                          \
		int error = fault_due(FAULT_##name, FAULT_FROM);                                   \
                                                                                                   \
		if (error) {                                                                       \
			errno = error;                                                             \
			return failed;                                                             \
		}                                                                                  \
		return __real_##name arguments;                                                    \
	}
#define FAULT_WRAP_INT(name, parameters, arguments) FAULT_WRAP(int, name, parameters, arguments, -1)
#define FAULT_WRAP_SIZE(name, parameters, arguments)                                               \
	FAULT_WRAP(ssize_t, name, parameters, arguments, -1)

/* One that returns what is wrong. */
#define FAULT_WRAP_ERROR(name, parameters, arguments)                                              \
	FAULT_NAMES(int, name, parameters);                                                        \
	int __wrap_##name parameters                                                               \
	{                                                                                          \
		int error = fault_due(FAULT_##name, FAULT_FROM);                                   \
                                                                                                   \
		return error ? error : __real_##name arguments;                                    \
	}

#endif
