/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The wire format between shmbroker's clients and its daemon: everything that
 * travels over the socket, in one header that needs libc alone. PROTOCOL.md
 * says the same in words, with an example of each message.
 *
 * The socket is SOCK_SEQPACKET: one packet a request, one packet a reply.
 * Numbers are in the machine's byte order, at their natural alignment, and no
 * structure has hidden padding. Strings at a packet's end are not terminated:
 * the packet's length says where they end.
 */
#ifndef SHMBROKER_PROTOCOL_H
#define SHMBROKER_PROTOCOL_H

#include <stdint.h>

#define WIRE_MAGIC 0x626d6873u /* "shmb" in a little-endian dump */

/* The wire versions that this source speaks. Each side says its range in its
 * hello; the highest that both know is spoken. */
#define WIRE_VERSION_MIN 1
#define WIRE_VERSION_MAX 1

#define WIRE_PACKET_MAX (128 * 1024) /* bytes, either direction */
#define WIRE_REQUEST_MAX 4096	     /* bytes: no request of version 1 is longer */
#define WIRE_FDS_MAX 253	     /* SCM_MAX_FD, the kernel's own limit */
#define WIRE_NAME_MAX 255	     /* bytes of a name, without a slash */
#define WIRE_APP_MAX 128	     /* bytes of an app's id */

/*
 * The first packet of either side. The broker sends its own as soon as it has
 * accepted the connection; a status other than 0 turns the client away, and the
 * text behind the structure says why. The client's goes before its first
 * request, which may follow at once. A longer hello is legal: what is unknown
 * at its end is ignored up to `size`, behind which the text begins.
 */
struct wire_hello {
	uint32_t magic;
	uint16_t version_min;
	uint16_t version_max;
	uint16_t size;	  /* of this structure, as the sender knows it */
	uint16_t fds_max; /* the most descriptors of one packet that the sender takes */
	int32_t status;	  /* from the broker: 0, or the errno; from a client: 0 */
	uint64_t features;
	uint32_t packet_max; /* the longest packet that the sender takes */
	uint32_t reserved;   /* 0 */
};

/* Features of a broker's hello: what it can promise. */
#define WIRE_FEATURE_READ_ONLY (1ull << 0)     /* what is opened read-only stays so, in all pools */
#define WIRE_FEATURE_OWNERSHIP (1ull << 1)     /* a new object belongs to its caller */
#define WIRE_FEATURE_PRIVATE_POOLS (1ull << 2) /* pools of the broker's own making */
#define WIRE_FEATURE_CONTEXTS (1ull << 3)
#define WIRE_FEATURE_TEMPORARY (1ull << 4)
#define WIRE_FEATURE_SEALED (1ull << 5)
#define WIRE_FEATURE_DELEGATION (1ull << 6) /* of this connection: DELEGATE is worth asking */

enum wire_operation {
	WIRE_OPEN = 1,
	WIRE_UNLINK = 2,
	WIRE_STAT = 3,
	WIRE_LIST = 4,
	WIRE_PUBLISH = 5,
	WIRE_CREATE_CONTEXT = 6,
	WIRE_CANCEL = 7,
	WIRE_POOLS = 8,
	WIRE_STATUS = 9,
	WIRE_EXPLAIN = 10,
	WIRE_RELOAD = 11,
	WIRE_DROP = 12,
	WIRE_WAIT = 13,
	WIRE_MONITOR = 14,
	WIRE_DELEGATE = 16,
	WIRE_LEND = 17,
	/* 15 is kept for an open of many names. */
};

/* Every packet of a client after its hello. */
struct wire_request {
	uint32_t serial; /* chosen by the client; its replies repeat it */
	uint16_t operation;
	uint16_t reserved; /* 0 */
};

/*
 * Every packet of the broker after its hello. Behind it stand fd_count bytes,
 * each the kind of the descriptor at its place in SCM_RIGHTS, padded with zero
 * bytes to a multiple of 8; then the body of the operation, or, with a status
 * other than 0, a text for a person.
 */
struct wire_reply {
	uint32_t serial;
	uint16_t operation;
	uint16_t flags; /* WIRE_MORE */
	int32_t status; /* 0, or an errno of the machine */
	uint16_t fd_count;
	uint16_t reserved; /* 0 */
};

#define WIRE_MORE (1u << 0) /* another reply to this serial follows */

enum wire_fd_kind {
	WIRE_FD_OBJECT = 1,
	WIRE_FD_DIRECTORY = 2,
	WIRE_FD_MOUNT = 3,
	WIRE_FD_HOLD = 4,
	WIRE_FD_PAGE = 5,
};

/* OPEN: access and creation; a name follows. */
#define WIRE_READ (1u << 0)
#define WIRE_WRITE (1u << 1)
#define WIRE_CREATE (1u << 2)
#define WIRE_EXCLUSIVE (1u << 3)
#define WIRE_TRUNCATE (1u << 4)
#define WIRE_APPEND (1u << 5)
#define WIRE_OPEN_FLAGS 0x3fu

/* OPEN: options. Unknown bits are EINVAL. */
#define WIRE_TEMPORARY (1ull << 0)
#define WIRE_UNPUBLISHED (1ull << 1)
/* Bit 2 is the library's own. */
#define WIRE_SEALED (1ull << 3) /* with WIRE_UNPUBLISHED */
#define WIRE_OPTIONS (WIRE_TEMPORARY | WIRE_UNPUBLISHED | WIRE_SEALED)

struct wire_open {
	struct wire_request request;
	uint32_t flags; /* WIRE_READ... */
	uint32_t mode;	/* of a new object: 0 to 0777, the umask taken off */
	uint64_t size;	/* bytes of a new object; 0: none */
	uint64_t options;
	/* name */
};

struct wire_open_reply { /* with one descriptor, WIRE_FD_OBJECT */
	struct wire_reply reply;
	uint32_t flags; /* WIRE_CREATED */
	uint32_t reserved;
};

#define WIRE_CREATED (1u << 0) /* the object is new: this request made it */

struct wire_name { /* UNLINK, STAT: a name; LIST: a pattern; DROP: a pool's name */
	struct wire_request request;
	/* name */
};

#define WIRE_REPLACE (1ull << 0)
#define WIRE_DISCARD (1ull << 1) /* not to be published after all: it goes */

struct wire_publish {
	struct wire_request request;
	uint64_t flags; /* WIRE_REPLACE */
			/* name */
};

struct wire_create_context { /* reply: one descriptor, WIRE_FD_HOLD; the directory's path */
	struct wire_request request;
	uint64_t flags; /* 0 */
			/* app */
};

struct wire_lend { /* through a context; reply: one descriptor, WIRE_FD_MOUNT */
	struct wire_request request;
	uint64_t flags; /* 0 */
};

struct wire_delegate { /* reply: one or two descriptors, WIRE_FD_DIRECTORY; WIRE_FD_PAGE */
	struct wire_request request;
	uint64_t flags; /* 0 */
};

struct wire_delegate_reply {
	struct wire_reply reply;
	uint32_t flags;	     /* WIRE_DELEGATE_... */
	uint32_t changes;    /* the page's, as long as nobody need look at the directory */
	uint64_t generation; /* the directory's st_atim.tv_sec as long as it is delegated so */
	/* with WIRE_DELEGATE_OWN the name of its waypoint (waypoint.h), ended by a NUL */
	/* patterns of names that are not, each ended by a NUL */
};

#define WIRE_DELEGATE_WRITE (1u << 0) /* for writing too, by the second descriptor */
#define WIRE_DELEGATE_PAGE (1u << 1)  /* with a page, by the last descriptor */
#define WIRE_DELEGATE_OWN (1u << 2)   /* nobody but the caller and his like ever had a part in it */

/* What that begins with. A whole page of 4096 bytes may be mapped. */
struct wire_page {
	uint32_t changes; /* counts what may end a delegation */
	uint32_t owner;	  /* 0, or with WIRE_OWNER_DIED: the broker has ended */
};

#define WIRE_PAGE_SIZE 4096
#define WIRE_OWNER_DIED (1u << 30) /* FUTEX_OWNER_DIED of set_robust_list(2) */

struct wire_cancel { /* reply: none to the cancel; ECANCELED to what was cancelled */
	struct wire_request request;
	uint32_t cancelled_serial;
	uint32_t reserved; /* 0 */
};

/* STAT's reply has one, LIST's replies any number, each padded to a multiple of 8. */
struct wire_info {
	uint64_t size;	    /* bytes */
	uint64_t allocated; /* bytes of memory in use */
	uint64_t ino;
	uint64_t created_ns; /* since 1970; 0: unknown */
	uint32_t uid, gid;
	uint32_t mode;	      /* permission bits */
	uint32_t flags;	      /* WIRE_INFO_... */
	int32_t creator_pid;  /* of a temporary name; else 0 */
	uint16_t record_size; /* of this record, the strings and the padding included */
	uint8_t name_size, pool_size;
	uint8_t owner_size;
	uint8_t reserved[7];
	/* name, pool, owner: not terminated */
};

#define WIRE_INFO_TEMPORARY (1u << 0)
#define WIRE_INFO_NOT_AN_OBJECT                                                                    \
	(1u << 1) /* a directory, FIFO, link …: open refuses it, unlink removes it */
#define WIRE_INFO_SEALED (1u << 2)

/*
 * POOLS, STATUS, EXPLAIN and RELOAD reply with fields: strings of the form
 * key=value, each ended by a NUL byte, and a further NUL byte behind each
 * record. EXPLAIN's request carries fields too: name, wanted, and as whom.
 */
struct wire_fields {
	struct wire_request request;
	/* fields */
};

#endif
