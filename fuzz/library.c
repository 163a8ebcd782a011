/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The library against a hostile broker: what this says is in the socket before the library asks.
 * Its calls wait for nothing, and whatever comes, with whatever descriptors, each ends with a value
 * or an errno, leaves no descriptor behind, and has sent nothing but requests.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "client/internal.h"
#include "fuzz/fuzz.h"
#include "proto/codec.h"

/* Of one input: more tells nothing new. */
#define CALLS_MAX 24
#define OBJECT_BYTES 8192

struct hostile {
	struct bytes in;
	int socket;	/* the broker's end */
	struct shmb *c; /* NULL: not connected */
	bool greeted;	/* the library's hello was seen */
	uint32_t ahead; /* replies that are in the socket already, to requests in between */
};

/* --- what the broker has to attach --- */

enum {
	THING_MEMORY,
	THING_READ_ONLY,
	THING_NULL,
	THING_DIRECTORY,
	THING_SOCKET,
	THING_PAGE,
	THINGS
};

static int things[THINGS];

/* Of the directory, as long as it is delegated. */
#define GENERATION 7

/* What somebody else who has it may have put there. */
static void make_entries(void)
{
	const struct timespec times[] = { { .tv_sec = GENERATION }, { .tv_nsec = UTIME_OMIT } };
	int directory = things[THING_DIRECTORY];
	int plain = openat(directory, "a", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	int sealed = openat(directory, "z", O_RDWR | O_CREAT | O_CLOEXEC, 0);

	EXPECT(plain >= 0 && sealed >= 0 && mkfifoat(directory, "p", 0600) == 0 &&
		       mkdirat(directory, "d", 0700) == 0 &&
		       symlinkat("/etc/passwd", directory, "l") == 0 &&
		       futimens(directory, times) == 0,
	       "%s", strerror(errno));
	close(plain);
	close(sealed);
}

/* Nothing has changed, and its owner is there. */
static int make_page(void)
{
	const struct wire_page words = { 0, 1 };
	int fd = memfd_create("page", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	EXPECT(fd >= 0 && write(fd, &words, sizeof(words)) == sizeof(words) &&
		       ftruncate(fd, WIRE_PAGE_SIZE) == 0 &&
		       fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) == 0,
	       "%s", strerror(errno));
	return fd;
}

void fuzz_start(void)
{
	char link[32];

	shmb_default_timeout_ms = 0;
	things[THING_MEMORY] = memfd_create("fuzz", MFD_CLOEXEC);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", things[THING_MEMORY]);
	things[THING_READ_ONLY] = open(link, O_RDONLY | O_CLOEXEC);
	things[THING_NULL] = open("/dev/null", O_RDWR | O_CLOEXEC);
	things[THING_DIRECTORY] = open(fuzz_directory(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	things[THING_SOCKET] = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	things[THING_PAGE] = make_page();
	for (size_t i = 0; i < THINGS; i++)
		EXPECT(things[i] >= 0, "%s", strerror(errno));
}

/* What it has opened by itself is an object; what it was given may be anything. */
static void check_object(int fd)
{
	struct stat st, thing;

	EXPECT(fstat(fd, &st) == 0, "%s", strerror(errno));
	for (size_t i = 0; i < THINGS; i++)
		if (fstat(things[i], &thing) == 0 && thing.st_ino == st.st_ino &&
		    thing.st_dev == st.st_dev)
			return;
	EXPECT(S_ISREG(st.st_mode), "what was opened is no object, of mode %o", st.st_mode);
}

/* A count that is mostly small, and sometimes all that the kernel lets be. */
static void attach(struct fdlist *ret, struct bytes *in, unsigned how)
{
	ret->count = how == 7 ? WIRE_FDS_MAX : how & 3;
	for (size_t i = 0; i < ret->count; i++)
		ret->fd[i] = things[ret->count > 3 ? i % THINGS : take_byte(in) % THINGS];
}

/* --- packets --- */

static void send_packet(const struct hostile *h, const void *packet, size_t size,
			const struct fdlist *fds)
{
	struct iovec part = { (void *)packet, size };

	/* One that has no room is one that never came. */
	packet_send(h->socket, &part, 1, fds, MSG_DONTWAIT);
}

/* Of any bytes, or nearly right. */
static void send_hello(struct hostile *h)
{
	uint8_t how = take_byte(&h->in);
	struct wire_hello hello = {
		.magic = WIRE_MAGIC,
		.version_min = WIRE_VERSION_MIN,
		.version_max = WIRE_VERSION_MAX,
		.size = sizeof(hello),
		.features = ~(uint64_t)WIRE_FEATURE_DELEGATION,
	};
	unsigned char packet[sizeof(hello) + 255];
	struct fdlist fds = { 0 };
	const uint8_t *text;
	size_t size = 0;

	if (how & 1) {
		size = take_text(&h->in, 255, &text);
		send_packet(h, text, size, NULL);
		return;
	}
	if (how & 2)
		hello.status = (int32_t)take_number(&h->in, 4);
	if (how & 4)
		hello.size = (uint16_t)take_number(&h->in, 2);
	if (how & 8)
		hello.version_min = take_byte(&h->in);
	if (how & 16)
		hello.features = UINT64_MAX;
	if (how & 32)
		attach(&fds, &h->in, how >> 6);
	memcpy(packet, &hello, sizeof(hello));
	if (how & 64) {
		size = take_text(&h->in, 255, &text);
		memcpy(packet + sizeof(hello), text, size);
	}
	send_packet(h, packet, sizeof(hello) + size, fds.count ? &fds : NULL);
}

/* A record as listings have it, with some of it wrong if the bytes say so. */
static size_t make_record(unsigned char *ret, struct bytes *in)
{
	uint8_t how = take_byte(in);
	struct wire_info info = { .mode = 0600, .name_size = 2, .pool_size = 3 };
	size_t size, used, padded;
	const uint8_t *text;

	info.size = take_number(in, 2);
	if (how & 1)
		info.name_size = take_byte(in);
	if (how & 2)
		info.pool_size = take_byte(in);
	if (how & 4)
		info.owner_size = take_byte(in);
	used = sizeof(info) + info.name_size + info.pool_size + info.owner_size;
	padded = (used + 7) / 8 * 8;
	info.record_size = (uint16_t)(how & 8 ? take_number(in, 2) : padded);
	memset(ret, 'a', padded);
	memcpy(ret, &info, sizeof(info));
	size = take_text(in, padded - sizeof(info) < 255 ? padded - sizeof(info) : 255, &text);
	memcpy(ret + sizeof(info), text, size);
	return padded;
}

static size_t make_body(unsigned char *ret, struct bytes *in, uint8_t how)
{
	unsigned char *end = ret;
	const uint8_t *text;
	size_t size;

	if (how & 1)
		for (unsigned count = take_byte(in) % 4 + 1u; count > 0; count--)
			end += make_record(end, in);
	if (how & 2)
		end = mempcpy(end, "\1\0\0\0\0\0\0\0", 8);
	if (how & 4) {
		size = take_text(in, 4096, &text);
		end = mempcpy(end, text, size);
	}
	return (size_t)(end - ret);
}

static void send_reply(struct hostile *h, uint16_t operation)
{
	static unsigned char packet[WIRE_PACKET_MAX];
	uint8_t how = take_byte(&h->in), what = take_byte(&h->in);
	struct wire_reply reply = {
		.serial = h->c->serial + 1 + h->ahead,
		.operation = operation,
		.flags = how & 1 ? WIRE_MORE : 0,
	};
	struct fdlist fds = { 0 };
	unsigned char *end;

	if (how & 2)
		reply.serial += (uint32_t)(int8_t)take_byte(&h->in);
	if (how & 4)
		reply.operation = (uint16_t)take_number(&h->in, 2);
	if (how & 8)
		reply.status = (int32_t)take_number(&h->in, how & 16 ? 4 : 1);
	attach(&fds, &h->in, how >> 5);
	reply.fd_count = (uint16_t)(what & 8 ? take_number(&h->in, 2) : fds.count);
	if (what & 16)
		reply.flags = (uint16_t)take_number(&h->in, 2);
	end = mempcpy(packet, &reply, sizeof(reply));
	for (size_t i = 0; i < (fds.count + 7) / 8 * 8; i++)
		*end++ = i < fds.count ? (uint8_t)(what & 32 ? take_byte(&h->in) : WIRE_FD_OBJECT)
				       : 0;
	end += make_body(end, &h->in, what & 7);
	if (what & 64)
		end = packet + take_number(&h->in, 2) % (size_t)(end - packet + 1);
	if (what & 128)
		end = packet + WIRE_PACKET_MAX;
	send_packet(h, packet, (size_t)(end - packet), fds.count ? &fds : NULL);
}

/* Mostly one that can be; and patterns behind it, that there is or isn't room for. */
static unsigned char *add_waypoint(unsigned char *end, struct bytes *in)
{
	uint8_t how = take_byte(in);

	if (!(how & 1))
		end = mempcpy(end, WAYPOINT_PREFIX "0123456789abcdef", WAYPOINT_SIZE - (how >> 4));
	if (how & 2) {
		size_t size = 4u * take_byte(in);

		memset(end, 'p', size);
		end += size;
	}
	return end;
}

/* The library asks for it by itself, in front of what it is asked for. */
static void send_delegation(struct hostile *h)
{
	uint8_t how = take_byte(&h->in);
	struct wire_delegate_reply reply = {
		.reply = { .serial = h->c->serial + 1, .operation = WIRE_DELEGATE, .fd_count = 1 },
		.flags = how & 3,
		.changes = how & 64,
		.generation = how & 4 ? take_byte(&h->in) : GENERATION,
	};
	unsigned char packet[sizeof(reply) + 8 + WAYPOINT_SIZE + 255 * 4 + 1100], *end;
	struct fdlist fds = { .count = 1, .fd = { things[THING_DIRECTORY] } };
	const uint8_t *text;
	size_t size = 0;

	if (how & 32)
		reply.flags |= WIRE_DELEGATE_OWN;
	if (how & 8)
		fds.fd[0] = things[take_byte(&h->in) % THINGS];
	if (how & 1)
		fds.fd[fds.count++] = things[THING_DIRECTORY];
	if (how & 2)
		fds.fd[fds.count++] = things[how & 128 ? take_byte(&h->in) % THINGS : THING_PAGE];
	reply.reply.fd_count = (uint16_t)fds.count;
	end = mempcpy(packet, &reply.reply, sizeof(reply.reply));
	end = mempcpy(end, how & 1 ? "\2\2\5\0\0\0\0\0" : "\2\5\0\0\0\0\0\0", 8);
	if (!(how & 2))
		end[how & 1 ? -6 : -7] = 0;
	end = mempcpy(end, (char *)&reply + sizeof(reply.reply),
		      sizeof(reply) - sizeof(reply.reply));
	if (how & 32)
		end = add_waypoint(end, &h->in);
	if (how & 16)
		size = take_text(&h->in, 1100, &text);
	end = size > 0 ? mempcpy(end, text, size) : end;
	send_packet(h, packet, (size_t)(end - packet), &fds);
	h->ahead = 1;
}

/* What the library has sent: a hello, then requests, and never a descriptor. */
static void check_sent(struct hostile *h)
{
	static unsigned char packet[REQUEST_BUFFER];
	struct request request;
	struct fdlist fds;
	uint16_t version;
	ssize_t size;

	for (;;) {
		fds.count = 0;
		size = packet_receive(h->socket, packet, sizeof(packet), &fds, MSG_DONTWAIT);
		if (size <= 0)
			break;
		EXPECT(fds.count == 0, "the library sends descriptors");
		if (h->greeted) {
			EXPECT(request_decode(&request, packet, (size_t)size) == 0 && request.text,
			       "no request, of %zd bytes", size);
		} else {
			EXPECT(hello_decode(&version, packet, (size_t)size) == 0, "no hello");
			h->greeted = true;
		}
	}
}

/* --- calls --- */

static const char *take_name(struct bytes *in)
{
	static const char *const names[] = { "/a",   "a",  "//b", "/", "",  "..",
					     "/a/b", "/c", "d",	  "l", "p", "z" };
	static char name[301];
	uint8_t which = take_byte(in);
	const uint8_t *text;
	size_t size;

	if (which < sizeof(names) / sizeof(*names))
		return names[which];
	size = take_text(in, 300, &text);
	memcpy(name, text, size);
	name[size] = 0;
	return name;
}

static void check_info(const struct shmb_info *info)
{
	EXPECT(memchr(info->name, 0, sizeof(info->name)) &&
		       memchr(info->pool, 0, sizeof(info->pool)) &&
		       memchr(info->owner, 0, sizeof(info->owner)),
	       "a string without an end");
	EXPECT(*info->name && !strchr(info->name, '/'), "a name that can't be: %s", info->name);
}

static int listed(const struct shmb_info *info, void *userdata)
{
	struct hostile *h = userdata;
	struct shmb_info other;

	check_info(info);
	EXPECT(shmb_stat(h->c, "/a", &other, sizeof(other)) == -EBUSY, "a call in a listing");
	return take_byte(&h->in) == 255 ? 7 : 0;
}

static int told(const char *body, size_t body_size, struct fdlist *fds, void *userdata)
{
	struct shmb_fields fields = shmb_fields_of(body, body_size);
	const char *key, *value;
	size_t key_size;
	int result;

	(void)fds;
	(void)userdata;
	while ((result = shmb_fields_next(&fields, &key, &key_size, &value)) >= 0)
		EXPECT(result == 0 || (key_size > 0 && strlen(value) < body_size), "a wrong field");
	return result == -ENODATA ? 0 : result;
}

static void check_descriptor(int fd)
{
	if (fd < 0)
		return;
	check_object(fd);
	EXPECT(fcntl(fd, F_GETFD) == FD_CLOEXEC, "descriptor %d: %s", fd, strerror(errno));
	close(fd);
}

static int open_some(struct hostile *h)
{
	static const uint64_t access[] = { O_RDONLY, O_RDWR, O_WRONLY, O_RDWR | O_CREAT | O_EXCL,
					   O_RDWR | O_CREAT };
	uint8_t how = take_byte(&h->in);
	struct shmb_how wanted = { .oflag = access[how % 5], .mode = 0600 };
	int fd;

	/* No more than this machine can be asked to reserve. */
	wanted.size = take_number(&h->in, 2);
	wanted.flags = take_byte(&h->in) & 15;
	if (how & 128)
		wanted.oflag |= take_number(&h->in, 3);
	fd = how & 64 ? shmb_open(h->c, take_name(&h->in), (int)wanted.oflag, 0600)
		      : shmb_open_how(h->c, take_name(&h->in), &wanted, sizeof(wanted));
	check_descriptor(fd);
	return fd;
}

static int make_context(struct hostile *h)
{
	char directory[1 + 128];
	size_t size = take_byte(&h->in) % 129;
	struct shmb_context how = { .app = take_name(&h->in) };
	int fd;

	directory[size] = 'x';
	fd = shmb_create_context(h->c, &how, sizeof(how), directory, size);
	EXPECT(directory[size] == 'x', "more than %zu bytes", size);
	EXPECT(fd < 0 || memchr(directory, 0, size), "a directory without an end");
	check_descriptor(fd);
	return fd;
}

static int stat_some(struct hostile *h)
{
	struct shmb_info info;
	int result = shmb_stat(h->c, take_name(&h->in), &info, sizeof(info));

	if (result == 0)
		check_info(&info);
	return result;
}

enum { OPEN, PUBLISH, UNLINK, STAT, LIST, WAIT, CONTEXT, FEATURES, TIMEOUT, POOLS, CALLS };

static const uint16_t operations[CALLS] = {
	[OPEN] = WIRE_OPEN,	[PUBLISH] = WIRE_PUBLISH,
	[UNLINK] = WIRE_UNLINK, [STAT] = WIRE_STAT,
	[LIST] = WIRE_LIST,	[WAIT] = WIRE_WAIT,
	[POOLS] = WIRE_POOLS,	[CONTEXT] = WIRE_CREATE_CONTEXT,
};

static int call(struct hostile *h, unsigned which)
{
	uint64_t features;

	switch (which) {
	case OPEN:
		return open_some(h);
	case PUBLISH:
		return shmb_publish(h->c, take_name(&h->in), take_byte(&h->in) & 3);
	case UNLINK:
		return shmb_unlink(h->c, take_name(&h->in));
	case STAT:
		return stat_some(h);
	case LIST:
		return shmb_list(h->c, take_name(&h->in), sizeof(struct shmb_info), listed, h);
	case WAIT:
		/* A millisecond at most: for what isn't looked at once. */
		return shmb_wait(h->c, take_name(&h->in), take_byte(&h->in) == 1);
	case CONTEXT:
		return make_context(h);
	case FEATURES:
		return shmb_features(h->c, &features);
	case TIMEOUT:
		return shmb_set_timeout(h->c, take_byte(&h->in) & 1 ? 0 : -2);
	default:
		return shmb_raw_call(h->c, WIRE_POOLS, NULL, 0, told, h);
	}
}

/* --- an input --- */

/* As few descriptors as there are, and `room` more; undone by the limit that it returns. */
static struct rlimit limit_descriptors(unsigned room)
{
	struct rlimit before, now;
	int lowest = fcntl(0, F_DUPFD_CLOEXEC, 3);

	EXPECT(lowest >= 0 && getrlimit(RLIMIT_NOFILE, &before) == 0, "%s", strerror(errno));
	close(lowest);
	now = before;
	now.rlim_cur = (rlim_t)lowest + room;
	EXPECT(setrlimit(RLIMIT_NOFILE, &now) == 0, "%s", strerror(errno));
	return before;
}

static void connect_to(struct hostile *h)
{
	int pair[2], error;

	EXPECT(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0, "%s",
	       strerror(errno));
	h->socket = pair[0];
	h->c = NULL;
	h->greeted = false;
	send_hello(h);
	error = shmb_connect_fd(&h->c, pair[1]);
	EXPECT((error == 0) == (h->c != NULL), "%d", error);
	EXPECT(fuzz_is_printable(shmb_reason(h->c)), "control bytes in: %s", shmb_reason(h->c));
}

static void disconnect_from(struct hostile *h)
{
	shmb_disconnect(h->c);
	fd_close(h->socket);
	h->c = NULL;
}

/* Before it asks, the broker has answered. */
static void ask(struct hostile *h)
{
	uint8_t how = take_byte(&h->in);
	unsigned which = how % CALLS;
	bool is_short = take_byte(&h->in) > 240;
	struct rlimit before;
	uint8_t count;
	int result;

	count = take_byte(&h->in);
	h->ahead = 0;
	if (count & 128)
		send_delegation(h);
	for (count %= 5; count > 0; count--)
		send_reply(h, operations[which]);
	if (how >= 250) {
		close(h->socket);
		h->socket = -EBADF;
	}
	if (is_short)
		before = limit_descriptors(how & 1);
	result = call(h, which);
	if (is_short)
		setrlimit(RLIMIT_NOFILE, &before);
	EXPECT(result >= -4095, "%d", result);
	EXPECT(fuzz_is_printable(shmb_reason(h->c)), "control bytes in: %s", shmb_reason(h->c));
	EXPECT(strlen(shmb_reason(h->c)) < SHMB_REASON_SIZE, "a reason too long");
	if (h->socket >= 0)
		check_sent(h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hostile h = { .in = { data, size } };
	unsigned before = fuzz_descriptors(), after;

	EXPECT(ftruncate(things[THING_MEMORY], 0) == 0 &&
		       ftruncate(things[THING_MEMORY], OBJECT_BYTES) == 0,
	       "%s", strerror(errno));
	make_entries();
	for (unsigned calls = 0; h.in.left > 0 && calls < CALLS_MAX; calls++) {
		if (!h.c)
			connect_to(&h);
		if (h.c)
			ask(&h);
		/* A broken connection stays so. */
		if (!h.c || h.c->error)
			disconnect_from(&h);
	}
	if (h.c)
		disconnect_from(&h);
	fuzz_empty_directory(things[THING_DIRECTORY]);
	after = fuzz_descriptors();
	EXPECT(before == after, "%u descriptors before, %u after:\n%s", before, after,
	       fuzz_descriptors_text());
	return 0;
}
