/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * shmctl(1): reads the arguments, finds the command, connects. The commands themselves are in
 * shmctl_*.c; what they take is said once, in the tables here.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "client/shmctl.h"

static const struct option_row {
	const char *name, *value, *what;
} options[OPTION_COUNT] = {
	[OPTION_USER] = { "user", NULL, "speak to the user's own broker" },
	[OPTION_SOCKET] = { "socket", "PATH", "speak to the broker at PATH" },
	[OPTION_JSON] = { "json", NULL, "write one JSON document (not cat, run)" },
	[OPTION_BYTES] = { "bytes", NULL, "sizes in bytes" },
	[OPTION_NO_PAGER] = { "no-pager", NULL, "no pager (there is none)" },
	[OPTION_VERSION] = { "version", NULL, "say which version this is" },
	[OPTION_HELP] = { "help", NULL, "say this; after a command: about that command" },
	[OPTION_LONG] = { "long", NULL, "-l: owner, mode, sizes, pool and more" },
	[OPTION_MODE] = { "mode", "MODE", "permission bits, octal (0640); the umask is taken off" },
	[OPTION_TEMPORARY] = { "temporary", NULL, "the name goes when shmctl ends; with --hold" },
	[OPTION_RESERVE] = { "reserve", NULL, "memory for all of it, or a failure" },
	[OPTION_HOLD] = { "hold", NULL, "say the name, and stay until a signal" },
	[OPTION_CREATE] = { "create", NULL, "make the object, all at once" },
	[OPTION_REPLACE] = { "replace", NULL, "put a new object in the old one's place" },
	[OPTION_APP] = { "app", "ID", "the app: letters, digits, '.', '_', '-'" },
	[OPTION_STDIN] = { "stdin", NULL, "hold until standard input ends" },
	[OPTION_SHM] = { "shm", NULL, "the app's own pool as the command's /dev/shm" },
	[OPTION_AS] = { "as", "USER", "what that user would be allowed, a name or a number" },
	[OPTION_UNIT] = { "unit", "UNIT", "what that unit would be allowed" },
	[OPTION_PID] = { "pid", "PID", "what that process would be allowed" },
	[OPTION_TIMEOUT] = { "timeout", "TIME", "how long at most: 500ms, 5s (or 5), 2min, 1h" },
	[OPTION_CAT] = { "cat", NULL, "print each file, too" },
	[OPTION_PRELOAD] = { "preload", NULL, "its shm_open and shm_unlink ask the broker" },
};

#define GLOBAL_OPTIONS (OPTION_BIT(OPTION_LONG) - 1)

static const struct shmctl_command commands[] = {
	{ "ls", "[-l] [PATTERN]", "list the objects that you may list", "", OPTION_BIT(OPTION_LONG),
	  0, 0, 1, command_ls },
	{ "stat", "NAME...", "tell all about objects", "", 0, 0, 1, -1, command_stat },
	{ "pools", "", "list the pools that your rules lead to", "", 0, 0, 0, 0, command_pools },
	{ "create", "NAME SIZE", "make an object of zero bytes",
	  "SIZE is a number of bytes, with K, M, G or T a multiple in binary units.\n"
	  "It is an error if the object exists. With --hold NAME is printed when it is there.\n",
	  OPTION_BIT(OPTION_MODE) | OPTION_BIT(OPTION_TEMPORARY) | OPTION_BIT(OPTION_RESERVE) |
		  OPTION_BIT(OPTION_HOLD),
	  0, 2, 2, command_create },
	{ "cat", "NAME", "write an object's content to standard output", "", 0, 0, 1, 1,
	  command_cat },
	{ "write", "NAME", "fill an object from standard input",
	  "Without --create the object must exist. With --create it appears when all is in it, "
	  "and\n"
	  "must not exist. With --replace readers see the old or the new content, never a mix;\n"
	  "both together make it in any case.\n",
	  OPTION_BIT(OPTION_CREATE) | OPTION_BIT(OPTION_REPLACE), 0, 1, 1, command_write },
	{ "rm", "NAME...", "remove names", "", 0, 0, 1, -1, command_rm },
	{ "wait", "NAME", "wait until an object is there",
	  "Without --timeout for as long as it takes. When the time is over it fails.\n",
	  OPTION_BIT(OPTION_TIMEOUT), 0, 1, 1, command_wait },
	{ "run", "-- COMMAND [ARG...]", "run a command in a context of its own",
	  "COMMAND gets SHMBROKER_SOCKET, and the context's directory for each @context@ in its\n"
	  "arguments. The context ends with it, and shmctl with its exit status.\n"
	  "With --preload it gets LD_PRELOAD, too, and the library's path for each @preload@.\n"
	  "With --shm the app's private pool is its /dev/shm, and the context ends with the last\n"
	  "process that COMMAND has left.\n",
	  OPTION_BIT(OPTION_APP) | OPTION_BIT(OPTION_PRELOAD) | OPTION_BIT(OPTION_SHM),
	  OPTION_BIT(OPTION_APP), 1, -1, command_run },
	{ "context", "", "make a context, print its directory and hold it",
	  "It is held until SIGINT, SIGTERM or SIGHUP.\n",
	  OPTION_BIT(OPTION_APP) | OPTION_BIT(OPTION_STDIN), OPTION_BIT(OPTION_APP), 0, 0,
	  command_context },
	{ "drop", "POOL", "remove all objects of a private pool",
	  "Of each user's, app's or unit's, where it is per these. One that was delegated or lent "
	  "is\n"
	  "made anew. For the administrator.\n",
	  0, 0, 1, 1, command_drop },
	{ "explain", "NAME [RIGHTS]", "say which rule decides, and why",
	  "RIGHTS are read, write, create, unlink, list, with commas, or all; without them the\n"
	  "verdict is whether anything is allowed. Others than oneself, and the rules passed "
	  "over,\n"
	  "are for the administrator. --as, --app and --unit go together.\n",
	  OPTION_BIT(OPTION_AS) | OPTION_BIT(OPTION_APP) | OPTION_BIT(OPTION_UNIT) |
		  OPTION_BIT(OPTION_PID),
	  0, 1, 2, command_explain },
	{ "check-config", "[DIR|FILE]", "read the configuration as the broker would",
	  "DIR has a shmbroker.conf, a shmbroker.conf.d or both, or is a shmbroker.conf.d.\n"
	  "Without one the broker's directories are read, with --user the user broker's.\n",
	  OPTION_BIT(OPTION_CAT), 0, 0, 1, command_check_config },
	{ "status", "", "tell of the broker", "", 0, 0, 0, 0, command_status },
	{ "monitor", "[PATTERN]", "tell what happens: objects made and removed, requests denied",
	  "It goes on until it is ended. Objects are told of whose names you may list, denials to "
	  "the\nadministrator alone. With --json one object a line.\n",
	  0, 0, 0, 1, command_monitor },
	{ "reload", "", "let the broker read its configuration again", "", 0, 0, 0, 0,
	  command_reload },
};
#define COMMAND_COUNT (sizeof(commands) / sizeof(*commands))

static void help_option(enum shmctl_option option)
{
	const struct option_row *row = &options[option];
	char text[64];

	snprintf(text, sizeof(text), "--%s%s%s", row->name, row->value ? "=" : "",
		 row->value ? row->value : "");
	printf("  %-16s %s\n", text, row->what);
}

/* " --app=ID" */
static void needed_options(char *text, size_t size, const struct shmctl_command *command)
{
	size_t used = 0;

	*text = '\0';
	for (int i = 0; i < OPTION_COUNT; i++)
		if (command->needed & OPTION_BIT(i) && used < size)
			used += (size_t)snprintf(text + used, size - used, " --%s=%s",
						 options[i].name, options[i].value);
}

static int help_command(const struct shmctl_command *command)
{
	char needed[64];

	needed_options(needed, sizeof(needed), command);
	printf("usage: shmctl %s%s", command->name, needed);
	printf("%s%s%s\n\nshmctl %s: %s.\n%s",
	       command->options & ~command->needed & ~OPTION_BIT(OPTION_LONG) ? " [OPTION...]" : "",
	       *command->arguments ? " " : "", command->arguments, command->name, command->what,
	       command->help);
	if (command->options)
		putchar('\n');
	for (int i = 0; i < OPTION_COUNT; i++)
		if (command->options & OPTION_BIT(i))
			help_option(i);
	puts("\nThe options of all commands are in shmctl --help.");
	return shmctl_flush(SHMCTL_DONE);
}

static int help_all(void)
{
	puts("usage: shmctl [OPTION...] COMMAND [ARG...]\n\n"
	     "Named shared memory objects, through the broker.\n");
	for (size_t i = 0; i < COMMAND_COUNT; i++) {
		char text[128], needed[64];

		needed_options(needed, sizeof(needed), &commands[i]);
		snprintf(text, sizeof(text), "%s%s %s", commands[i].name, needed,
			 commands[i].arguments);
		printf("  %-33s %s\n", text, commands[i].what);
	}
	putchar('\n');
	for (int i = 0; i < OPTION_LONG; i++)
		help_option(i);
	puts("\nExit status: 0 done, 1 refused or failed, 2 wrong usage. See shmctl(1).");
	return shmctl_flush(SHMCTL_DONE);
}

static const struct shmctl_command *find_command(const char *name)
{
	for (size_t i = 0; i < COMMAND_COUNT; i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

/* All options are known wherever they stand; whether the command has them is asked later. */
static int parse_options(struct shmctl *ctl, int argc, char **argv)
{
	struct option table[OPTION_COUNT + 1] = { 0 };
	int found, index;

	for (int i = 0; i < OPTION_COUNT; i++)
		table[i] = (struct option){ .name = options[i].name,
					    .has_arg = options[i].value ? required_argument
									: no_argument };
	opterr = 0;
	while ((found = getopt_long(argc, argv, ":l", table, &index)) >= 0) {
		if (found == ':')
			return shmctl_usage("%s needs a value", argv[optind - 1]);
		if (found == '?' && optopt)
			return shmctl_usage("there is no option -%c", optopt);
		if (found == '?')
			return shmctl_usage("%s is no option, or takes no value", argv[optind - 1]);
		if (found == 'l')
			index = OPTION_LONG;
		ctl->given |= OPTION_BIT(index);
		ctl->value[index] = optarg;
	}
	ctl->count = argc - optind;
	ctl->argument = argv + optind;
	return SHMCTL_DONE;
}

/* What the command's table says of its options and arguments. */
static int check_usage(const struct shmctl *ctl)
{
	const struct shmctl_command *command = ctl->command;
	uint32_t wrong = ctl->given & ~(command->options | GLOBAL_OPTIONS);
	uint32_t missing = command->needed & ~ctl->given;

	for (int i = 0; i < OPTION_COUNT; i++) {
		if (wrong & OPTION_BIT(i))
			return shmctl_usage("%s has no option --%s", command->name,
					    options[i].name);
		if (missing & OPTION_BIT(i))
			return shmctl_usage("%s needs --%s=%s", command->name, options[i].name,
					    options[i].value);
	}
	if (ctl->count > 0 && command->most == 0)
		return shmctl_usage("%s takes no argument", command->name);
	if (ctl->count < command->least || (command->most >= 0 && ctl->count > command->most))
		return shmctl_usage("%s takes %s%s", command->name, command->arguments,
				    ctl->count < command->least ? "" : ", and no more");
	return SHMCTL_DONE;
}

static int run(struct shmctl *ctl)
{
	int status;

	if (shmctl_has(ctl, OPTION_VERSION)) {
		puts("shmctl " PACKAGE_VERSION);
		return shmctl_flush(SHMCTL_DONE);
	}
	if (ctl->count == 0)
		return shmctl_has(ctl, OPTION_HELP) ? help_all()
						    : shmctl_usage("a command is needed");
	ctl->command = find_command(ctl->argument[0]);
	if (!ctl->command)
		return shmctl_usage("there is no command %s", ctl->argument[0]);
	if (shmctl_has(ctl, OPTION_HELP))
		return help_command(ctl->command);
	ctl->argument++;
	ctl->count--;
	status = check_usage(ctl);
	return status == SHMCTL_DONE ? ctl->command->run(ctl) : status;
}

int shmctl_connect(struct shmctl *ctl)
{
	_cleanup_free_ char *user_path = NULL;
	const char *path = ctl->value[OPTION_SOCKET];
	int r;

	if (!path && shmctl_has(ctl, OPTION_USER)) {
		const char *runtime = getenv("XDG_RUNTIME_DIR");

		if (!runtime || *runtime != '/') {
			shmctl_fail("--user needs XDG_RUNTIME_DIR, or --socket");
			return -EINVAL;
		}
		path = user_path = shmctl_format("%s/shmbroker/socket", runtime);
	}
	r = shmb_connect(&ctl->c, path);
	if (r < 0)
		shmctl_fail("%s", *shmb_reason(NULL) ? shmb_reason(NULL) : strerror(-r));
	return r;
}

int main(int argc, char **argv)
{
	struct shmctl ctl = { 0 };
	int status, r = fd_fill_standard();

	if (r < 0)
		return shmctl_fail("no descriptors: %s", strerror(-r));
	/* Inherited as ignored, it would hide the end of a child; a reader that left ends us. */
	signal(SIGCHLD, SIG_DFL);
	status = parse_options(&ctl, argc, argv);
	if (status == SHMCTL_DONE)
		status = run(&ctl);
	shmb_disconnect(ctl.c);
	return status;
}
