/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The wrappers of sd-bus, whose functions return -errno: see fault.h. */
#include "tests/fault_wrap.h"

#include <stdarg.h>
#include <stdint.h>
#include <systemd/sd-bus.h>

#define FAULT_WRAP_BUS(name, parameters, arguments)                                                \
	FAULT_NAMES(int, name, parameters);                                                        \
	int __wrap_##name parameters                                                               \
	{                                                                                          \
		int error = fault_due(FAULT_##name, FAULT_FROM);                                   \
                                                                                                   \
		return error ? -error : __real_##name arguments;                                   \
	}

/* One that takes as many as its types say, by its sister that takes a va_list. */
#define FAULT_WRAP_VARIADIC(name, with_list, parameters, arguments)                                \
	FAULT_NAMES(int, name, parameters);                                                        \
	int __wrap_##name parameters                                                               \
	{                                                                                          \
		int error = fault_due(FAULT_##name, FAULT_FROM);                                   \
		va_list list;                                                                      \
                                                                                                   \
		if (error)                                                                         \
			return -error;                                                             \
		va_start(list, types);                                                             \
		error = with_list arguments;                                                       \
		va_end(list);                                                                      \
		return error;                                                                      \
	}

/* --- the connection --- */

FAULT_WRAP_BUS(sd_bus_new, (sd_bus * *ret), (ret))
FAULT_WRAP_BUS(sd_bus_set_address, (sd_bus * bus, const char *address), (bus, address))
FAULT_WRAP_BUS(sd_bus_start, (sd_bus * bus), (bus))
FAULT_WRAP_BUS(sd_bus_process, (sd_bus * bus, sd_bus_message **ret), (bus, ret))
FAULT_WRAP_BUS(sd_bus_wait, (sd_bus * bus, uint64_t timeout_us), (bus, timeout_us))
FAULT_WRAP_BUS(sd_bus_get_fd, (sd_bus * bus), (bus))
FAULT_WRAP_BUS(sd_bus_get_events, (sd_bus * bus), (bus))
FAULT_WRAP_BUS(sd_bus_get_timeout, (sd_bus * bus, uint64_t *ret_us), (bus, ret_us))
FAULT_WRAP_BUS(sd_bus_send, (sd_bus * bus, sd_bus_message *message, uint64_t *ret_cookie),
	       (bus, message, ret_cookie))
FAULT_WRAP_BUS(sd_bus_reply_method_error, (sd_bus_message * call, const sd_bus_error *error_told),
	       (call, error_told))

/* --- what is to be called --- */

FAULT_WRAP_BUS(sd_bus_add_filter,
	       (sd_bus * bus, sd_bus_slot **ret, sd_bus_message_handler_t handler, void *argument),
	       (bus, ret, handler, argument))
FAULT_WRAP_BUS(sd_bus_add_object_vtable,
	       (sd_bus * bus, sd_bus_slot **ret, const char *path, const char *interface,
		const sd_bus_vtable *vtable, void *argument),
	       (bus, ret, path, interface, vtable, argument))
FAULT_WRAP_BUS(sd_bus_add_match_async,
	       (sd_bus * bus, sd_bus_slot **ret, const char *match,
		sd_bus_message_handler_t handler, sd_bus_message_handler_t installed,
		void *argument),
	       (bus, ret, match, handler, installed, argument))
FAULT_WRAP_BUS(sd_bus_match_signal_async,
	       (sd_bus * bus, sd_bus_slot **ret, const char *sender, const char *path,
		const char *interface, const char *member, sd_bus_message_handler_t handler,
		sd_bus_message_handler_t installed, void *argument),
	       (bus, ret, sender, path, interface, member, handler, installed, argument))
FAULT_WRAP_BUS(sd_bus_request_name_async,
	       (sd_bus * bus, sd_bus_slot **ret, const char *name, uint64_t flags,
		sd_bus_message_handler_t handler, void *argument),
	       (bus, ret, name, flags, handler, argument))
FAULT_WRAP_VARIADIC(sd_bus_call_method_async, sd_bus_call_method_asyncv,
		    (sd_bus * bus, sd_bus_slot **ret, const char *destination, const char *path,
		     const char *interface, const char *member, sd_bus_message_handler_t handler,
		     void *argument, const char *types, ...),
		    (bus, ret, destination, path, interface, member, handler, argument, types,
		     list))

/* --- messages that are made --- */

FAULT_WRAP_BUS(sd_bus_message_new_method_call,
	       (sd_bus * bus, sd_bus_message **ret, const char *destination, const char *path,
		const char *interface, const char *member),
	       (bus, ret, destination, path, interface, member))
FAULT_WRAP_BUS(sd_bus_message_new_method_return, (sd_bus_message * call, sd_bus_message **ret),
	       (call, ret))
FAULT_WRAP_BUS(sd_bus_message_new_signal,
	       (sd_bus * bus, sd_bus_message **ret, const char *path, const char *interface,
		const char *member),
	       (bus, ret, path, interface, member))
FAULT_WRAP_BUS(sd_bus_message_set_destination, (sd_bus_message * message, const char *name),
	       (message, name))
FAULT_WRAP_BUS(sd_bus_message_set_sender, (sd_bus_message * message, const char *name),
	       (message, name))
FAULT_WRAP_BUS(sd_bus_message_seal,
	       (sd_bus_message * message, uint64_t cookie, uint64_t timeout_us),
	       (message, cookie, timeout_us))
FAULT_WRAP_BUS(sd_bus_message_open_container,
	       (sd_bus_message * message, char type, const char *contents),
	       (message, type, contents))
FAULT_WRAP_BUS(sd_bus_message_close_container, (sd_bus_message * message), (message))
FAULT_WRAP_BUS(sd_bus_message_append_basic,
	       (sd_bus_message * message, char type, const void *value), (message, type, value))
FAULT_WRAP_VARIADIC(sd_bus_message_append, sd_bus_message_appendv,
		    (sd_bus_message * message, const char *types, ...), (message, types, list))

/* --- messages that are read --- */

FAULT_WRAP_BUS(sd_bus_message_enter_container,
	       (sd_bus_message * message, char type, const char *contents),
	       (message, type, contents))
FAULT_WRAP_BUS(sd_bus_message_exit_container, (sd_bus_message * message), (message))
FAULT_WRAP_BUS(sd_bus_message_peek_type,
	       (sd_bus_message * message, char *ret_type, const char **ret_contents),
	       (message, ret_type, ret_contents))
FAULT_WRAP_BUS(sd_bus_message_read_basic, (sd_bus_message * message, char type, void *ret),
	       (message, type, ret))
FAULT_WRAP_BUS(sd_bus_message_read_array,
	       (sd_bus_message * message, char type, const void **ret, size_t *ret_size),
	       (message, type, ret, ret_size))
FAULT_WRAP_BUS(sd_bus_message_skip, (sd_bus_message * message, const char *types), (message, types))
FAULT_WRAP_VARIADIC(sd_bus_message_read, sd_bus_message_readv,
		    (sd_bus_message * message, const char *types, ...), (message, types, list))

/* --- calls that are waited for --- */

FAULT_WRAP_VARIADIC(sd_bus_call_method, sd_bus_call_methodv,
		    (sd_bus * bus, const char *destination, const char *path, const char *interface,
		     const char *member, sd_bus_error *ret_error, sd_bus_message **ret,
		     const char *types, ...),
		    (bus, destination, path, interface, member, ret_error, ret, types, list))
FAULT_WRAP_BUS(sd_bus_get_property,
	       (sd_bus * bus, const char *destination, const char *path, const char *interface,
		const char *member, sd_bus_error *ret_error, sd_bus_message **ret,
		const char *type),
	       (bus, destination, path, interface, member, ret_error, ret, type))
FAULT_WRAP_BUS(sd_bus_get_property_trivial,
	       (sd_bus * bus, const char *destination, const char *path, const char *interface,
		const char *member, sd_bus_error *ret_error, char type, void *ret),
	       (bus, destination, path, interface, member, ret_error, type, ret))
FAULT_WRAP_BUS(sd_bus_get_property_string,
	       (sd_bus * bus, const char *destination, const char *path, const char *interface,
		const char *member, sd_bus_error *ret_error, char **ret),
	       (bus, destination, path, interface, member, ret_error, ret))
