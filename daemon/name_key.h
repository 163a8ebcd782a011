/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the broker knows of a name is found by this: the instance's number, and the name. */
#ifndef SHMBROKER_NAME_KEY_H
#define SHMBROKER_NAME_KEY_H

#include <string.h>

#include "daemon/store.h"
#include "proto/protocol.h"

struct name_key {
	size_t size;
	char bytes[sizeof(uint32_t) + WIRE_NAME_MAX + 1]; /* NUL-terminated */
};

static inline void name_key_set(struct name_key *key, const struct instance *instance,
				const char *name)
{
	const size_t number_size = sizeof(instance->number);
	size_t size = strnlen(name, WIRE_NAME_MAX);

	memcpy(key->bytes, &instance->number, number_size);
	memcpy(key->bytes + number_size, name, size);
	key->size = number_size + size;
	key->bytes[key->size] = 0;
}

static inline const char *name_key_name(const struct name_key *key)
{
	return key->bytes + sizeof(uint32_t);
}

#endif
