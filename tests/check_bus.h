/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the four files of the suite for D-Bus share. */
#ifndef SHMBROKER_CHECK_BUS_H
#define SHMBROKER_CHECK_BUS_H

#include <check.h>

extern const char check_bus_config[];

TCase *tcase_bus_queue(void);
void check_bus_add_semantics(TCase *test);
TCase *tcase_bus_callers(void);

#endif
