/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Measures ways to open shared memory side by side: one batch of each, again and again, so that
 * what else the machine does meets all of them alike. Run by scripts/bench:
 *
 *     bench/run [-1] [-m] [-g GROUP] [-r ROUNDS] [-b CALLS] [-u USER,USER] [-s PID,PID...]
 *         [-j FILE] <ROWS
 *
 * A row is a line of words with tabs between them:
 *
 *     LABEL  BASE  BASE-IN-TURN  OPERATIONS  CALLERS  COUNT  COMMAND...
 *
 * BASE is the label of the row that it is compared with. OPERATIONS are some of "r" (open
 * read-only), "w" (read-write), "c" (create and unlink), "d" (denied). CALLERS is "1", "turn" for
 * two in turn, who are the two users, or "both". COUNT: of what the base has one, 0 where that says
 * nothing; then what each of them adds is told. COMMAND is bench/caller with its arguments.
 *
 * Callers and the servers whose PIDs are given are pinned to one processor, and then, where there
 * are two and without -1, to one each. A table goes to standard output, and an object a line for
 * machines to FILE. Ratios are those of medians, with -m of means.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/bench.h"

#define ROWS_MAX 64
#define WORDS_MAX 24
#define PIDS_MAX 512
#define UNMEASURED 5
#define FIXED_WORDS 6

enum placement { ONE_CORE, TWO_CORES, PLACEMENTS };

static const char *const operation_texts[OPERATIONS] = { "open read-only", "open read-write",
							 "create with size, unlink", "denied" };
static const char operation_letters[OPERATIONS + 1] = "rwcd";

struct caller {
	pid_t pid;
	int to, from;
};

/* What was measured of one row in one situation. */
struct cell {
	uint32_t *sample; /* of all rounds */
	double *round;	  /* the median of each, or the mean */
	size_t count;
	double median_us, mean_us, p99_us;
};

struct row {
	char *label, *base[2], *operations;
	bool is_alone, is_in_turn;
	int callers, count; /* how many there are of them; of what it has */
	struct caller caller[2];
	struct cell cell[PLACEMENTS][2][OPERATIONS];
};

static struct row rows[ROWS_MAX];
static size_t row_count;
static pid_t servers[PIDS_MAX];
static size_t server_count;
static const char *users[2];
static const char *group = "";
static bool one_core, by_mean;
static int rounds = 100, calls = 50;
static int cpus[2], cpu_count;
static FILE *json;

static void die(const char *what)
{
	fprintf(stderr, "bench/run: %s: %s\n", what, errno ? strerror(errno) : "can't be");
	exit(1);
}

/* --- rows and their callers --- */

static void start_caller(struct caller *caller, char **command, size_t words, const char *user,
			 int turn_in, int turn_out)
{
	char in[16], out[16];
	char *arguments[WORDS_MAX + 4];
	int to[2], from[2];
	uint32_t ready;

	if (pipe(to) < 0 || pipe(from) < 0)
		die("pipe");
	caller->pid = fork();
	if (caller->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		snprintf(in, sizeof(in), "%d", turn_in);
		snprintf(out, sizeof(out), "%d", turn_out);
		memcpy(arguments, command, words * sizeof(*command));
		arguments[words] = (char *)(user ? user : "-");
		arguments[words + 1] = in;
		arguments[words + 2] = out;
		arguments[words + 3] = NULL;
		dup2(to[0], STDIN_FILENO);
		dup2(from[1], STDOUT_FILENO);
		/* Only the turn's two ends stay open beside them. */
		for (int fd = 3; fd < 1024; fd++)
			if (fd != turn_in && fd != turn_out)
				close(fd);
		execvp(arguments[0], arguments);
		die(arguments[0]);
	}
	close(to[0]);
	close(from[1]);
	caller->to = to[1];
	caller->from = from[0];
	errno = 0;
	if (caller->pid < 0 || read(caller->from, &ready, sizeof(ready)) != sizeof(ready))
		die(command[0]);
}

static void add_row(char *line)
{
	struct row *row = &rows[row_count++];
	char *word[WORDS_MAX], *rest = line, *next;
	int there[2] = { -1, -1 }, back[2] = { -1, -1 };
	size_t words = 0;

	while ((next = strsep(&rest, "\t\n")))
		if (*next && words < WORDS_MAX)
			word[words++] = next;
	errno = 0;
	if (words <= FIXED_WORDS || row_count == ROWS_MAX)
		die("a row");
	row->label = word[0];
	row->base[0] = word[1];
	row->base[1] = word[2];
	row->operations = word[3];
	row->is_alone = strcmp(word[4], "turn") != 0;
	row->is_in_turn = users[1] && strcmp(word[4], "1") != 0;
	row->callers = row->is_in_turn ? 2 : 1;
	row->count = atoi(word[5]);
	if (row->callers == 2 && (pipe(there) < 0 || pipe(back) < 0))
		die("pipe");
	start_caller(&row->caller[0], word + FIXED_WORDS, words - FIXED_WORDS, users[0], back[0],
		     there[1]);
	if (row->callers == 2)
		start_caller(&row->caller[1], word + FIXED_WORDS, words - FIXED_WORDS, users[1],
			     there[0], back[1]);
	for (int i = 0; row->callers == 2 && i < 2; i++) {
		close(there[i]);
		close(back[i]);
	}
}

static void read_rows(void)
{
	char *line = NULL;
	size_t size = 0;

	while (getline(&line, &size, stdin) > 1) {
		add_row(line);
		line = NULL; /* the row's */
	}
}

static void end_callers(void)
{
	for (size_t i = 0; i < row_count; i++)
		for (int j = 0; j < rows[i].callers; j++) {
			close(rows[i].caller[j].to);
			close(rows[i].caller[j].from);
			waitpid(rows[i].caller[j].pid, NULL, 0);
		}
}

/* --- processors --- */

static void find_cpus(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		die("sched_getaffinity");
	for (int cpu = 0; cpu < CPU_SETSIZE && cpu_count < 2; cpu++)
		if (CPU_ISSET(cpu, &set))
			cpus[cpu_count++] = cpu;
}

static void pin(pid_t pid, int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	/* A helper of a server's may have ended meanwhile. */
	if (sched_setaffinity(pid, sizeof(set), &set) < 0 && errno != ESRCH)
		die("sched_setaffinity");
}

/* Whoever asks on the first, whoever answers on the first or on the second. */
static void place(enum placement placement)
{
	for (size_t i = 0; i < row_count; i++)
		for (int j = 0; j < rows[i].callers; j++)
			pin(rows[i].caller[j].pid, cpus[0]);
	for (size_t i = 0; i < server_count; i++)
		pin(servers[i], cpus[placement == TWO_CORES]);
}

/* --- measuring --- */

static int compare_samples(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void order(const struct caller *caller, const struct batch *batch)
{
	if (write(caller->to, batch, sizeof(*batch)) != sizeof(*batch))
		die("a caller");
}

static void collect(const struct caller *caller, uint32_t *ret, uint32_t count)
{
	size_t wanted = count * sizeof(*ret), got = 0;

	while (got < wanted) {
		ssize_t n = read(caller->from, (char *)ret + got, wanted - got);

		errno = 0;
		if (n <= 0)
			die("a caller has ended");
		got += (size_t)n;
	}
}

static double mean(const uint32_t *sample, size_t count)
{
	double sum = 0;

	for (size_t i = 0; i < count; i++)
		sum += sample[i];
	return sum / (double)count;
}

static void measure(struct row *row, int in_turn, enum operation operation, struct cell *cell,
		    int round)
{
	struct batch batch = { .operation = operation,
			       .unmeasured = UNMEASURED,
			       .calls = (uint32_t)calls };
	size_t callers = in_turn ? 2 : 1, count = callers * (size_t)calls;
	uint32_t *at;

	if (!cell->sample) {
		cell->sample = calloc((size_t)rounds * count, sizeof(*cell->sample));
		cell->round = calloc((size_t)rounds, sizeof(*cell->round));
		if (!cell->sample || !cell->round)
			die("samples");
	}
	at = cell->sample + cell->count;
	for (size_t i = 0; i < callers; i++) {
		batch.in_turn = in_turn ? (uint32_t)i + 1 : 0;
		order(&row->caller[i], &batch);
	}
	for (size_t i = 0; i < callers; i++)
		collect(&row->caller[i], at + i * (size_t)calls, (uint32_t)calls);
	qsort(at, count, sizeof(*at), compare_samples);
	cell->round[round] = by_mean ? mean(at, count) : at[count / 2];
	cell->count += count;
}

static bool has(const struct row *row, int in_turn, int operation)
{
	return strchr(row->operations, operation_letters[operation]) &&
	       (in_turn ? row->is_in_turn : row->is_alone);
}

static void measure_round(int round)
{
	enum placement last = !one_core && cpu_count > 1 ? TWO_CORES : ONE_CORE;

	for (int placement = ONE_CORE; placement <= (int)last; placement++) {
		place((enum placement)placement);
		for (int in_turn = 0; in_turn < 2; in_turn++)
			for (int operation = 0; operation < OPERATIONS; operation++)
				for (size_t i = 0; i < row_count; i++) {
					/* Who comes behind his neighbour comes before him
					 * in the next. */
					size_t at = round % 2 ? row_count - 1 - i : i;
					struct row *row = &rows[at];

					if (has(row, in_turn, operation))
						measure(row, in_turn, (enum operation)operation,
							&row->cell[placement][in_turn][operation],
							round);
				}
	}
}

/* --- what has come out --- */

static const struct cell *base_of(const struct row *row, int placement, int in_turn, int operation)
{
	for (size_t i = 0; i < row_count; i++) {
		const struct cell *cell = &rows[i].cell[placement][in_turn][operation];

		if (strcmp(rows[i].label, row->base[in_turn]) == 0 && cell->sample)
			return cell;
	}
	return NULL;
}

/* Each round's against the same round's: what the machine did then cancels out. */
static double ratio(const struct cell *cell, const struct cell *base)
{
	double *each = calloc((size_t)rounds, sizeof(*each)), middle;

	if (!each)
		die("ratios");
	for (int i = 0; i < rounds; i++)
		each[i] = cell->round[i] / base->round[i];
	qsort(each, (size_t)rounds, sizeof(*each), compare_doubles);
	middle = each[rounds / 2];
	free(each);
	return middle;
}

static void sum_up(struct cell *cell)
{
	if (!cell->sample)
		return;
	qsort(cell->sample, cell->count, sizeof(*cell->sample), compare_samples);
	cell->median_us = cell->sample[cell->count / 2] / 1e3;
	cell->mean_us = mean(cell->sample, cell->count) / 1e3;
	cell->p99_us = cell->sample[cell->count * 99 / 100] / 1e3;
}

static void report_row(const struct row *row, int placement, int in_turn, int operation)
{
	const struct cell *cell = &row->cell[placement][in_turn][operation],
			  *base = base_of(row, placement, in_turn, operation);
	double each_us = 0;

	printf("%-32s %10.2f %10.2f %10.2f ", row->label, cell->median_us, cell->mean_us,
	       cell->p99_us);
	if (base)
		printf("%8.3f  %s", ratio(cell, base), row->base[in_turn]);
	if (base && row->count > 1) {
		each_us = (cell->median_us - base->median_us) / (row->count - 1);
		printf("; %.4f us each", each_us);
	}
	putchar('\n');
	if (!json)
		return;
	fprintf(json,
		"{\"group\": \"%s\", \"row\": \"%s\", \"operation\": \"%s\", \"callers\": %d, "
		"\"cores\": %d, \"median_us\": %.3f, \"mean_us\": %.3f, \"p99_us\": %.3f",
		group, row->label, operation_texts[operation], in_turn + 1, placement + 1,
		cell->median_us, cell->mean_us, cell->p99_us);
	if (base)
		fprintf(json, ", \"base\": \"%s\", \"ratio\": %.4f, \"ratio_of_medians\": %.4f",
			row->base[in_turn], ratio(cell, base), cell->median_us / base->median_us);
	if (base && row->count > 1)
		fprintf(json, ", \"each_us\": %.5f", each_us);
	fprintf(json, "}\n");
}

static void report_situation(int placement, int in_turn, int operation)
{
	bool begun = false;

	for (size_t i = 0; i < row_count; i++) {
		if (!rows[i].cell[placement][in_turn][operation].sample)
			continue;
		if (!begun)
			printf("\n%s; %s; %s\n%-32s %10s %10s %10s %8s\n",
			       operation_texts[operation],
			       in_turn ? "two callers in turn" : "one caller",
			       placement == TWO_CORES ? "across two cores" : "on one core", "",
			       "median us", "mean us", "p99 us", by_mean ? "of means" : "ratio");
		begun = true;
		report_row(&rows[i], placement, in_turn, operation);
	}
}

static void report(void)
{
	for (int operation = 0; operation < OPERATIONS; operation++)
		for (int in_turn = 0; in_turn < 2; in_turn++)
			for (int placement = 0; placement < PLACEMENTS; placement++) {
				for (size_t i = 0; i < row_count; i++)
					sum_up(&rows[i].cell[placement][in_turn][operation]);
				report_situation(placement, in_turn, operation);
			}
}

static void read_pids(char *text)
{
	char *word;

	while ((word = strsep(&text, ",")) && server_count < PIDS_MAX)
		if (*word)
			servers[server_count++] = atoi(word);
}

int main(int argc, char **argv)
{
	int option;

	while ((option = getopt(argc, argv, "1mg:r:b:u:s:j:")) >= 0) {
		switch (option) {
		case '1':
			one_core = true;
			break;
		case 'm':
			by_mean = true;
			break;
		case 'g':
			group = optarg;
			break;
		case 'r':
			rounds = atoi(optarg);
			break;
		case 'b':
			calls = atoi(optarg);
			break;
		case 'u':
			users[0] = strsep(&optarg, ",");
			users[1] = optarg;
			break;
		case 's':
			read_pids(optarg);
			break;
		case 'j':
			json = fopen(optarg, "ae");
			if (!json)
				die(optarg);
			break;
		default:
			return 2;
		}
	}
	if (rounds < 1 || calls < 1 || calls > CALLS_MAX)
		return 2;
	find_cpus();
	read_rows();
	for (int round = 0; round < rounds; round++)
		measure_round(round);
	end_callers();
	report();
	if (json && fclose(json) == EOF)
		die("writing");
	return 0;
}
