/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The second half of the configuration's suite. */
#ifndef SHMBROKER_CHECK_CONFIG_H
#define SHMBROKER_CHECK_CONFIG_H

#include <check.h>

void add_config_file_tests(TCase *tcase);

#endif
