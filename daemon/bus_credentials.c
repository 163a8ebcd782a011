/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the bus says of a connection: the answer to GetConnectionCredentials. */
#include <errno.h>
#include <string.h>

#include "daemon/bus_private.h"

static int read_credential(sd_bus_message *message, const char *key,
			   struct peer_credentials *credentials, bool *ret_has_uid)
{
	const void *bytes;
	uint32_t number;
	size_t size;
	int rc;

	if (strcmp(key, "UnixUserID") == 0) {
		rc = sd_bus_message_read(message, "v", "u", &number);
		credentials->uid = number;
		*ret_has_uid = rc >= 0;
	} else if (strcmp(key, "ProcessID") == 0) {
		rc = sd_bus_message_read(message, "v", "u", &number);
		credentials->pid = rc < 0 ? 0 : (pid_t)number;
	} else if (strcmp(key, "ProcessFD") == 0) {
		rc = sd_bus_message_read(message, "v", "h", &credentials->pidfd);
	} else if (strcmp(key, "UnixGroupIDs") == 0 || strcmp(key, "LinuxSecurityLabel") == 0) {
		bool is_groups = *key == 'U';

		rc = sd_bus_message_enter_container(message, 'v', is_groups ? "au" : "ay");
		if (rc >= 0)
			rc = sd_bus_message_read_array(message, is_groups ? 'u' : 'y', &bytes,
						       &size);
		if (rc < 0)
			return rc;
		if (is_groups) {
			credentials->groups = bytes;
			credentials->group_count = size / sizeof(gid_t);
			credentials->has_groups = true;
		} else {
			credentials->label = bytes;
			credentials->label_size = size;
		}
		rc = sd_bus_message_exit_container(message);
	} else {
		rc = sd_bus_message_skip(message, "v");
	}
	return rc;
}

int bus_read_credentials(sd_bus_message *message, struct peer_credentials *credentials)
{
	bool has_uid = false;
	const char *key;
	int rc;

	*credentials = (struct peer_credentials){ .pidfd = -EBADF, .label = "" };
	rc = sd_bus_message_enter_container(message, 'a', "{sv}");
	while (rc >= 0 && (rc = sd_bus_message_enter_container(message, 'e', "sv")) > 0) {
		rc = sd_bus_message_read_basic(message, 's', &key);
		if (rc >= 0)
			rc = read_credential(message, key, credentials, &has_uid);
		if (rc >= 0)
			rc = sd_bus_message_exit_container(message);
	}
	if (rc < 0)
		return rc;
	return has_uid && credentials->pid > 0 ? 0 : -EACCES;
}
