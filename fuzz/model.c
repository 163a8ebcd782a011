/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What an answer may be: see model.h. */
#include "fuzz/model.h"

#include <errno.h>
#include <string.h>

#include "daemon/config.h"
#include "fuzz/fuzz.h"
#include "fuzz/in_process.h"

const char *const model_pool_names[MODEL_POOLS] = { "host", "grant", "made" };

static const struct rule_of {
	char letter;
	enum model_pool pool;
	uint32_t rights;
} rules[] = {
	{ 'h', MODEL_HOST, RIGHT_ALL },
	{ 'r', MODEL_GRANT, RIGHT_READ | RIGHT_LIST },
	{ 'c', MODEL_GRANT, RIGHT_READ | RIGHT_WRITE | RIGHT_CREATE },
	{ 'x', MODEL_GRANT, RIGHT_ALL },
	{ 't', MODEL_GRANT, RIGHT_ALL },
	{ 'l', MODEL_GRANT, RIGHT_ALL },
	{ 'g', MODEL_GRANT, RIGHT_ALL },
	{ 'm', MODEL_MADE, RIGHT_ALL },
};

enum model_pool model_pool_of(const char *name, uint32_t *ret_rights)
{
	for (size_t i = 0; i < sizeof(rules) / sizeof(*rules); i++) {
		if (*name != rules[i].letter)
			continue;
		*ret_rights = rules[i].rights;
		return rules[i].pool;
	}
	*ret_rights = 0;
	return MODEL_POOLS;
}

/* --- what there is --- */

static struct model_object *find(struct model *model, int unpublished_of, const char *name)
{
	for (size_t i = 0; i < MODEL_NAMES; i++) {
		struct model_object *object = &model->object[i];

		if (object->is_used && object->unpublished_of == unpublished_of &&
		    strcmp(object->name, name) == 0)
			return object;
	}
	return NULL;
}

struct model_object *model_find(struct model *model, const char *name)
{
	return find(model, -1, name);
}

struct model_object *model_find_unpublished(struct model *model, unsigned caller, const char *name)
{
	return find(model, (int)caller, name);
}

struct model_object *model_add(struct model *model, const char *name)
{
	for (size_t i = 0; i < MODEL_NAMES; i++) {
		struct model_object *object = &model->object[i];
		uint32_t rights;

		if (object->is_used)
			continue;
		*object = (struct model_object){
			.is_used = true,
			.is_plain = true,
			.temporary_of = -1,
			.unpublished_of = -1,
			.pool = model_pool_of(name, &rights),
		};
		strcpy(object->name, name);
		return object;
	}
	fuzz_failed(__FILE__, __LINE__, "MODEL_NAMES", "more names than an input can make");
}

bool model_is_made_temporary(const struct request *request, const char *name)
{
	return (request->options & WIRE_TEMPORARY) || *name == 't';
}

bool model_may_list(const struct model *model, unsigned caller, const struct model_object *object)
{
	uint32_t rights;

	model_pool_of(object->name, &rights);
	return model->caller[caller].is_admin || (rights & RIGHT_LIST);
}

mode_t model_mode(const struct request *request, const char *name)
{
	mode_t mode = (mode_t)request->mode;

	if (*name == 'l')
		mode &= FUZZ_MODE_MASK;
	return request->options & WIRE_SEALED ? mode & 0666 : mode;
}

bool model_name(char ret[static 256], const struct request *request)
{
	static const char reserved[] = ".shmbroker.";
	const char *text = request->text;
	size_t size = request->text_size;

	for (; size > 0 && *text == '/'; size--)
		text++;
	ret[0] = 0;
	if (size == 0 || size > 255 || memchr(text, '/', size) || memchr(text, 0, size))
		return false;
	memcpy(ret, text, size);
	ret[size] = 0;
	return strcmp(ret, ".") != 0 && strcmp(ret, "..") != 0 &&
	       strncmp(ret, reserved, sizeof(reserved) - 1) != 0;
}

/* Inodes of the private pool that may be in use: what was made there, and is held somewhere. */
static unsigned inodes(const struct model *model)
{
	unsigned count = model->held;

	for (size_t i = 0; i < MODEL_NAMES; i++)
		count += model->object[i].is_used && model->object[i].pool == MODEL_MADE;
	return count;
}

static unsigned names(const struct model *model, enum model_pool pool)
{
	unsigned count = 0;

	for (size_t i = 0; i < MODEL_NAMES; i++)
		count += model->object[i].is_used && model->object[i].pool == pool &&
			 model->object[i].unpublished_of < 0;
	return count;
}

/* --- outcomes --- */

static void also(struct expected *e, int error)
{
	EXPECT(e->count < sizeof(e->error) / sizeof(*e->error), "too many outcomes");
	e->error[e->count++] = error;
}

static void only(struct expected *e, int error)
{
	*e = (struct expected){ 0 };
	also(e, error);
}

static void success(struct expected *e)
{
	*e = (struct expected){ .may_succeed = true };
}

/* false: the name can't be. */
static bool check_name(const struct request *request, char name[static 256], struct expected *ret)
{
	if (model_name(name, request))
		return true;
	only(ret, EINVAL);
	also(ret, ENAMETOOLONG);
	return false;
}

/* false: there is no rule, or it lacks all of `any`, or one of `all`. */
static bool check_rule(struct model *model, const char *name, uint32_t all, uint32_t any,
		       struct expected *ret)
{
	uint32_t rights;
	enum model_pool pool = model_pool_of(name, &rights);

	if (pool == MODEL_POOLS || (rights & all) != all || (any && !(rights & any)))
		only(ret, EACCES);
	else if (!model->has_pool[pool])
		only(ret, EOPNOTSUPP);
	else
		return true;
	return false;
}

static bool is_legal_open(const struct request *request)
{
	uint32_t flags = request->flags;
	uint64_t options = request->options;

	if (flags >= 64 || options & ~(uint64_t)(WIRE_TEMPORARY | WIRE_UNPUBLISHED | WIRE_SEALED))
		return false;
	if (!(flags & (WIRE_READ | WIRE_WRITE)) || request->mode > 0777)
		return false;
	if ((options & WIRE_SEALED) && !(options & WIRE_UNPUBLISHED))
		return false;
	return !(options & WIRE_UNPUBLISHED) || ((flags & WIRE_CREATE) && (flags & WIRE_WRITE));
}

static uint32_t rights_for(const struct request *request)
{
	bool makes = (request->flags & WIRE_CREATE) &&
		     ((request->flags & WIRE_EXCLUSIVE) || (request->options & WIRE_UNPUBLISHED));

	return (request->flags & WIRE_READ ? RIGHT_READ : 0u) |
	       (request->flags & (WIRE_WRITE | WIRE_TRUNCATE) ? RIGHT_WRITE : 0u) |
	       (makes ? RIGHT_CREATE : 0u);
}

/* The permission bits, for a group of the owner's number. */
static bool kernel_allows(const struct model *model, unsigned caller,
			  const struct model_object *object, uint32_t flags)
{
	mode_t bits = object->uid == model->caller[caller].uid ? object->mode >> 6 : object->mode;

	return (!(flags & WIRE_READ) || (bits & 4)) &&
	       (!(flags & (WIRE_WRITE | WIRE_TRUNCATE)) || (bits & 2));
}

static void expect_make(struct model *model, const struct request *request, const char *name,
			struct expected *ret)
{
	uint32_t rights;
	enum model_pool pool = model_pool_of(name, &rights);

	success(ret);
	if (request->size_bytes > INT64_MAX ||
	    (*name == 'l' && request->size_bytes > FUZZ_MAX_SIZE))
		only(ret, EFBIG);
	else if (request->size_bytes > INT64_MAX / 2)
		also(ret, EFBIG);
	if (model->limit[pool] > 0 && request->size_bytes > model->limit[pool]) {
		ret->may_succeed = false;
		also(ret, ENOSPC);
	}
	if (pool == MODEL_MADE && names(model, pool) >= FUZZ_MADE_OBJECTS)
		only(ret, ENOSPC);
	else if (pool == MODEL_MADE && inodes(model) >= FUZZ_MADE_OBJECTS)
		also(ret, ENOSPC);
	/* Room is set aside for it, and numbers and memory are limited. */
	if (request->options & WIRE_SEALED) {
		also(ret, ENOSPC);
		also(ret, EDQUOT);
		also(ret, ENOMEM);
		if (!model->can_seal)
			only(ret, EOPNOTSUPP);
	}
}

static void expect_existing(struct model *model, unsigned caller, const struct request *request,
			    const struct model_object *object, struct expected *ret)
{
	const uint32_t flags = request->flags;
	bool is_owned = object->uid == model->caller[caller].uid;

	success(ret);
	if ((flags & WIRE_CREATE) && (flags & WIRE_EXCLUSIVE)) {
		only(ret, EEXIST);
	} else if (!object->is_plain) {
		only(ret, EINVAL);
		if (object->pool == MODEL_HOST)
			also(ret, EACCES);
	} else if (object->is_sealed && (flags & (WIRE_WRITE | WIRE_TRUNCATE))) {
		only(ret, EACCES);
	} else if (object->pool == MODEL_HOST) {
		if (!kernel_allows(model, caller, object, flags))
			only(ret, EACCES);
		else if ((flags & WIRE_CREATE) && !is_owned)
			also(ret, EACCES); /* fs.protected_regular */
	}
}

void model_expect_open(struct model *model, unsigned caller, const struct request *request,
		       struct expected *ret)
{
	const struct model_object *object;
	enum model_pool pool;
	char name[256];
	uint32_t rights;

	if (!is_legal_open(request)) {
		only(ret, EINVAL);
		return;
	}
	if (!check_name(request, name, ret) ||
	    !check_rule(model, name, rights_for(request), 0, ret))
		return;
	pool = model_pool_of(name, &rights);
	object = request->options & WIRE_UNPUBLISHED ? NULL : model_find(model, name);
	if (object && object->is_sealed) {
		expect_existing(model, caller, request, object, ret);
	} else if (*name == 'x' && !(request->options & WIRE_SEALED)) {
		only(ret, request->flags & WIRE_CREATE || object ? EACCES : ENOENT);
	} else if (!model->has_twin[pool] && !(rights & RIGHT_WRITE)) {
		only(ret, EOPNOTSUPP);
	} else if (object) {
		expect_existing(model, caller, request, object, ret);
	} else if (!(request->flags & WIRE_CREATE)) {
		only(ret, ENOENT);
	} else if (!(rights & RIGHT_CREATE)) {
		only(ret, EACCES);
	} else if ((request->options & WIRE_UNPUBLISHED) &&
		   model_find_unpublished(model, caller, name)) {
		only(ret, EEXIST);
	} else {
		expect_make(model, request, name, ret);
	}
}

/* Of a sticky directory, others' objects are only its owner's to remove. */
static bool may_remove(const struct model *model, unsigned caller,
		       const struct model_object *object)
{
	uid_t uid = model->caller[caller].uid;

	return object->pool != MODEL_HOST || object->uid == uid || model->own_uid == uid;
}

void model_expect_unlink(struct model *model, unsigned caller, const struct request *request,
			 struct expected *ret)
{
	const struct model_object *object;
	char name[256];

	success(ret);
	if (!check_name(request, name, ret)) {
		also(ret, ENOENT);
		return;
	}
	if (!check_rule(model, name, RIGHT_UNLINK, 0, ret))
		return;
	object = model_find(model, name);
	if (!object)
		only(ret, ENOENT);
	else if (!may_remove(model, caller, object))
		only(ret, EACCES);
}

void model_expect_look(struct model *model, unsigned caller, const struct request *request,
		       struct expected *ret)
{
	char name[256];

	(void)caller;
	success(ret);
	if (check_name(request, name, ret) &&
	    check_rule(model, name, 0, RIGHT_READ | RIGHT_LIST, ret) && !model_find(model, name))
		only(ret, ENOENT);
}

void model_expect_publish(struct model *model, unsigned caller, const struct request *request,
			  struct expected *ret)
{
	const bool replaces = request->options & WIRE_REPLACE;
	const struct model_object *object, *unpublished;
	char name[256];

	success(ret);
	if (request->options > WIRE_DISCARD) {
		only(ret, EINVAL);
		return;
	}
	if (request->options & WIRE_DISCARD) {
		if (!model_name(name, request) || !model_find_unpublished(model, caller, name))
			only(ret, ENOENT);
		return;
	}
	if (!check_name(request, name, ret) ||
	    !check_rule(model, name, RIGHT_CREATE | (replaces ? RIGHT_UNLINK : 0u), 0, ret))
		return;
	object = model_find(model, name);
	unpublished = model_find_unpublished(model, caller, name);
	if (!unpublished) {
		only(ret, ENOENT);
	} else if (object && !replaces) {
		only(ret, EEXIST);
	} else if (object) {
		if (!may_remove(model, caller, object))
			only(ret, EACCES);
		if (!object->is_plain)
			also(ret, EINVAL); /* a directory */
		if (object->pool == MODEL_MADE)
			also(ret, ENOSPC); /* for a moment it has two names */
	} else if (replaces && unpublished->pool == MODEL_MADE) {
		also(ret, ENOSPC);
	}
	if (!ret->may_succeed)
		return;
	if (unpublished && unpublished->is_sealed)
		also(ret, EDQUOT);
}

static void expect_context(struct model *model, unsigned caller, const struct request *request,
			   struct expected *ret)
{
	success(ret);
	if (request->options) {
		only(ret, EINVAL);
	} else if (model->caller[caller].is_sandboxed) {
		only(ret, EACCES);
		also(ret, EINVAL);
	} else if (!model->can_make_contexts) {
		only(ret, EOPNOTSUPP);
		also(ret, EINVAL);
	} else {
		also(ret, EINVAL);
		also(ret, EDQUOT);
	}
}

void model_expect_other(struct model *model, unsigned caller, const struct request *request,
			struct expected *ret)
{
	const bool is_admin = model->caller[caller].is_admin;

	success(ret);
	switch (request->operation) {
	case WIRE_CREATE_CONTEXT:
		expect_context(model, caller, request, ret);
		break;
	case WIRE_LEND:
		/* None of them came through a context's socket. */
		only(ret, request->options || request->text_size > 0 ? EINVAL : EACCES);
		break;
	case WIRE_DELEGATE:
		/* No rule does. */
		only(ret, request->options || request->text_size > 0 ? EINVAL : EOPNOTSUPP);
		break;
	case WIRE_DROP:
		if (!is_admin)
			only(ret, EACCES);
		else if (strcmp(request->text, "made") == 0)
			break;
		else if (strcmp(request->text, "host") == 0 || strcmp(request->text, "grant") == 0)
			only(ret, EOPNOTSUPP);
		else
			only(ret, ENOENT);
		break;
	case WIRE_RELOAD:
	case WIRE_STATUS:
		if (!is_admin)
			only(ret, EACCES);
		break;
	case WIRE_LIST:
	case WIRE_MONITOR:
		also(ret, EINVAL);
		also(ret, ENAMETOOLONG);
		also(ret, EDQUOT);
		break;
	case WIRE_EXPLAIN:
		also(ret, EINVAL);
		also(ret, EACCES);
		also(ret, ENOENT);
		also(ret, ESRCH);
		also(ret, ENAMETOOLONG);
		break;
	case WIRE_POOLS:
	case WIRE_CANCEL:
		break;
	default:
		only(ret, EOPNOTSUPP);
	}
}
