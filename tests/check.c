/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The one test program: a suite a module. CK_RUN_SUITE=name runs one alone. */
#include "tests/test.h"

#include <signal.h>
#include <stdlib.h>

int main(void)
{
	SRunner *runner = srunner_create(suite_proto());
	int failed;

	signal(SIGPIPE, SIG_IGN);
	srunner_add_suite(runner, suite_config());
	srunner_add_suite(runner, suite_policy());
	srunner_add_suite(runner, suite_peer());
	srunner_add_suite(runner, suite_creds());
	srunner_add_suite(runner, suite_place());
	srunner_add_suite(runner, suite_keeper());
	srunner_add_suite(runner, suite_library());
	srunner_add_suite(runner, suite_drop_in());
	srunner_add_suite(runner, suite_preload());
	srunner_add_suite(runner, suite_broker());
	srunner_add_suite(runner, suite_shmctl());
	srunner_add_suite(runner, suite_bus());
	srunner_add_suite(runner, suite_store());
	srunner_add_suite(runner, suite_reload());
	srunner_add_suite(runner, suite_restart());
	srunner_add_suite(runner, suite_daemon());
	srunner_add_suite(runner, suite_filter());
	srunner_add_suite(runner, suite_server());
	srunner_add_suite(runner, suite_context());
	srunner_add_suite(runner, suite_lend());
	srunner_add_suite(runner, suite_hostile());
	srunner_add_suite(runner, suite_semantics());
	srunner_add_suite(runner, suite_access());
	srunner_add_suite(runner, suite_read_only());
	srunner_add_suite(runner, suite_sealed());
	srunner_add_suite(runner, suite_delegate());
	srunner_add_suite(runner, suite_fault());
	srunner_add_suite(runner, suite_install());
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
