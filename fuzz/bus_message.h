/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Calls of the broker's on D-Bus, made of bytes: with the arguments that it has, or with any. */
#ifndef SHMBROKER_FUZZ_BUS_MESSAGE_H
#define SHMBROKER_FUZZ_BUS_MESSAGE_H

#include <systemd/sd-bus.h>

#include "fuzz/fuzz.h"

/* A method call to `destination`, without a sender; NULL: the bytes are none that can be sent. */
sd_bus_message *bus_message_make(sd_bus *bus, const char *destination, struct bytes *in);

#endif
