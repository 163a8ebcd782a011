/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What `make install` puts in place, seen as somebody who writes programs sees it: the library
 * and its symbols, pkg-config, the header, the examples. TEST_BUILDDIR is the built tree.
 */
#include <ctype.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/fixture.h"
#include "tests/test.h"

/* A sanitized library needs programs that are so too. */
#define SANITIZE (IS_SANITIZED ? "-fsanitize=address,undefined" : "")

#define VERSION_NODE "LIBSHMBROKER_0"
#define NAMES_MAX 64

/* Made once for the suite. Not on /dev/shm, which containers mount noexec. */
static char root[64];	    /* DESTDIR */
static char pc_file[512];   /* libshmbroker.pc below it */
static char libdir[512];    /* with root before it */
static char no_tree[16384]; /* why there is none, with make's own words; "" when there is */

#define NEEDS_TREE                                                                                 \
	do {                                                                                       \
		TEST_NEEDS(getenv("TEST_BUILDDIR"), "TEST_BUILDDIR doesn't name a built tree");    \
		ck_assert_msg(!no_tree[0], "%s", no_tree);                                         \
	} while (0)

/* Runs a command of the shell's, its output and errors into ret; returns its exit status. */
__attribute__((format(printf, 3, 4))) static int run(char *ret, size_t ret_size, const char *format,
						     ...)
{
	char command[4096];
	va_list arguments;
	size_t used;
	FILE *pipe;
	int status;

	va_start(arguments, format);
	ck_assert_int_lt(vsnprintf(command, sizeof(command), format, arguments), sizeof(command));
	va_end(arguments);
	fflush(NULL);
	pipe = popen(command, "re");
	ck_assert_ptr_nonnull(pipe);
	used = fread(ret, 1, ret_size - 1, pipe);
	ret[used] = '\0';
	while (fgetc(pipe) != EOF)
		;
	status = pclose(pipe);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int find_pc_file(const char *path, const struct stat *status, int kind, struct FTW *ftw)
{
	(void)status;
	if (kind == FTW_F && strcmp(path + ftw->base, "libshmbroker.pc") == 0)
		snprintf(pc_file, sizeof(pc_file), "%s", path);
	return 0;
}

static const char *compiler(void)
{
	const char *cc = getenv("TEST_CC");

	return cc && *cc ? cc : "cc";
}

/* pkg-config reading the installed tree as if it were the machine's own. */
static const char *pkg_config(void)
{
	static char command[2048];

	snprintf(command, sizeof(command),
		 "PKG_CONFIG_SYSROOT_DIR=%s PKG_CONFIG_LIBDIR=%.*s pkg-config", root,
		 (int)(strrchr(pc_file, '/') - pc_file), pc_file);
	return command;
}

static void find_libdir(void)
{
	char text[256];

	/* The variable is the path without the sysroot in some versions, and with it in others. */
	if (run(text, sizeof(text), "%s --variable=libdir libshmbroker 2>&1", pkg_config()) != 0) {
		snprintf(no_tree, sizeof(no_tree), "pkg-config: %s", text);
		return;
	}
	text[strcspn(text, "\n")] = '\0';
	snprintf(libdir, sizeof(libdir), "%s%s", strncmp(text, root, strlen(root)) == 0 ? "" : root,
		 text);
}

static void install(void)
{
	const char *build = getenv("TEST_BUILDDIR"), *temporary = getenv("TMPDIR");

	if (!build)
		return;
	snprintf(root, sizeof(root), "%s/shmbroker-test.XXXXXX",
		 temporary && strlen(temporary) < 32 ? temporary : "/tmp");
	ck_assert_ptr_nonnull(mkdtemp(root));
	/* `make check` has a make above us, whose jobs and flags aren't ours. */
	if (run(no_tree, sizeof(no_tree),
		"unset MAKEFLAGS MFLAGS MAKELEVEL; make -s -C '%s' install DESTDIR=%s 2>&1", build,
		root) != 0)
		return;
	no_tree[0] = '\0';
	nftw(root, find_pc_file, 16, FTW_PHYS);
	if (pc_file[0])
		find_libdir();
	else
		snprintf(no_tree, sizeof(no_tree), "libshmbroker.pc was not installed");
}

static void uninstall(void)
{
	char text[1024];

	if (root[0])
		run(text, sizeof(text), "rm -rf %s", root);
}

/* --- what the library needs and exports --- */

static const char *const libraries[] = { "libshmbroker.so", "libshmbroker-preload.so" };

START_TEST(library_needs_libc_alone)
{
	const char *library = libraries[_i];
	char text[4096], *line, *rest = text;
	int others = 0;

	NEEDS_TREE;
	ck_assert_int_eq(run(text, sizeof(text),
			     "readelf -d %s/%s | sed -n '/(NEEDED)/s/.*\\[\\(.*\\)\\]/\\1/p'",
			     libdir, library),
			 0);
	ck_assert_ptr_nonnull(strstr(text, "libc.so."));
	while ((line = strsep(&rest, "\n"))) {
		/* The loader is libc's own half: a thread's variable is found through it. */
		if (!*line || strncmp(line, "libc.so.", 8) == 0 || strncmp(line, "ld-", 3) == 0)
			continue;
		if (IS_SANITIZED && (strstr(line, "san.so.") || strstr(line, "libgcc_s.so.")))
			continue;
		fprintf(stderr, "%s needs %s\n", library, line);
		others++;
	}
	ck_assert_int_eq(others, 0);
}
END_TEST

struct names {
	char *name[NAMES_MAX];
	size_t count;
};

static void names_add(struct names *names, const char *name, size_t size)
{
	ck_assert_uint_lt(names->count, NAMES_MAX);
	names->name[names->count] = strndup(name, size);
	ck_assert_ptr_nonnull(names->name[names->count++]);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void names_done(struct names *names)
{
	while (names->count > 0)
		free(names->name[--names->count]);
}

static size_t identifier_size(const char *text)
{
	size_t size = 0;

	while (isalnum((unsigned char)text[size]) || text[size] == '_')
		size++;
	return size;
}

/* The end of a list of parameters that begins at `(`. */
static const char *past_parameters(const char *at)
{
	int depth = 0;

	for (; *at; at++) {
		depth += (*at == '(') - (*at == ')');
		if (depth == 0)
			return at + 1;
	}
	return at;
}

/* Functions that are declared and not defined in preprocessed C. */
static void names_of_header(struct names *ret, const char *text)
{
	for (const char *at = text; *at;) {
		size_t size = identifier_size(at);

		if (size > 5 && strncmp(at, "shmb_", 5) == 0 && at[size] == '(') {
			const char *after = past_parameters(at + size);

			if (*after == ';')
				names_add(ret, at, size);
			at = after;
		} else {
			at += size ? size : 1;
		}
	}
}

/* What stands between `global:` and `local:` in the linker's script. */
static void names_of_map(struct names *ret, const char *text)
{
	const char *end = strstr(text, "local:");

	ck_assert_ptr_nonnull(end);
	for (const char *at = strstr(text, "global:") + strlen("global:"); at < end;) {
		size_t size = identifier_size(at);

		if (size > 0)
			names_add(ret, at, size);
		at += size ? size : 1;
	}
}

/* Lines of `NAME@@VERSION`; anything else is no public name of ours. */
static void names_of_library(struct names *ret, char *text)
{
	char *line;

	while ((line = strsep(&text, "\n"))) {
		size_t size = identifier_size(line);

		if (!*line)
			continue;
		ck_assert_str_eq(line + size, "@@" VERSION_NODE);
		names_add(ret, line, size);
	}
}

static void assert_same_names(const char *what, struct names *a, struct names *b)
{
	qsort(a->name, a->count, sizeof(*a->name), by_name);
	qsort(b->name, b->count, sizeof(*b->name), by_name);
	for (size_t i = 0; i < a->count && i < b->count; i++)
		ck_assert_msg(strcmp(a->name[i], b->name[i]) == 0, "%s: %s against %s", what,
			      a->name[i], b->name[i]);
	ck_assert_uint_eq(a->count, b->count);
}

START_TEST(library_exports_what_the_header_declares)
{
	static struct names header, map, library;
	static char text[1 << 18];

	NEEDS_TREE;
	ck_assert_int_eq(
		run(text, sizeof(text),
		    "echo '#include <shmbroker.h>' | %s -E -P $(%s --cflags libshmbroker) -x c -",
		    compiler(), pkg_config()),
		0);
	names_of_header(&header, text);
	ck_assert_uint_gt(header.count, 0);
	ck_assert_int_eq(run(text, sizeof(text),
			     "sed 's,/\\*.*\\*/,,' '%s/../client/libshmbroker.map'",
			     getenv("TEST_SRCDIR")),
			 0);
	ck_assert_ptr_nonnull(strstr(text, VERSION_NODE " {"));
	names_of_map(&map, text);
	ck_assert_int_eq(run(text, sizeof(text),
			     "nm -D --defined-only --with-symbol-versions %s/libshmbroker.so | "
			     "awk '$2 != \"A\" { print $3 }'",
			     libdir),
			 0);
	names_of_library(&library, text);
	assert_same_names("header and map", &header, &map);
	assert_same_names("header and library", &header, &library);
	names_done(&header);
	names_done(&map);
	names_done(&library);
}
END_TEST

/* Where a program has a function of the same name the linker takes that one. */
START_TEST(static_library_has_no_name_without_the_prefix)
{
	char text[4096];

	NEEDS_TREE;
	ck_assert_int_eq(run(text, sizeof(text),
			     "nm -g --defined-only %s/libshmbroker.a | "
			     "awk 'NF == 3 { count++ } NF == 3 && $3 !~ /^(shmb_|__)/ { print $3 } "
			     "END { exit count < 20 }'",
			     libdir),
			 0);
	ck_assert_str_eq(text, "");
}
END_TEST

/* Without versions, so that they stand for whichever a program asks for. */
START_TEST(preload_library_exports_two_symbols)
{
	char text[4096];

	NEEDS_TREE;
	ck_assert_int_eq(run(text, sizeof(text),
			     "nm -D --defined-only --with-symbol-versions "
			     "%s/libshmbroker-preload.so | awk '{ print $2, $3 }' | sort",
			     libdir),
			 0);
	ck_assert_str_eq(text, "T shm_open\nT shm_unlink\n");
	ck_assert_int_eq(run(text, sizeof(text), "cd %s && echo libshmbroker-preload.so*", libdir),
			 0);
	ck_assert_str_eq(text, "libshmbroker-preload.so\n");
}
END_TEST

/* --- the version, whose home is configure.ac --- */

START_TEST(version_is_the_same_everywhere)
{
	char text[1024], expected[64];

	NEEDS_TREE;
	snprintf(expected, sizeof(expected), "%d.%d.", SHMB_VERSION_MAJOR, SHMB_VERSION_MINOR);
	ck_assert_msg(strncmp(PACKAGE_VERSION, expected, strlen(expected)) == 0,
		      "configure.ac says %s, client/shmbroker.h %s*", PACKAGE_VERSION, expected);
	ck_assert_int_eq(run(text, sizeof(text), "%s --modversion libshmbroker", pkg_config()), 0);
	ck_assert_str_eq(text, PACKAGE_VERSION "\n");
	ck_assert_int_eq(
		run(text, sizeof(text), "'%s/shmbrokerd' --version", getenv("TEST_BUILDDIR")), 0);
	ck_assert_str_eq(text, "shmbrokerd " PACKAGE_VERSION "\n");
}
END_TEST

/* --- programs built against it --- */

static const struct {
	const char *compile; /* after the compiler's name */
	bool is_cplusplus;
} languages[] = {
	{ "-std=c11 -x c", false },    { "-std=gnu11 -x c", false },
	{ "-std=c17 -x c", false },    { "-std=c++11 -x c++", true },
	{ "-std=c++17 -x c++", true }, { "-std=gnu++20 -x c++", true },
};

START_TEST(header_stands_alone)
{
	const char *compile = languages[_i].compile;
	char text[8192];

	NEEDS_TREE;
	TEST_NEEDS(!languages[_i].is_cplusplus || run(text, sizeof(text), "command -v c++") == 0,
		   "no compiler for C++");
	ck_assert_msg(run(text, sizeof(text),
			  "echo '#include <shmbroker.h>' | %s %s -Wall -Wextra -Wshadow -pedantic "
			  "-Werror -fsyntax-only $(%s --cflags libshmbroker) - 2>&1",
			  languages[_i].is_cplusplus ? "c++" : compiler(), compile,
			  pkg_config()) == 0,
		      "%s: %s", compile, text);
}
END_TEST

START_TEST(a_program_in_cplusplus_is_built_against_it)
{
	char text[8192];

	NEEDS_TREE;
	TEST_NEEDS(run(text, sizeof(text), "command -v c++") == 0, "no compiler for C++");
	ck_assert_msg(
		run(text, sizeof(text),
		    "printf '%%s\n' '#include <shmbroker.h>' '#include <cstdio>' 'int main() {' "
		    "'	shmb_how how = {};' '	shmb *c = nullptr;' "
		    "'	how.oflag = O_RDWR | O_CREAT; how.flags = SHMB_UNPUBLISHED | SHMB_SEALED;' "
		    "'	if (shmb_connect(&c, \"/none\") == 0)' "
		    "'		return shmb_open_how(c, \"/x\", &how, sizeof(how));' "
		    "'	if (shmb_map(-1, PROT_READ, nullptr) != MAP_FAILED || *shmb_reason(c) == "
		    "0)' "
		    "'		return 2;' '	std::puts(shmb_version());' '}' >%s/x.cc && "
		    "c++ -std=c++11 -Wall -Wextra -Wshadow -Werror %s -o %s/x %s/x.cc "
		    "$(%s --cflags --libs libshmbroker) 2>&1 && LD_LIBRARY_PATH=%s %s/x",
		    root, SANITIZE, root, root, pkg_config(), libdir, root) == 0,
		"%s", text);
	ck_assert_int_eq(strncmp(text, PACKAGE_VERSION, strlen(text) - 1), 0);
}
END_TEST

/* %s: pkg-config, which is asked for what the way of linking needs. */
static const struct {
	const char *name, *link;
	bool is_unsanitized; /* a sanitizer's runtime can't be linked so */
} ways[] = {
	{ "shared", "$(%s --cflags --libs libshmbroker)", false },
	{ "archive", "-Wl,-Bstatic $(%s --static --cflags --libs libshmbroker) -Wl,-Bdynamic",
	  false },
	{ "static", "-static $(%s --static --cflags --libs libshmbroker)", true },
};

static void build_example(const char *example, int way)
{
	char text[8192], link[2048];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(link, sizeof(link), ways[way].link, pkg_config());
#pragma GCC diagnostic pop
	ck_assert_msg(
		run(text, sizeof(text),
		    "%s -std=gnu11 -Wall -Wextra -Werror %s '%s/../examples/%s.c' -o %s/%s %s 2>&1",
		    compiler(), SANITIZE, getenv("TEST_SRCDIR"), example, root, example, link) == 0,
		"%s, %s: %s", example, ways[way].name, text);
}

START_TEST(hello_is_built_by_pkg_config_and_greets)
{
	static const struct fixture_how how = {
		.config = "pools: { host: { path = \"@host@\" access = \"caller\" } }\n"
			  "rules: ( { name = \"all\" names = \"/*\" allow = \"all\" pool = "
			  "\"host\" } )\n",
	};
	struct fixture fixture;
	char text[8192];

	NEEDS_TREE;
	/* Its two others are what is tested of the archive there. */
	if (IS_SANITIZED && ways[_i].is_unsanitized)
		return;
	build_example("hello", _i);
	fixture_start(&fixture, &how);
	ck_assert_int_eq(run(text, sizeof(text), "LD_LIBRARY_PATH=%s %s/hello 2>&1", libdir, root),
			 0);
	ck_assert_str_eq(text, "Hello, world!\n");
	/* It has tidied up. */
	ck_assert_int_eq(run(text, sizeof(text), "ls -A '%s'", fixture.host), 0);
	ck_assert_str_eq(text, "");
	fixture_stop(&fixture);
	ck_assert_int_eq(run(text, sizeof(text), "LD_LIBRARY_PATH=%s %s/hello 2>&1", libdir, root),
			 1);
	ck_assert_ptr_nonnull(strstr(text, "shmb_shm_open: Connection refused"));
}
END_TEST

START_TEST(other_examples_build_without_a_warning)
{
	NEEDS_TREE;
	build_example(_i == 0 ? "producer" : "viewer", 0);
}
END_TEST

Suite *suite_install(void)
{
	Suite *suite = suite_create("install");
	TCase *test = tcase_create("install");

	tcase_set_timeout(test, 120);
	tcase_add_unchecked_fixture(test, install, uninstall);
	tcase_add_checked_fixture(test, test_fds_setup, test_fds_teardown);
	tcase_add_loop_test(test, library_needs_libc_alone, 0,
			    sizeof(libraries) / sizeof(*libraries));
	tcase_add_test(test, library_exports_what_the_header_declares);
	tcase_add_test(test, static_library_has_no_name_without_the_prefix);
	tcase_add_test(test, preload_library_exports_two_symbols);
	tcase_add_test(test, version_is_the_same_everywhere);
	tcase_add_loop_test(test, header_stands_alone, 0, sizeof(languages) / sizeof(*languages));
	tcase_add_test(test, a_program_in_cplusplus_is_built_against_it);
	tcase_add_loop_test(test, hello_is_built_by_pkg_config_and_greets, 0,
			    sizeof(ways) / sizeof(*ways));
	tcase_add_loop_test(test, other_examples_build_without_a_warning, 0, 2);
	suite_add_tcase(suite, test);
	return suite;
}
